#!/usr/bin/env bash
# Every test, with arguments passed on to `cargo test`; with CI=true the checks first. The last line counts: "N passed, M failed".
#
# The programs and the tests come out of one build, so that the tests find roadstead-api, -worker, -executor and roadstead beside
# themselves, built from the same sources.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

checks=0
if [ "${CI:-}" = true ]; then scripts/check.sh || checks=1; fi

cargo build --workspace --all-targets --locked
built=$?
if [ $built -ne 0 ]; then
  echo "the tests do not build (cargo's exit status $built)"
  echo "0 passed, 1 failed"
  exit 1
fi

counts=$(mktemp)
cargo test --workspace --locked --no-fail-fast "$@" 2>&1 | awk '
  { print; fflush() }
  /^test result: / {
    for (i = 1; i < NF; i++) {
      if ($(i + 1) ~ /^passed/) passed += $i
      if ($(i + 1) ~ /^failed/) failed += $i
      if ($(i + 1) ~ /^ignored/) ignored += $i
    }
  }
  END { print passed + 0, failed + 0, ignored + 0 > "/dev/fd/3" }
' 3>"$counts"
status=${PIPESTATUS[0]}
read -r passed failed ignored <"$counts"
rm -f "$counts"

if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
  echo "a test program ended without its result (cargo's exit status $status)"
  failed=1
fi
[ "$passed" -gt 0 ] || { [ $# -gt 0 ] || status=1; }
[ $checks -eq 0 ] || echo "the checks failed: see above, before the tests"
[ "$ignored" -eq 0 ] || echo "$ignored ignored"
echo "$passed passed, $failed failed"
[ "$status" -eq 0 ] && [ $checks -eq 0 ]
