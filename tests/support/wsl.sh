#!/bin/sh
# Stands in for wsl.exe. A distribution is a directory with an archive's files in it, and the machine's own programs; its
# processes have mount, process and network namespaces of their own, so that all of them end together. Needs root.
#
# Its state lies beside it, wherever it was copied to: d/<name>/dir (where it was imported to), d/<name>/init (its first
# process while it runs), and what a test puts there: `missing` and `novm` for what the computer lacks, `old` for a WSL
# that knows no WSL_UTF8.
#
# Sources, each behaviour with one: [C] microsoft/WSL src/windows/common/WslClient.cpp, [U] …/wslutil.cpp, [T] test/windows/
# UnitTests.cpp, [R] localization/strings/en-US/Resources.resw, [I] src/linux/init/init.cpp; [#n] an issue there;
# [D] learn.microsoft.com/windows/wsl/basic-commands.
here=$(dirname "$0")

# [C] Main: UTF-16 unless WSL_UTF8 is 1; [C] PrintMessage: to standard output, with Windows' ends of lines.
say() {
  if [ "$WSL_UTF8" = 1 ] && [ ! -e "$here/old" ]; then printf '%s\r\n' "$1"
  else printf '%s\r\n' "$1" | iconv -f UTF-8 -t UTF-16LE
  fi
}

# [C] WslMain: -1 is wsl.exe's own failure; [R] MessageErrorCode.
fail() {
  say "$1"
  [ -z "$2" ] || say "Error code: $2"
  exit 255
}

no_distribution() { fail 'There is no distribution with the supplied name.' Wsl/Service/WSL_E_DISTRO_NOT_FOUND; } # [T] 1526
success() { say 'The operation completed successfully.'; } # [C] PrintSystemError(ERROR_SUCCESS)

if [ -e "$here/missing" ]; then
  # [R] MessageWslOptionalComponentRequired; svccomm.cpp:160
  fail 'This application requires the Windows Subsystem for Linux Optional Component.
Install it by running: wsl.exe --install --no-distribution
The system may need to be restarted so the changes can take effect.' Wsl/WSL_E_WSL_OPTIONAL_COMPONENT_REQUIRED
fi

novm='WSL2 is unable to start since virtualization is not enabled on this machine.
Please ensure the "Virtual Machine Platform" optional component is enabled and virtualization is turned on in your computer'\''s firmware settings.

Enable "Virtual Machine Platform" by running: wsl.exe --install --no-distribution

For information please visit https://aka.ms/enablevirtualization' # [R] MessageEnableVirtualization

began() { IFS= read -r stat <"/proc/$1/stat" || return; set -- ${stat##*) }; echo "${20}"; }

# A number of a process that is gone may be another's.
running() { read -r init at 2>/dev/null <"$here/d/$1/init" && [ "$(began "$init" 2>/dev/null)" = "$at" ]; }

terminate() {
  if running "$1"; then
    # The first process of a process namespace takes all others with it.
    kill -s KILL "$init"
    while running "$1"; do :; done
  fi
  rm -f "$here/d/$1/init"
}

# What a distribution sees: its own files, this machine's programs, and /tmp, so that tests can share files with it.
BOOT='set -e
root=$1
mount --bind "$root" "$root"
cd "$root"
for dir in bin sbin lib lib32 lib64 libx32; do
  if [ -L "/$dir" ]; then [ -e "$dir" ] || cp -P "/$dir" "$dir"
  elif [ -d "/$dir" ]; then mkdir -p "$dir"; mount --bind -o ro "/$dir" "$dir"
  fi
done
mkdir -p usr local dev proc sys tmp run etc/alternatives
mount --rbind -o ro /usr usr
mount --bind local usr/local
for dir in etc/alternatives tmp; do mount --bind "/$dir" "$dir"; done
for dir in dev sys; do mount --rbind "/$dir" "$dir"; done
mount -t proc proc proc
mount -t tmpfs tmpfs run
ip link set lo up
# Not only the root of its processes: whoever enters the namespace of a container made in it begins at the root of its mounts.
mkdir -p .machine
pivot_root . .machine
# Said in its own root: who comes in before would see the files of this machine.
exec chroot . /bin/sh -c "umount -l /.machine; rmdir /.machine; echo booted >&3; exec 3>&-; while :; do sleep 1000 & wait; done"'

boot() {
  running "$1" && return
  (
    # One that starts it, whoever else wants it.
    flock 9
    running "$1" && exit
    # One that was ended in here leaves its own.
    rm -f "$here/d/$1/booted"
    mkfifo "$here/d/$1/booted"
    unshare --mount --propagation private --pid --net --fork /bin/sh -c "$BOOT" sh "$(cat "$here/d/$1/dir")/rootfs" \
      3>"$here/d/$1/booted" </dev/null >/dev/null 2>"$here/d/$1/log" 9>&- &
    read -r word <"$here/d/$1/booted"
    rm -f "$here/d/$1/booted"
    [ "$word" = booted ] || exit 1
    read -r init rest <"/proc/$!/task/$!/children"
    echo "$init $(began "$init")" >"$here/d/$1/new" && mv "$here/d/$1/new" "$here/d/$1/init"
  ) 9>"$here/lock" || fail "$(cat "$here/d/$1/log")" Wsl/Service/CreateInstance/E_FAIL
}

case $1 in
  --status) # [C] Status
    say 'Default Version: 2'
    [ ! -e "$here/novm" ] || say "$novm"
    ;;
  --list) # [C] ListDistributionsHelper: with --quiet, names and nothing else
    for dir in "$here"/d/*/; do
      name=$(basename "$dir")
      [ -e "$dir/dir" ] || continue
      [ "$3" != --running ] || running "$name" || continue
      say "$name"
    done
    ;;
  --import) # [C] ImportDistribution, [D]
    [ "$5 $6" = '--version 2' ] || fail 'only version 2' Wsl/E_INVALIDARG
    # [#12638]
    [ ! -e "$here/d/$2" ] || fail 'A distribution with the supplied name already exists.' Wsl/Service/RegisterDistro/ERROR_ALREADY_EXISTS
    # [#11384]
    [ ! -e "$here/novm" ] || fail "$novm" Wsl/Service/RegisterDistro/CreateVm/HCS/HCS_E_HYPERV_NOT_INSTALLED
    mkdir -p "$3/rootfs"
    # [T] 1277
    tar -xf "$4" -C "$3/rootfs" 2>/dev/null || fail 'Importing the distribution failed.' Wsl/Service/RegisterDistro/WSL_E_IMPORT_FAILED
    : >"$3/ext4.vhdx" # wslservice.idl: LXSS_VM_MODE_VHD_NAME
    mkdir -p "$here/d/$2"
    printf '%s' "$3" >"$here/d/$2/dir"
    success
    ;;
  --terminate) # [C] TerminateDistribution
    [ -e "$here/d/$2/dir" ] || no_distribution
    terminate "$2"
    success
    ;;
  --unregister) # [C] UnregisterDistribution, [D]: the files go with it
    [ -e "$here/d/$2/dir" ] || no_distribution
    terminate "$2"
    dir=$(cat "$here/d/$2/dir")
    rm -rf "$dir/rootfs" "$dir/ext4.vhdx" "$here/d/$2"
    success
    ;;
  --distribution) # [C] WslMain, exec mode: the rest are the words of a program and its arguments
    [ "$3 $4 $5 $6 $7" = '--user root --cd / --exec' ] || fail "not understood: $*" Wsl/E_INVALIDARG
    [ -e "$here/d/$2/dir" ] || no_distribution
    [ ! -e "$here/novm" ] || fail "$novm" Wsl/Service/CreateInstance/CreateVm/HCS/HCS_E_HYPERV_NOT_INSTALLED
    boot "$2"
    read -r init rest <"$here/d/$2/init"
    name=$2
    shift 7
    # [I] CreateProcess: a session of its own, so that it goes on when wsl.exe is ended [#2496]; of Windows' variables
    # those that WSLENV names, and WSL's own.
    exec nsenter --target "$init" --mount --pid --net --root --wd -- env -i HOME=/root USER=root TERM=xterm \
      PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin WSL_DISTRO_NAME="$name" WSL_INTEROP=/run/WSL/1_interop \
      ${WSLENV:+LEAKED="$WSLENV"} setsid -- "$@"
    ;;
  *) # [C]: not understood
    fail "Invalid command line option: $1" Wsl/E_INVALIDARG
    ;;
esac
