#!/usr/bin/env bash
# `make roll`: builds programs on this machine and replaces those in the cluster of `make run LAUNCHER=kubernetes`, in which nothing
# else is touched; changes of the chart go along. The images hold the same files as the Dockerfile's, but come without Docker.
#
#   roll.sh [api] [worker] [executor]     all three without arguments; `none` for the chart alone
#
# PROFILE=dev builds sooner, for programs that are slower.
set -Eeuo pipefail
cd "$(dirname "$0")/../.."
. scripts/e2e/lab.sh
. scripts/e2e/images.sh
. scripts/e2e/install.sh

readonly BUILT=${CARGO_TARGET_DIR:-target}
[ $# -gt 0 ] || set -- "${PROGRAMS[@]}"
kubelab status >/dev/null 2>&1 || fail "no cluster runs: make run LAUNCHER=kubernetes"

build() { # program
  local musl profile
  if [ "$1" = executor ]; then
    musl=$(uname -m)-unknown-linux-musl
    profile=${PROFILE:-executor}
    env "CC_${musl//-/_}=gcc" nice cargo build --profile "$profile" --target "$musl" --locked -p roadstead-executor
  else
    profile=${PROFILE:-release}
    nice cargo build --profile "$profile" --locked -p "roadstead-$1"
  fi
  built=$BUILT/${musl:+$musl/}${profile/#dev/debug}/roadstead-$1
}

# The program without debug information, the libraries that it names, root certificates.
load_program() { # program tag
  local folder=$LAB/roll/$1 library files=()
  build "$1"
  mkdir -p "$folder"
  strip --strip-debug -o "$folder/program" "$built"
  while read -r library; do
    files+=(--file "$(readlink -f "$library")=$library")
  done < <(ldd "$built" 2>/dev/null | grep -oE '/[^ ]+\.so[^ ]*')
  kubelab image "roadstead-$1:$2" "$folder/image.tar" --file "$folder/program=/usr/local/bin/roadstead-$1" \
    --entrypoint "/usr/local/bin/roadstead-$1" --file /etc/ssl/certs/ca-certificates.crt=/etc/ssl/certs/ca-certificates.crt "${files[@]}"
  kubelab load-image "$folder/image.tar"
}

tag=roll-$(date +%s)
set_images=()
for program in "$@"; do
  [ "$program" != none ] || continue
  load_program "$program" "$tag"
  set_images+=(--set "$program.image.tag=$tag")
done
upgrade_release "${set_images[@]}" >/dev/null
kubectl -n $NAMESPACE get pods
