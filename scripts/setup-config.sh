#!/usr/bin/env bash
# Makes Roadstead's Secrets and ConfigMaps in a Kubernetes cluster from a file like .env.example. Running it again brings them up to
# date. The chart uses them with `--set existingConfig.prefix=roadstead`, and so does k8s/manifests.
#
#   setup-config.sh [--env-file FILE] [--namespace NAMESPACE] [--prefix PREFIX] [--dry-run]
#
#   --env-file FILE         what to read; .env if not given
#   --namespace NAMESPACE   where to; `roadstead` if not given
#   --prefix PREFIX         begins every name; `roadstead` if not given
#   --dry-run               prints the manifests and needs neither a cluster nor kubectl
#
# Secret    PREFIX-db               DATABASE_URL
# Secret    PREFIX-redis-secret     REDIS_URL
# Secret    PREFIX-s3               S3's keys, and all else that a client of the buckets needs
# Secret    PREFIX-openai-secret    OPENAI_API_KEY, if given; for workflows, by an operator's Job template
# Secret    PREFIX-sentry-secret    SENTRY_DSN, if given; likewise
# ConfigMap PREFIX-api-config       every other variable that is set
# ConfigMap PREFIX-executor-config  those that say how executions run
#
# Variables that have two names are written under both, whichever was given. What only docker-compose.yml reads is left out.
#
# The file is read as Docker Compose reads it, and never run. Of Compose's syntax this is understood; all else is an error:
#   NAME=value, export NAME=value, # comments
#   value      up to the end of the line or to ` #`, without the spaces around it
#   'value'    as it is, over several lines if need be; \' is a quote
#   "value"    likewise, with \" \\ \$ \n \r \t \a \b \f \v
#   $NAME, ${NAME}, ${NAME:-otherwise}, ${NAME-otherwise} outside of single quotes: the environment's value, or that of an earlier line;
#   $$ is a dollar sign
#
# Exit status: 0; 1 when the cluster refuses; 2 when the call or the file is wrong, with every mistake. Then nothing was changed.
set -euo pipefail
LC_ALL=C
if [ "${BASH_VERSINFO[0]}" -lt 4 ]; then
  echo "setup-config: bash 4 or newer is needed, this is $BASH_VERSION" >&2
  exit 2
fi

# The list of docs/configuration.md, by where a variable goes. scripts/chart-check.sh compares.
readonly REQUIRED_VARIABLES="DATABASE_URL S3_ENDPOINT META_BUCKET_NAME CONTENT_BUCKET_NAME"
readonly S3_VARIABLES="S3_ENDPOINT S3_PUBLIC_ENDPOINT S3_REGION S3_PATH_STYLE META_BUCKET_NAME CONTENT_BUCKET_NAME"
readonly API_VARIABLES="DATABASE_MAX_CONNECTIONS REDIS_PREFIX S3_CREATE_BUCKETS PRESIGN_EXPIRY API_HOST API_PORT SERVER_ADDR API_URL BASE_URL WORKER_HOST
  METRICS_ENABLED METRICS_PORT RUST_LOG LOG_FORMAT MAX_QUEUED_PER_TENANT RETENTION IDEMPOTENCY_RETENTION SHUTDOWN_TIMEOUT MIGRATE_ON_START
  DEV_MODE SSL_CERT_FILE"
readonly EXECUTOR_VARIABLES="LAUNCHER KUBERNETES_ENABLED KUBERNETES_NAMESPACE NAMESPACE_POLICY WATCH_NAMESPACE KUBERNETES_RECONCILE_INTERVAL EXECUTOR_IMAGE
  EXECUTOR_IMAGE_PULL_POLICY EXECUTOR_SERVICE_ACCOUNT EXECUTOR_RUNTIME_CLASS USE_KATA_CONTAINERS WORKFLOW_IMAGE JOB_TEMPLATE_FILE
  NAMESPACE_OBJECTS_FILE KUEUE_QUEUE
  EXECUTOR_PATH WORKSPACE_ROOT JOB_TIMEOUT_SECONDS JOB_START_TIMEOUT_SECONDS JOB_MAX_RETRIES JOB_CPU JOB_MEMORY JOB_EPHEMERAL_STORAGE JOB_MAX_CPU
  JOB_MAX_MEMORY JOB_MAX_EPHEMERAL_STORAGE MAX_CONCURRENT_JOBS ATTEMPT_LEASE_SECONDS KILL_GRACE_SECONDS MAX_INPUT_BYTES MAX_RESULT_BYTES
  MAX_LOG_BYTES MAX_ARTIFACT_BYTES MAX_ARTIFACTS"
readonly SECRET_VARIABLES="DATABASE_URL REDIS_URL S3_ACCESS_KEY_ID S3_SECRET_ACCESS_KEY OPENAI_API_KEY SENTRY_DSN"
readonly COMPOSE_VARIABLES="POSTGRES_PASSWORD REDIS_PASSWORD S3_GATEWAY_PORT WORKSPACES_SIZE ENV_FILE"
readonly -A ALIAS=(
  [DATABASE_URL]=DATABASE_DSN [REDIS_URL]=REDIS_ADDR [META_BUCKET_NAME]=META_BUCKET [CONTENT_BUCKET_NAME]=CONTENT_BUCKET
  [KUBERNETES_NAMESPACE]=K8S_NAMESPACE [JOB_TIMEOUT_SECONDS]=JOB_TIMEOUT
)

env_file=.env namespace=roadstead prefix=roadstead dry_run=
mistakes=()
declare -A values=() # as the file has them
declare -A settings=() # by the variables' own names, without those that are empty

mistake() { mistakes+=("$1"); }

refuse_mistakes() { # what
  [ ${#mistakes[@]} -gt 0 ] || return 0
  printf 'setup-config: %s has %d mistake(s); nothing was changed\n' "$1" ${#mistakes[@]} >&2
  printf '  - %s\n' "${mistakes[@]}" >&2
  exit 2
}

among() { # word list
  local word
  for word in $2; do [ "$word" != "$1" ] || return 0; done
  return 1
}

# --- the call ----------------------------------------------------------------------------------------------------------------

# shellcheck disable=SC2086 # lists of names
read_arguments() {
  while [ $# -gt 0 ]; do
    case $1 in
      --env-file=* | --namespace=* | --prefix=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    esac
    case $1 in
      --env-file | --namespace | --prefix)
        if [ $# -lt 2 ]; then
          mistake "$1 needs a value"
          break
        fi
        case $1 in
          --env-file) env_file=$2 ;;
          --namespace) namespace=$2 ;;
          --prefix) prefix=$2 ;;
        esac
        shift 2
        ;;
      --dry-run) dry_run=yes && shift ;;
      --names)
        # For scripts/chart-check.sh: every name that is known.
        printf '%s\n' $S3_VARIABLES $API_VARIABLES $EXECUTOR_VARIABLES $SECRET_VARIABLES "${ALIAS[@]}" | sort -u
        exit
        ;;
      -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0" && exit ;;
      *) mistake "$1 is not an argument of this script; --help lists them" && shift ;;
    esac
  done
  [[ $namespace =~ ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$ ]] || mistake "--namespace: \`$namespace\` is no name of a namespace"
  [[ $prefix =~ ^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$ ]] || mistake "--prefix: \`$prefix\` can't begin a name in Kubernetes"
  refuse_mistakes "the call"
}

# --- the file ----------------------------------------------------------------------------------------------------------------

trim_left() { trimmed=${1#"${1%%[!$' \t\v\f\r']*}"}; }
trim_right() { trimmed=${1%"${1##*[!$' \t\v\f\r\n']}"}; }

# What a reference stands for. (name otherwise? has_otherwise? colon?)
look_up() {
  local name=$1
  if [ -n "${!name+set}" ] && [[ $(declare -p "$name" 2>/dev/null) == declare\ -*x* ]]; then
    found=${!name}
  elif [ -n "${values[$name]+set}" ]; then
    found=${values[$name]}
  elif [ -n "${3:-}" ]; then
    found=$2
    return
  else
    mistake "line $number: \$$name is not set; write \$\$ for a dollar sign, or put the value into single quotes"
    found=
    return
  fi
  if [ -n "${4:-}" ] && [ -z "$found" ]; then found=$2; fi
}

# Replaces references in $1; the result is in $expanded.
expand() {
  local text=$1
  expanded=
  while [[ $text == *\$* ]]; do
    expanded+=${text%%\$*}
    text=${text#*\$}
    if [[ $text == \$* ]]; then
      expanded+=\$ text=${text#?}
    elif [[ $text =~ ^([A-Za-z_][A-Za-z0-9_]*) ]]; then
      text=${text:${#BASH_REMATCH[1]}}
      look_up "${BASH_REMATCH[1]}"
      expanded+=$found
    elif [[ $text =~ ^\{([A-Za-z_][A-Za-z0-9_]*)((:?)-([^\$\{\}]*))?\} ]]; then
      text=${text:${#BASH_REMATCH[0]}}
      look_up "${BASH_REMATCH[1]}" "${BASH_REMATCH[4]}" "${BASH_REMATCH[2]}" "${BASH_REMATCH[3]}"
      expanded+=$found
    elif [[ $text == \{* ]]; then
      mistake "line $number: \${… is none of \${NAME}, \${NAME:-otherwise}, \${NAME-otherwise}; write \$\$ for a dollar sign"
      expanded+=\$
    else
      expanded+=\$
    fi
  done
  expanded+=$text
}

# Replaces escapes in $1, what stood between double quotes; the result is in $unescaped. A dollar sign is left doubled for `expand`.
unescape() {
  local text=$1 char
  unescaped=
  while [[ $text == *\\* ]]; do
    unescaped+=${text%%\\*}
    text=${text#*\\}
    char=${text:0:1} text=${text:1}
    case $char in
      \\) unescaped+=\\ ;;
      \$) unescaped+=\$\$ ;;
      n) unescaped+=$'\n' ;;
      r) unescaped+=$'\r' ;;
      t) unescaped+=$'\t' ;;
      a) unescaped+=$'\a' ;;
      b) unescaped+=$'\b' ;;
      f) unescaped+=$'\f' ;;
      v) unescaped+=$'\v' ;;
      0) mistake "line $number: \\0 is not understood" ;;
      *) unescaped+=\\$char ;;
    esac
  done
  unescaped+=$text
}

# Reads from the quote that $1 begins with, over further lines of $lines if need be; the result is in $quoted.
read_quoted() {
  local text=${1:1} quote=${1:0:1} char
  quoted=
  while :; do
    while [ -n "$text" ]; do
      char=${text:0:1} text=${text:1}
      case $char in
        "$quote")
          [[ $text =~ ^[[:space:]]*(#.*)?$ ]] || mistake "line $((at + 1)): something follows the closing quote"
          return
          ;;
        \\)
          case $text in
            "$quote"*) quoted+=$quote text=${text:1} ;;
            "") quoted+=\\ ;;
            *) quoted+=\\${text:0:1} text=${text:1} ;;
          esac
          ;;
        *) quoted+=$char ;;
      esac
    done
    at=$((at + 1))
    if [ "$at" -ge ${#lines[@]} ]; then
      mistake "line $number: the quote is not closed"
      return
    fi
    quoted+=$'\n' text=${lines[at]}
  done
}

read_file() {
  local lines=() at number line name value
  if [ -d "$env_file" ] || [ ! -r "$env_file" ]; then
    mistake "it can't be read; --env-file names another, and .env.example is one to begin with"
    refuse_mistakes "$env_file"
  fi
  mapfile -t lines <"$env_file"
  lines=(${lines[@]+"${lines[@]%$'\r'}"})
  if [ ${#lines[@]} -gt 0 ]; then lines[0]=${lines[0]#$'\xef\xbb\xbf'}; fi
  for ((at = 0; at < ${#lines[@]}; at++)); do
    number=$((at + 1))
    trim_left "${lines[at]}"
    line=$trimmed
    case $line in "" | \#*) continue ;; esac
    [[ ! $line =~ ^export[[:space:]]+(.*)$ ]] || line=${BASH_REMATCH[1]}
    if [[ ! $line =~ ^([A-Za-z_][A-Za-z0-9_]*)[[:space:]]*=(.*)$ ]]; then
      # Not the line itself: it may hold what is secret.
      mistake "line $number is neither NAME=value nor a comment"
      continue
    fi
    name=${BASH_REMATCH[1]}
    trim_left "${BASH_REMATCH[2]}"
    value=$trimmed
    case $value in
      \'*) read_quoted "$value" && value=$quoted ;;
      \"*)
        read_quoted "$value"
        unescape "$quoted"
        expand "$unescaped"
        value=$expanded
        ;;
      *)
        trim_right "${value%% #*}"
        expand "$trimmed"
        value=$expanded
        ;;
    esac
    values[$name]=$value
  done
}

# --- what the variables mean -------------------------------------------------------------------------------------------------

settle() { # variable
  local name=$1 alias=${ALIAS[$1]:-}
  local value=${values[$name]:-}
  if [ -n "$alias" ] && [ -n "${values[$alias]:-}" ]; then
    if [ -n "$value" ] && [ "$value" != "${values[$alias]}" ]; then
      mistake "$name and $alias are one variable with two names, and have different values"
    fi
    value=${values[$alias]}
  fi
  [ -z "$value" ] || settings[$name]=$value
}

settle_all() {
  local name alias known=" $S3_VARIABLES $API_VARIABLES $EXECUTOR_VARIABLES $SECRET_VARIABLES $COMPOSE_VARIABLES " unknown=()
  for name in $S3_VARIABLES $API_VARIABLES $EXECUTOR_VARIABLES $SECRET_VARIABLES; do settle "$name"; done
  for name in $REQUIRED_VARIABLES; do
    alias=${ALIAS[$name]:-}
    [ -n "${settings[$name]:-}" ] || mistake "$name${alias:+ (or $alias)} is missing"
  done
  if [ -n "${settings[S3_ACCESS_KEY_ID]:-}" ] && [ -z "${settings[S3_SECRET_ACCESS_KEY]:-}" ]; then
    mistake "S3_SECRET_ACCESS_KEY is missing, but S3_ACCESS_KEY_ID is set"
  elif [ -z "${settings[S3_ACCESS_KEY_ID]:-}" ] && [ -n "${settings[S3_SECRET_ACCESS_KEY]:-}" ]; then
    mistake "S3_ACCESS_KEY_ID is missing, but S3_SECRET_ACCESS_KEY is set"
  fi
  [ -n "${settings[REDIS_URL]:-}" ] || settings[REDIS_URL]=redis://redis:6379
  for name in ${values[@]+"${!values[@]}"}; do
    among "$name" "$known ${ALIAS[*]}" || unknown+=("$name")
  done
  for name in ${unknown[@]+"${unknown[@]}"}; do echo "setup-config: $name is not a variable of Roadstead, and is left out" >&2; done
  for name in DATABASE_URL REDIS_URL S3_ENDPOINT; do
    [[ ! ${settings[$name]:-} =~ ^([a-z0-9+]+://)?([^/@]*@)?(localhost|127\.0\.0\.1|\[::1\])([:/?]|$) ]] ||
      echo "setup-config: $name names this machine; in a pod that is the pod itself" >&2
  done
}

# --- the manifests -----------------------------------------------------------------------------------------------------------

head_of() { # kind suffix
  printf -- '---\napiVersion: v1\nkind: %s\nmetadata:\n  name: %s-%s\n  namespace: %s\n' "$1" "$prefix" "$2" "$namespace"
  printf '  labels:\n    app.kubernetes.io/name: roadstead\n    app.kubernetes.io/managed-by: setup-config\n'
  [ "$1" != Secret ] || printf 'type: Opaque\n'
  printf 'data:%s\n' "${3:-}"
}

# As a string of YAML, which knows JSON's escapes.
yaml_string() {
  local text=$1 code char
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//$'\n'/\\n}
  text=${text//$'\r'/\\r}
  text=${text//$'\t'/\\t}
  for code in 01 02 03 04 05 06 07 08 0b 0c 0e 0f 10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f 7f; do
    printf -v char '%b' "\\x$code"
    text=${text//"$char"/\\x$code}
  done
  printf '"%s"' "$text"
}

# Each variable of the list that is set, under both of its names. (format names...)
entries() {
  local format=$1 name key
  shift
  for name in "$@"; do
    [ -n "${settings[$name]:-}" ] || continue
    for key in "$name" ${ALIAS[$name]:-}; do
      case $format in
        secret) printf '  %s: %s\n' "$key" "$(printf %s "${settings[$name]}" | base64 | tr -d '\n')" ;;
        plain) printf '  %s: ' "$key" && yaml_string "${settings[$name]}" && printf '\n' ;;
      esac
    done
  done
}

some() { # names...
  local name
  for name in "$@"; do [ -z "${settings[$name]:-}" ] || return 0; done
  return 1
}

# shellcheck disable=SC2086 # lists of names
manifests() {
  head_of Secret db && entries secret DATABASE_URL
  head_of Secret redis-secret && entries secret REDIS_URL
  head_of Secret s3 && entries secret S3_ACCESS_KEY_ID S3_SECRET_ACCESS_KEY $S3_VARIABLES
  if some OPENAI_API_KEY; then head_of Secret openai-secret && entries secret OPENAI_API_KEY; fi
  if some SENTRY_DSN; then head_of Secret sentry-secret && entries secret SENTRY_DSN; fi
  head_of ConfigMap api-config && entries plain $S3_VARIABLES $API_VARIABLES
  if some $EXECUTOR_VARIABLES; then
    head_of ConfigMap executor-config && entries plain $EXECUTOR_VARIABLES
  else
    head_of ConfigMap executor-config " {}"
  fi
}

apply() {
  local kubectl=${KUBECTL:-kubectl}
  if ! command -v "$kubectl" >/dev/null; then
    echo "setup-config: kubectl is missing; --dry-run needs none" >&2
    exit 1
  fi
  # All or nothing: the cluster looks at everything before anything changes.
  if ! manifests | "$kubectl" apply --server-side --force-conflicts --field-manager=setup-config --dry-run=server -f - >/dev/null; then
    echo "setup-config: the cluster refuses; nothing was changed" >&2
    exit 1
  fi
  manifests | "$kubectl" apply --server-side --force-conflicts --field-manager=setup-config -f -
}

read_arguments "$@"
read_file
settle_all
refuse_mistakes "$env_file"
if [ -n "$dry_run" ]; then manifests; else apply; fi
