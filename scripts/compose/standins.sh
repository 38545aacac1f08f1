#!/usr/bin/env bash
# Local stand-ins for the images that docker-compose.yml and the Dockerfile name, for a Debian machine that reaches no image
# registry. They carry the exact tags and keep the part of the upstream images' contract that this stack uses; they are for
# checking the stack, never for running it in earnest, and are labelled so that `clean` removes nothing else.
#
#   standins.sh engine    a Docker engine with compose and buildx, installed and started if there is none (root)
#   standins.sh images    every image that is neither here nor can be pulled (STANDINS=1: without trying to pull)
#   standins.sh lab       the same, and what the chart and the examples name beside
#   standins.sh clean     remove the stand-ins
#   standins.sh stop      stop the engine that `engine` started, unless a script uses it (engine.sh)
set -euo pipefail
cd "$(dirname "$0")"

readonly POSTGRES=postgres:17-alpine REDIS=redis:8-alpine RUNTIME=debian:bookworm-slim RUST=rust:1.95-bookworm
readonly EXAMPLE=debian:12-slim PGBOUNCER=edoburu/pgbouncer:v1.24.1-p1
readonly S3_VERSION=v1.8.0
readonly S3=versity/versitygw:$S3_VERSION
readonly LABEL=org.roadstead.standin
readonly WORK=${XDG_CACHE_HOME:-$HOME/.cache}/roadstead/compose
readonly PULL_SECONDS=120
mkdir -p "$WORK"

say() { printf 'standins: %s\n' "$*" >&2; }
has_image() { docker image inspect "$1" >/dev/null 2>&1; }
label_of() { docker image inspect --format "{{index .Config.Labels \"$2\"}}" "$1" 2>/dev/null || true; }
is_standin() { [ -n "$(label_of "$1" $LABEL)" ]; }

# --- the engine ------------------------------------------------------------------------------------------------------------

# The machine's own Debian sources with another suite: no mirror is named here.
sources_for() { # suite
  local file=/etc/apt/sources.list.d/debian.sources
  if [ -f $file ]; then
    awk -v suite="$1" '/^URIs:/ && !/security/ && !uri { uri = $2 } END { print "deb " uri " " suite " main" }' $file
  else
    awk -v suite="$1" '/^deb / && !/security/ { print "deb " $2 " " suite " main"; exit }' /etc/apt/sources.list
  fi
}

# Downloads packages of another suite, with apt state of their own, and unpacks them.
unpack_from() { # suite folder packages...
  local suite=$1 folder=$2 state=$WORK/apt-$1 options
  shift 2
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$folder"
  sources_for "$suite" | sed 's#^deb #deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] #' >"$state/sources.list"
  options=(-q -o "Dir::State::lists=$state/lists" -o "Dir::Etc::sourcelist=$state/sources.list" -o Dir::Etc::sourceparts=-
    -o "Dir::Cache=$state/cache" -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update >/dev/null
  (cd "$folder" && apt-get "${options[@]}" download "$@" >/dev/null && for d in *.deb; do dpkg-deb -x "$d" .; done && rm -f -- *.deb)
}

has_plugins() { docker compose version >/dev/null 2>&1 && docker buildx version >/dev/null 2>&1; }

install_docker() {
  local need=()
  command -v dockerd >/dev/null || need+=(docker.io)
  command -v iptables >/dev/null || need+=(iptables)
  if [ ${#need[@]} -gt 0 ]; then
    say "apt-get install ${need[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
  fi
  # Debian 12 has no compose and no buildx, and its engine knows no heredocs: these come from Debian 13 and need only its libc 2.34.
  if ! has_plugins; then
    say "compose and buildx"
    unpack_from trixie "$WORK/plugins" docker-compose docker-buildx
    install -D -m 755 -t "${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins" "$WORK"/plugins/usr/libexec/docker/cli-plugins/*
  fi
  [ -x "$WORK/engine/usr/sbin/dockerd" ] || unpack_from trixie "$WORK/engine" docker.io containerd
}

start_engine() {
  say "starting an engine with its data in $WORK"
  # Debian 13's runc does not run on Debian 12: the machine's own is further down the path.
  rm -f "$WORK/engine/usr/sbin/runc"
  iptables-save -t filter 2>/dev/null | sed -n 's/^:FORWARD \([A-Z]*\).*/\1/p' >"$WORK/forward"
  PATH=$WORK/engine/usr/sbin:$WORK/engine/usr/bin:$PATH setsid nohup dockerd --data-root "$WORK/docker" \
    --exec-root "$WORK/exec" --pidfile "$WORK/dockerd.pid" --ip 127.0.0.1 >"$WORK/dockerd.log" 2>&1 </dev/null &
  for _ in $(seq 1 120); do
    docker info >/dev/null 2>&1 && return
    sleep 0.25
  done
  tail -n 20 "$WORK/dockerd.log" >&2
  say "the engine did not start within 30 s"
  return 1
}

engine() {
  docker info >/dev/null 2>&1 && has_plugins && return
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "no Docker engine with compose and buildx answers, and this script can set one up only as root on Debian"
    return 1
  fi
  exec 7>>"$WORK/start.lock"
  flock 7
  install_docker 7>&-
  docker info >/dev/null 2>&1 || start_engine 7>&-
}

# An engine leaves its rules and its bridge behind, and forwarding forbidden: every packet on the machine would go on being tracked for it.
clean_network() {
  local table forward left
  # No word of it: there were no rules at all before.
  read -r forward <"$WORK/forward" || forward=ACCEPT
  for table in filter nat; do
    iptables-save -t $table | grep -v -e DOCKER -e docker0 | sed "s/^:FORWARD DROP/:FORWARD $forward/" | iptables-restore -T $table \
      || say "the engine's rules in iptables' table $table could not be removed"
    # With chains alone packets are tracked as well; of a table in which nobody has anything they go.
    if left=$(iptables-save -t $table) && ! grep -qvE '^(#|\*|COMMIT$|:[A-Z]+ ACCEPT |$)' <<<"$left"; then iptables -t $table -X; fi
  done
  ip link delete docker0 2>/dev/null || true
}

stop() {
  local pid
  exec 7>>"$WORK/users"
  flock --nonblock 7 || return 0
  pid=$(cat "$WORK/dockerd.pid" 2>/dev/null) || return 0
  kill "$pid" 2>/dev/null || return 0
  for _ in $(seq 1 120); do
    if ! kill -0 "$pid" 2>/dev/null; then
      clean_network
      return
    fi
    sleep 0.25
  done
}

# --- the images ------------------------------------------------------------------------------------------------------------

registry_answers=${STANDINS:+no}
# Here already, or pulled. The first image that can't be pulled decides for the others.
upstream() { # image
  has_image "$1" && return
  [ "$registry_answers" != no ] || return 1
  timeout $PULL_SECONDS docker pull --quiet "$1" >/dev/null 2>&1 && return
  registry_answers=no
  say "no image can be pulled: building stand-ins"
  return 1
}

rootfs() { # suite image packages...
  local suite=$1 image=$2 path without_jit=()
  shift 2
  has_image "$image" && return
  say "$image from Debian $suite"
  if ! command -v mmdebstrap >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
  fi
  # PostgreSQL's JIT is half of its size, and this stack turns it off.
  for path in '*/libLLVM*' '*/libz3*' 'postgresql/*/lib/llvmjit*' 'postgresql/*/lib/bitcode/*'; do
    without_jit+=(--dpkgopt="path-exclude=/usr/lib/$path")
  done
  sources_for "$suite" | mmdebstrap --quiet --variant=minbase --include="$(IFS=,; echo "$*")" \
    --aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' "${without_jit[@]}" \
    --customize-hook='rm -rf "$1"/var/lib/postgresql/*/main "$1"/var/cache/apt' "$suite" - - \
    | docker import -c "LABEL $LABEL=1" -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
      - "$image" >/dev/null
}

build() { docker build --quiet --label "$LABEL=1" "$@" >/dev/null; } # docker build's arguments

services_base() { rootfs trixie standin/services:trixie ca-certificates busybox postgresql-17 postgresql-client-17 redis-server; }

postgres() { services_base && build -t "$POSTGRES" postgres; }
redis() { services_base && build -t "$REDIS" redis; }

s3() {
  services_base
  local context=$WORK/s3-$S3_VERSION
  mkdir -p "$context"
  cp s3/Dockerfile s3/entrypoint.sh "$context/"
  if [ ! -x "$context/versitygw" ]; then
    say "$S3 from its Go module"
    GOBIN=$context CGO_ENABLED=0 go install "github.com/versity/versitygw/cmd/versitygw@$S3_VERSION"
  fi
  build -t "$S3" "$context"
}

# The toolchain of this machine at the place where the upstream image has its own.
toolchain() {
  has_image standin/toolchain:bookworm && return
  rootfs bookworm standin/buildpack:bookworm ca-certificates gcc libc6-dev make
  say "the Rust toolchain of this machine"
  local context=$WORK/toolchain
  rm -rf "$context"
  mkdir -p "$context"
  tar -C "$(rustc --print sysroot)" --exclude=./share/doc --exclude=./share/man --exclude=./lib/rustlib/src -cf "$context/toolchain.tar" .
  cat >"$context/Dockerfile" <<'DOCKERFILE'
FROM standin/buildpack:bookworm
ADD toolchain.tar /usr/local/rustup/toolchains/standin/
ENV CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup CARGO_NET_OFFLINE=true \
    PATH=/usr/local/cargo/bin:/usr/local/rustup/toolchains/standin/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
DOCKERFILE
  build -t standin/toolchain:bookworm "$context"
  rm -rf "$context"
}

# A build inside the image is offline: it gets the crates that Cargo.lock names from this machine, anew whenever that changes.
rust() {
  local context=$WORK/crates lock registry=${CARGO_HOME:-$HOME/.cargo}/registry
  lock=$(sha256sum <../../Cargo.lock | cut -c 1-16)
  [ "$(label_of $RUST $LABEL.lock)" != "$lock" ] || return 0
  toolchain
  say "$RUST with the crates of Cargo.lock"
  (cd ../.. && cargo fetch --locked)
  rm -rf "$context"
  mkdir -p "$context"
  tar -C "$registry" --exclude=./src -cf "$context/registry.tar" .
  printf 'FROM standin/toolchain:bookworm\nADD registry.tar /usr/local/cargo/registry/\n' >"$context/Dockerfile"
  build --label "$LABEL.lock=$lock" -t "$RUST" "$context"
  # The one before, and what was built with it.
  docker image prune --force --filter "label=$LABEL" >/dev/null
  docker builder prune --all --force --filter type=regular --filter until=24h >/dev/null
  rm -rf "$context"
}

# A stand-in that is here already may be of an older recipe.
needs_standin() { ! upstream "$1" || is_standin "$1"; } # image

images() {
  if needs_standin "$POSTGRES"; then postgres; fi
  if needs_standin "$REDIS"; then redis; fi
  if needs_standin "$S3"; then s3; fi
  if needs_standin "$RUNTIME"; then rootfs bookworm "$RUNTIME" ca-certificates; fi
  if needs_standin "$RUST"; then rust; fi
}

lab() {
  images
  if needs_standin "$PGBOUNCER"; then rootfs trixie "$PGBOUNCER" pgbouncer; fi
  if needs_standin "$EXAMPLE"; then docker tag "$RUNTIME" "$EXAMPLE"; fi
}

clean() {
  docker images --quiet --filter "label=$LABEL" | sort -u | xargs -r docker rmi --force >/dev/null 2>&1 || true
}

case "${1:-}" in
  engine | images | lab | clean | stop) "$1" ;;
  *) sed -n '2,11p' "$0" >&2; exit 2 ;;
esac
