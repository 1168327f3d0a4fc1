#!/bin/sh
# Makes an image of the VM it runs in: takes out who that VM was, what it logged and what others may not have, and leaves what is
# installed. $1 is the guest's user; the rest are the units of engines. The VM ends after it: nothing here works any more. What others
# may not have ends the script where it stays (`fail`); what only takes room does not. The test is in src/lima/bake.rs.
set -u
root=${LIMA_RUNTIME_ROOT-}
user=$1
shift
fail() { echo "$*" >&2; exit 1; }

# The first boot lays the disk of a VM's data, and enables its engine.
for unit; do
  systemctl disable --now "$unit" >/dev/null 2>&1 || :
  rm -f "$root/etc/systemd/system/$unit.d/05-lima-runtime-data.conf"
done
rm -f "$root/usr/local/lib/lima-runtime/data-disk"

# Keys, names and settings of this one VM; cloud-init, Lima and we make each anew.
rm -f "$root/etc/ssh/lima-runtime_host_key" "$root/etc/ssh/sshd_config.d/05-lima-runtime-hostkey.conf"
sed -i '\|^HostKey /etc/ssh/lima-runtime_host_key$|d' "$root/etc/ssh/sshd_config"
rm -f "$root"/etc/ssh/ssh_host_*_key "$root"/etc/ssh/ssh_host_*_key.pub
rm -rf "$root/root/.ssh" "$root/root/.docker" "$root/root/.bash_history"
rm -f "$root/etc/sudoers.d/90-cloud-init-users" "$root/etc/sudoers.d/90-lima-users"
rm -rf "$root/etc/containerd/certs.d" "$root/etc/docker" "$root/etc/buildkit/lima-runtime"
rm -f "$root/etc/systemd/system/buildkit.service.d/lima-runtime.conf" "$root/etc/netplan/50-cloud-init.yaml"
if [ -f "$root/etc/buildkit/buildkitd.toml" ]; then
  sed -i '/^# BEGIN lima-runtime$/,/^# END lima-runtime$/d' "$root/etc/buildkit/buildkitd.toml"
fi
rm -f "$root"/usr/local/share/ca-certificates/cloud-init-ca-cert-*.crt
if command -v update-ca-certificates >/dev/null; then
  update-ca-certificates --fresh >/dev/null 2>&1 || fail 'certificates of this VM may be left among the trusted ones'
fi
for file in environment hosts fstab; do
  [ -f "$root/etc/$file" ] || continue
  sed -e '/^# *LIMA-START/,/^# *LIMA-END/d' -e '/comment=cloudconfig/d' "$root/etc/$file" >"$root/etc/$file.new" || fail "/etc/$file cannot be read"
  # The bytes too: a proxy may have a password.
  shred -n 1 "$root/etc/$file" 2>/dev/null || :
  cat "$root/etc/$file.new" >"$root/etc/$file" || fail "/etc/$file cannot be written"
  rm -f "$root/etc/$file.new"
done
cloud-init clean --logs >/dev/null 2>&1 || fail 'cloud-init keeps what it knows of this VM'
# It writes one at its end.
systemctl stop systemd-random-seed.service >/dev/null 2>&1 || :
rm -f "$root/var/lib/systemd/random-seed" "$root"/var/lib/systemd/linger/* "$root/var/lib/dbus/machine-id"
: >"$root/etc/machine-id" || fail '/etc/machine-id cannot be written'

# What only takes room.
apt-get clean >/dev/null 2>&1 || :
# Its open files would take their room until the end.
journalctl --rotate --relinquish-var >/dev/null 2>&1 || :
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/log/journal/* "$root"/var/tmp/* "$root"/tmp/*
find "$root/var/log" -type f -exec truncate -s 0 {} + 2>/dev/null || :

# Last: it is who runs this. Its number is another one on another computer.
userdel -f -r "$user" >/dev/null 2>&1
if id "$user" >/dev/null 2>&1; then fail "the user $user cannot be removed"; fi
# What was there before, with the name of a person; and a link to the home of another Lima, in whose place no home can be made.
for file in passwd shadow group gshadow subuid subgid; do rm -f "$root/etc/$file-"; done
for home in "$root"/home/*; do
  if [ -L "$home" ] && [ ! -e "$home" ]; then rm -f "$home"; fi
done
sync
fstrim -a || :
exit 0
