#!/usr/bin/env bash
# Proves docker-compose.yml on a real engine: the example's result through Compose, the cap over three workers, and that `down`
# and `up` lose nothing. Uses a project, ports and volumes of its own, and removes them. Where no image can be pulled, local
# stand-ins take their place (scripts/compose/standins.sh; STANDINS=1 asks for them).
set -Eeuo pipefail
cd "$(dirname "$0")/.."

readonly CAP=4 JOBS=30
# Found again among all processes of the machine: no other sleep has this length.
readonly SLEEP="2.$((RANDOM % 9000 + 1000))1"

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
. scripts/api.sh
. scripts/compose/engine.sh

free_port() {
  local port
  for _ in $(seq 1 100); do
    port=$((RANDOM % 20000 + 20000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
  return 1
}

API_PORT=$(free_port)
S3_GATEWAY_PORT=$(free_port)
export API_PORT S3_GATEWAY_PORT MAX_CONCURRENT_JOBS=$CAP ENV_FILE=/dev/null
readonly URL=http://127.0.0.1:$API_PORT/v1

compose() { docker compose --progress quiet --env-file /dev/null --project-name roadstead-check "$@"; }

finish() {
  local status=$?
  if [ $status -ne 0 ]; then
    echo "stopped at line ${stopped_at:-?} with exit status $status" >&2
    compose logs --no-color --tail 40 2>/dev/null | grep -v '^postgres' | cut -c 1-400 || true
  fi
  compose down --volumes --remove-orphans --timeout 10 >/dev/null 2>&1 || true
  engine_down
  exit $status
}

# --- the cap -----------------------------------------------------------------------------------------------------------------

# One by one: each rings for another worker that waits.
submit_sleepers() {
  local body='{"spec":{"steps":[{"id":"wait","command":["sleep","'$SLEEP'"]}]},"labels":{"check":"cap"}}'
  for _ in $(seq 1 $JOBS); do
    api POST /executions --header 'Content-Type: application/json' --data "$body" >/dev/null
  done
}

succeeded_sleepers() {
  api GET "/executions?label=check:cap&state=succeeded&limit=100" | strings state | grep -c succeeded || true
}

# Counts the sleeping processes themselves, all containers in one look, until every execution has ended.
keep_the_cap() {
  local most=0 now looks=0 ended=0 containers="" pid workers
  for _ in $(seq 1 2400); do
    now=$(pgrep -c -f -x "sleep $SLEEP" || true)
    looks=$((looks + 1))
    [ "$now" -le "$most" ] || most=$now
    [ "$most" -le $CAP ] || fail "$most executions at once, the cap is $CAP"
    if [ $((looks % 20)) -eq 0 ]; then
      for pid in $(pgrep -f -x "sleep $SLEEP"); do containers+=$(readlink "/proc/$pid/ns/pid" || true)$'\n'; done
      ended=$(succeeded_sleepers)
      [ "$ended" -lt $JOBS ] || break
    fi
    sleep 0.05
  done
  [ "$ended" -eq $JOBS ] || fail "$ended of $JOBS executions succeeded in time"
  [ "$most" -gt 1 ] || fail "never more than $most at once was seen: this check saw nothing"
  workers=$(sort -u <<<"${containers%$'\n'}" | wc -l)
  [ "$workers" -gt 1 ] || fail "all of them ran on one worker: this check says nothing of several"
  echo "$JOBS executions, at most $most at once (cap $CAP), $looks looks, on $workers workers"
}

# --- the run -----------------------------------------------------------------------------------------------------------------

command -v curl >/dev/null || fail "curl is missing:  sudo apt-get install curl"
say "engine and images"
engine_up
trap finish EXIT
trap 'stopped_at=$LINENO' ERR
compose down --volumes --remove-orphans >/dev/null 2>&1 || true
scripts/compose/standins.sh images

say "docker compose build"
compose build --quiet

say "docker compose up"
compose up -d --wait --wait-timeout 180 --no-build --quiet-pull
KEY=$(compose exec -T api /usr/local/bin/roadstead-api keys create --tenant check | awk '/^rs/ { print $1 }')
[ -n "$KEY" ] || fail "keys create printed no key"

say "the example"
run_example
read_artifact

say "three workers keep the cap"
compose up -d --wait --wait-timeout 120 --no-build --no-recreate --scale worker=3
[ "$(compose ps --status running --quiet worker | wc -l)" -eq 3 ] || fail "not three workers"
submit_sleepers
keep_the_cap

say "down, up: the result is still there"
compose down --timeout 40 >/dev/null 2>&1
compose up -d --wait --wait-timeout 180 --no-build --quiet-pull
[ "$(api GET "/executions/$example/result")" = "$result" ] || fail "the result changed over down and up"
echo "the same result"

printf '\ncompose-check passed in %d s\n' $SECONDS
