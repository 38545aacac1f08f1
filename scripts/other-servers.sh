#!/usr/bin/env bash
# The tests again, before newer servers than this machine's: PostgreSQL 17 with Redis 8, then with Valkey 8, as Debian 13 has them. As root on Debian. The
# programs are compiled here, and tested with that Debian for a root, which nothing else on the machine sees.
# Usage: scripts/other-servers.sh [what `cargo test` takes]
set -euo pipefail
cd "$(dirname "$0")/.."
readonly SUITE=trixie CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/roadstead
readonly ROOT=$CACHE/servers-$SUITE
readonly PACKAGES=ca-certificates,curl,gcc,git,iproute2,libc6-dev,make,postgresql-17,procps,python3,redis-server,valkey-server

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "other-servers: only root on Debian can make another Debian's root" >&2
  exit 1
fi
if ! command -v mmdebstrap >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
fi
if [ ! -e "$ROOT/.complete" ]; then
  echo "== Debian $SUITE"
  rm -rf "$ROOT"
  mkdir -p "$CACHE"
  mmdebstrap --quiet --variant=minbase --include=$PACKAGES --aptopt='APT::Install-Recommends "false"' $SUITE "$ROOT"
  touch "$ROOT/.complete"
fi
cargo build --workspace --all-targets --locked

# In a mount namespace of its own.
test_with() { # server arguments...
  local root=$1 server=$2 folder
  shift 2
  for folder in /proc /sys /dev "$HOME" "${CARGO_HOME:-$HOME/.cargo}" "${RUSTUP_HOME:-$HOME/.rustup}" "${CARGO_TARGET_DIR:-$PWD}" "$PWD"; do
    mkdir -p "$root$folder"
    mount --rbind "$folder" "$root$folder"
  done
  # Of two in one folder Redis is taken.
  [ "$server" = redis-server ] || mount --bind /dev/null "$root/usr/bin/redis-server"
  exec chroot "$root" env --chdir="$PWD" PATH="${CARGO_HOME:-$HOME/.cargo}/bin:/usr/bin:/usr/sbin" scripts/test.sh "$@"
}
export -f test_with

status=0
for server in redis-server valkey-server; do
  echo "== $(chroot "$ROOT" /usr/lib/postgresql/17/bin/postgres --version), $(chroot "$ROOT" $server --version)"
  unshare --mount bash -euo pipefail -c 'test_with "$@"' - "$ROOT" $server "$@" || status=1
done
exit $status
