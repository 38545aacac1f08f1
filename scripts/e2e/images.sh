# Sourced: the images of the lab, by Docker as an operator would build them, and what must hold for ours.

readonly PROGRAMS=(api worker executor)
# As values-trial.yaml names ours.
readonly OURS=(roadstead-api:dev roadstead-worker:dev roadstead-executor:dev)
readonly SERVICES=(postgres:17-alpine redis:8-alpine versity/versitygw:v1.8.0 edoburu/pgbouncer:v1.24.1-p1 debian:12-slim)
readonly TEST_BUSYBOX=localhost/roadstead-test/busybox:1 TEST_HELLO=localhost/roadstead-test/hello:1 TEST_UNFIT=localhost/roadstead-test/unfit:1
# Bytes as `docker image inspect` counts them.
declare -rA MAX_BYTES=([api]=25000000 [worker]=25000000 [executor]=8000000)
readonly LABELS=(title description version revision licenses)

build_programs() {
  local program version revision log=$LAB/build.log
  version=$(awk -F '"' '/^version = / { print $2; exit }' Cargo.toml)
  revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
  for program in "${PROGRAMS[@]}"; do
    docker build --progress plain --target "$program" --build-arg VERSION="$version" --build-arg REVISION="$revision" \
      --tag "roadstead-$program:dev" . >"$log" 2>&1 || { tail -n 60 "$log" >&2; fail "the image of $program does not build"; }
  done
}

# --- small, without a shell, not root, labelled --------------------------------------------------------------------------------

files_of() { # image
  local container
  container=$(docker create "$1")
  docker export "$container" | tar --list --file -
  docker rm "$container" >/dev/null
}

check_image() { # program
  local image=roadstead-$1:dev bytes user label shells
  bytes=$(docker image inspect --format '{{.Size}}' "$image")
  user=$(docker image inspect --format '{{.Config.User}}' "$image")
  printf '%-9s %5d kB of %d, user %s' "$1" $((bytes / 1000)) $((MAX_BYTES[$1] / 1000)) "$user"
  for label in "${LABELS[@]}"; do
    label=$(docker image inspect --format "{{index .Config.Labels \"org.opencontainers.image.$label\"}}" "$image")
    printf ', %s' "${label:-NO LABEL}"
    [ -n "$label" ] || fail "the image of $1 lacks a label"
  done
  echo
  [ "$bytes" -lt "${MAX_BYTES[$1]}" ] || fail "the image of $1 is too large"
  [ "$user" = 65532:65532 ] || fail "the image of $1 runs as $user"
  shells=$(files_of "$image" | grep -E '(^|/)(ba|da|a|z|k|c)?sh$|(^|/)(busybox|toybox)$' || true)
  [ -z "$shells" ] || fail "the image of $1 has a shell: $shells"
}

# --- into the lab ---------------------------------------------------------------------------------------------------------------

# An archive of images, kept until one of them changes.
archive() { # name images...
  local name=$1 hash file
  shift
  hash=$({ echo "$@"; docker image inspect --format '{{.Id}}' "$@"; } | sha256sum | cut -c 1-16)
  file=$LAB/images/$name-$hash.tar
  if [ ! -e "$file" ]; then
    mkdir -p "$LAB/images"
    rm -f "$LAB/images/$name"-*
    docker save --output "$file.part" "$@"
    mv "$file.part" "$file"
  fi
  echo "$file"
}

# For the tests: a system of one program with all its names, an image that holds a single static program, and one in which a
# file is where a volume is to be mounted.
test_images() {
  local applets=() name
  while read -r name; do
    [ "$name" = busybox ] || applets+=(--link "/bin/$name=busybox")
  done < <(/bin/busybox --list)
  mkdir -p "$LAB/images"
  kubelab image $TEST_BUSYBOX "$LAB/images/busybox.tar" --file /bin/busybox=/bin/busybox "${applets[@]}" --env PATH=/bin
  rustc --edition 2024 --target "$(uname -m)-unknown-linux-musl" -C opt-level=s -C strip=symbols -C linker=gcc \
    -o "$LAB/images/hello" scripts/e2e/hello.rs
  kubelab image $TEST_HELLO "$LAB/images/hello.tar" --file "$LAB/images/hello=/hello"
  kubelab image $TEST_UNFIT "$LAB/images/unfit.tar" --file "$LAB/images/hello=/tmp"
}

build_images() {
  nice scripts/compose/standins.sh lab
  build_programs
  local program
  for program in "${PROGRAMS[@]}"; do check_image "$program"; done
  archives=("$(archive services "${SERVICES[@]}")" "$(archive programs "${OURS[@]}")")
  test_images
  archives+=("$LAB/images/"{busybox,hello,unfit}.tar)
}

load_images() {
  local file
  for file in "${archives[@]}"; do kubelab load-image "$file"; done
}
