#!/bin/sh
# Makes an image of the VM it runs in: takes out who that VM was, what it logged and what others may not have, and leaves what is
# installed. $1 is the guest's user; the rest are the units of engines. The VM ends after it: nothing here works any more.
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
rm -rf "$root/etc/containerd/certs.d" "$root/etc/docker/certs.d"
rm -f "$root"/usr/local/share/ca-certificates/cloud-init-ca-cert-*.crt
update-ca-certificates --fresh >/dev/null 2>&1 || :
for file in environment hosts fstab; do
  [ -f "$root/etc/$file" ] || continue
  sed -i -e '/^# *LIMA-START/,/^# *LIMA-END/d' -e '/comment=cloudconfig/d' "$root/etc/$file" || fail "/etc/$file cannot be written"
done
cloud-init clean --logs >/dev/null 2>&1 || fail 'cloud-init keeps what it knows of this VM'
rm -f "$root/var/lib/systemd/random-seed" "$root"/var/lib/systemd/linger/* "$root/var/lib/dbus/machine-id"
: >"$root/etc/machine-id" || fail '/etc/machine-id cannot be written'

# What only takes room.
apt-get clean >/dev/null 2>&1 || :
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/log/journal/* "$root"/var/tmp/* "$root"/tmp/*
find "$root/var/log" -type f -exec truncate -s 0 {} + 2>/dev/null || :

# Last: it is who runs this. Its number is another one on another computer.
userdel -f -r "$user" >/dev/null 2>&1
if id "$user" >/dev/null 2>&1; then fail "the user $user cannot be removed"; fi
sync
fstrim -a || :
exit 0
