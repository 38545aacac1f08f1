#!/usr/bin/env bash
# What must hold for every commit beside the tests. Every check runs, also after one that failed; the exit status tells.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

readonly CARGO_DENY=0.20.2 CARGO_MACHETE=0.9.2
readonly TOOLS="${XDG_CACHE_HOME:-$HOME/.cache}/roadstead/cargo-tools"
failed=()

check() { # name command...
  local name=$1 started=$SECONDS
  shift
  printf '== %s\n' "$name"
  if "$@"; then
    printf '   ok (%d s)\n' $((SECONDS - started))
  else
    printf '   FAILED: %s\n' "$name"
    failed+=("$name")
  fi
}

# Installs a cargo subcommand of one exact version, once per machine; the fastest build does, it runs for a second.
cargo_tool() { # name version
  local root=$TOOLS/$1-$2
  PATH=$root/bin:$PATH
  [ -x "$root/bin/$1" ] && return
  mkdir -p "$TOOLS"
  env -u CARGO_TARGET_DIR -u RUSTFLAGS CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off \
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo install --quiet --locked --root "$root" "$1@$2"
}

dependencies() {
  cargo_tool cargo-deny "$CARGO_DENY" && cargo deny --log-level warn check bans licenses sources
}

unused_dependencies() {
  local report
  cargo_tool cargo-machete "$CARGO_MACHETE" || return
  report=$(cargo machete 2>&1) && return
  printf '%s\n' "$report"
  return 1
}

lock_file() { cargo metadata --locked --format-version 1 >/dev/null; }

# The executor is copied into every pod: it speaks HTTP, and knows nothing of the store, the queue or the cluster.
executor_tree() {
  local tree
  tree=$(cargo tree -p roadstead-executor -e normal --prefix none --locked) || return
  ! grep -E '^(roadstead-backend|actix-web|diesel|tokio-postgres|redis|kube|k8s-openapi|rust-s3|aws-|reqwest)' <<<"$tree"
}

scripts_parse() {
  local script status=0
  while IFS= read -r script; do bash -n "$script" || status=1; done < <(find scripts .ci -type f -name '*.sh' -o -path .ci/run)
  return "$status"
}

check "Cargo.lock is up to date" lock_file
check "formatting" cargo fmt --all --check -- --color never
check "scripts" scripts_parse
check "executor's dependencies" executor_tree
check "licences, bans, sources" dependencies
check "unused dependencies" unused_dependencies
check "lints" cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

[ ${#failed[@]} -eq 0 ] && exit 0
printf '\nchecks that failed:\n'
printf '  %s\n' "${failed[@]}"
exit 1
