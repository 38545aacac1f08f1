#!/usr/bin/env bash
# Whether a lab with a real node can run on this machine: exit status 0, or 1 with the reason in one line.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

no() { printf '%s\n' "$*"; exit 1; }

[ "$(id -u)" = 0 ] || no "a real node needs root"
command -v go >/dev/null || no "Go 1.24 or newer is missing: https://go.dev/dl"
command -v apt-get >/dev/null || command -v containerd >/dev/null || no "containerd is missing, and there is no apt-get"
# What kubelet, containerd and the network of pods are made of.
unshare --mount --net sh -c 'mount -t tmpfs tmpfs /mnt' 2>/dev/null || no "the kernel lets nobody here mount or make a network"
grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null || no "the kernel has no overlay file system"
[ -w /sys/fs/cgroup ] && { [ -e /sys/fs/cgroup/cgroup.controllers ] || [ -w /sys/fs/cgroup/memory ]; } || no "control groups can't be made"
cache=${XDG_CACHE_HOME:-$HOME/.cache}
mkdir -p "$cache" || no "$cache can't be made"
# What a first run leaves there; later ones take little more.
[ -e "$cache/roadstead/e2e/images" ] || [ "$(df --output=avail "$cache" | tail -n 1)" -gt $((12 * 1024 * 1024)) ] \
  || no "less than 12 GiB are free in $cache"
