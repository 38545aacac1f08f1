# Sourced: the API by curl, so that nothing else has to be built. Wants $URL, ending in /v1, and $KEY; says what is wrong by `fail`.

api() { # method path [curl's arguments]
  local method=$1 path=$2
  shift 2
  curl --silent --show-error --fail-with-body --max-time 60 --request "$method" --header "Authorization: Bearer $KEY" "$@" "$URL$path"
}

# Of a JSON document, every "name": "value" with that name; nothing is an answer too.
strings() { grep -oE "\"$1\" ?: ?\"[^\"]*\"" || true; }
field() { strings "$1" | awk -F '"' 'NR == 1 { print $4 }'; }

wait_for_success() { # execution
  local state
  for _ in $(seq 1 6); do
    state=$(api GET "/executions/$1?wait=20s" | field state)
    case $state in
      succeeded) return ;;
      failed | timed_out | cancelled) break ;;
    esac
  done
  api GET "/executions/$1" >&2
  api GET "/executions/$1/logs" >&2 || true
  fail "the execution $1 is $state"
}

# The example with its own input. Leaves $example and $result.
run_example() {
  local body
  api PUT /workflows/word-count --header 'Content-Type: application/yaml' --data-binary @examples/word-count/workflow.yaml >/dev/null
  body=$(mktemp)
  { printf '{"workflow":"word-count","input":'; cat examples/word-count/input.json; printf '}'; } >"$body"
  example=$(api POST /executions --header 'Content-Type: application/json' --data-binary @"$body" | field id)
  rm -f "$body"
  [ -n "$example" ] || fail "the submission has no id"
  wait_for_success "$example"
  result=$(api GET "/executions/$example/result")
  [ "$result" = "$(cat examples/word-count/expected/result.json)" ] || fail "the result is not the expected one: $result"
  printf '%s\n' "$result" | head -n 3
}

# The presigned link that the API answers with works from this machine.
read_artifact() {
  local path bytes
  path=$(api GET "/executions/$example/artifacts" | field path)
  [ -n "$path" ] || fail "the example left no artifacts"
  bytes=$(api GET "/executions/$example/artifacts/$path" --location | wc -c)
  [ "$bytes" -gt 0 ] || fail "the artifact $path is empty"
  echo "artifact $path: $bytes bytes"
}
