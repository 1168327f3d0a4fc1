#!/bin/sh
# What engines keep lies on the VM's data disk. Each engine's unit runs this before it starts, and does not start where it
# fails: on the root's own directories an engine would seem to have lost everything. Runs any number of times; `now` waits for
# nothing. Exit 1: not yet. 3: a newer version's disk. 4: no boot of this VM will change it.
set -u
umask 022
label=$LIMA_RUNTIME_LABEL
root=${LIMA_RUNTIME_ROOT-}
device=/dev/disk/by-label/$label
at=$root/var/lib/lima-runtime
fail() { code=$1; shift; echo "$*" >&2; exit "$code"; }
# Lima's boot script, which formats and mounts a new disk, has ended.
ended() { [ -e "$root/run/lima-boot-done" ]; }
exec 9>"$root/run/lima-runtime-data.lock"
flock -w 60 9 || fail 1 'the data disk is being mounted for too long'

mount_disk() {
  tries=0
  until [ -b "$device" ]; do
    if ended; then fail 4 "no disk has the label $label"; fi
    if [ "$1" = now ] || [ "$tries" -ge 300 ]; then fail 1 "no disk has the label $label yet"; fi
    tries=$((tries + 1))
    sleep 0.1
  done
  # Where it is mounted already, by Lima, it has been checked or is new.
  if ! findmnt -rn -S "$(readlink -f "$device")" >/dev/null; then
    said=$(e2fsck -p "$device" 2>&1)
    # 8: somebody has just mounted it.
    case $? in 0 | 1 | 2 | 8) ;; *) fail 4 "the file system of the data disk is damaged: $said" ;; esac
  fi
  mkdir -p "$at"
  said=$(mount -t ext4 "$device" "$at" 2>&1) || fail 4 "the data disk cannot be mounted: $said"
}

# A directory of the disk, in the place where an engine looks for it.
place() {
  if [ "$2" -ef "$at/$1" ]; then return; fi
  if [ -L "$at/$1" ]; then fail 4 "$1 of the data disk is a link"; fi
  [ -d "$at/$1" ] || mkdir -m 711 "$at/$1" || fail 4 "the data disk takes no directory $1"
  mkdir -p "$2"
  said=$(mount --bind "$at/$1" "$2" 2>&1) || fail 4 "$1 of the data disk cannot be mounted: $said"
  [ "$2" -ef "$at/$1" ] || fail 4 "$2 is not on the data disk"
}

mountpoint -q "$at" || mount_disk "${1-}"
format=$(cat "$at/lima-runtime.format" 2>/dev/null) || format=
case $format in
  1) ;;
  '') echo 1 >"$at/lima-runtime.format.new" && mv -f "$at/lima-runtime.format.new" "$at/lima-runtime.format" ;;
  *) fail 3 "the data disk has the form $format, of a newer version" ;;
esac
place containerd "$root/var/lib/containerd"
place stargz "$root/var/lib/containerd-stargz-grpc"
place nerdctl "$root/var/lib/nerdctl"
place buildkit "$root/var/lib/buildkit"
place networks "$root/etc/cni/net.d"
place leases "$root/var/lib/cni"
place docker "$root/var/lib/docker"
