#!/usr/bin/env bash
# Checks the chart, k8s/manifests and scripts/setup-config.sh against the tools and a real API server: lint, schema, every set of values in
# k8s/chart/ci rendered by Helm 3 and 4 and taken by the server with Pod Security "restricted" enforced, kept passwords, RBAC, kube-score,
# generated files. Runs a cluster without nodes of its own (e2e/kubelab) and ends it. Needs Go; what is missing is installed, pinned,
# into the user's cache.
set -Eeuo pipefail
cd "$(dirname "$0")/.."

readonly HELM3=v3.19.5 HELM4=v4.3.1 KUBE_SCORE=v1.20.0
# The definitions of what is not Kubernetes' own, from the modules that define them.
readonly GATEWAY_API=sigs.k8s.io/gateway-api@v1.2.1 PROMETHEUS=github.com/prometheus-operator/prometheus-operator@v0.80.1 KEDA=github.com/kedacore/keda/v2@v2.16.1
readonly TOOLS=${XDG_CACHE_HOME:-$HOME/.cache}/roadstead/tools/go
readonly CHART=k8s/chart KUBERNETES=1.33.0 NAMESPACE=roadstead

scratch=$(mktemp -d)
export KUBELAB_DIR=$scratch/lab
failures=0

say() { printf '== %s\n' "$*"; }
wrong() { # what, and on stdin how
  failures=$((failures + 1))
  printf 'WRONG: %s\n' "$1" >&2
  sed 's/^/    /' >&2
}

finish() {
  local status=$?
  [ $status -eq 0 ] || [ -z "${stopped_at:-}" ] || echo "stopped at line $stopped_at with exit status $status" >&2
  [ ! -d "$KUBELAB_DIR" ] || e2e/kubelab/kubelab down >/dev/null 2>&1 || true
  rm -rf "$scratch"
  exit $status
}
trap finish EXIT
trap 'stopped_at=$LINENO' ERR

# --- tools -------------------------------------------------------------------------------------------------------------------

tool() { # folder name package version
  local program=$1/$2
  if [ ! -x "$program" ] || ! go version -m "$program" | grep -qE "^	mod	[^	]+	$4	"; then
    echo "installing $3@$4" >&2
    (cd / && GOBIN=$1 GOFLAGS=-mod=mod nice go install "$3@$4" >&2)
  fi
}

module_folder() { (cd / && go mod download -json "$1") | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'; }

helm3() { "$TOOLS/helm" "$@"; }
helm4() { "$TOOLS/helm4/helm" "$@"; }
kubectl() { e2e/kubelab/kubelab kubectl "$@"; }

render() { # helm values-file [arguments]
  local helm=$1 values=$2
  shift 2
  "$helm" template roadstead $CHART --namespace $NAMESPACE --kube-version $KUBERNETES --values "$values" "$@"
}

# --- without a cluster -------------------------------------------------------------------------------------------------------

check_generated() {
  say "generated files"
  wrong_if_any "stale" < <(HELM=$TOOLS/helm scripts/chart-generate.sh --check 2>&1)
}

wrong_if_any() { # what; on stdin, what is wrong. Not behind a pipe: the count would be lost.
  local text
  text=$(cat)
  [ -z "$text" ] || wrong "$1" <<<"$text"
}

names_in_code() {
  sed -n 's/^    [a-z]*("\([A-Z0-9_]*\)", &\[\([^]]*\)\].*/\1 \2/p' shared/backend/src/config/variables.rs | tr -d '",' | tr ' ' '\n' | grep .
}

check_names() {
  say "the variables' names"
  names_in_code | sort >"$scratch/code"
  sed -n '/^    "config": {/,/^    },/p' $CHART/values.schema.json | grep -oE '"[A-Z0-9_]+": \{' | tr -d '": {' | grep -v '^SSL_CERT_FILE$' | sort >"$scratch/schema"
  wrong_if_any "values.schema.json knows other variables than the programs" < <(diff "$scratch/code" "$scratch/schema")
  scripts/setup-config.sh --names | grep -vxE 'SSL_CERT_FILE|OPENAI_API_KEY|SENTRY_DSN' | sort >"$scratch/script"
  wrong_if_any "scripts/setup-config.sh knows other variables than the programs" < <(diff "$scratch/code" "$scratch/script")
}

# What the programs set for a session, PgBouncer has to set for each connection of its own.
check_pgbouncer() {
  say "PgBouncer's connections"
  local setting
  sed -n '/^const PLANNING/,/";$/p' shared/backend/src/store/database.rs | tr '\n' ' ' | grep -oE 'SET [a-z_]+ = [a-z0-9_.]+' >"$scratch/settings"
  [ -s "$scratch/settings" ] || wrong "no setting was found in database.rs" </dev/null
  while read -r setting; do
    grep -qF "$setting" $CHART/files/pgbouncer.ini || wrong "files/pgbouncer.ini lacks: $setting" </dev/null
  done <"$scratch/settings"
}

check_lint() {
  local helm values
  for helm in helm3 helm4; do
    say "$helm lint"
    for values in $CHART/values-trial.yaml $CHART/ci/*.yaml; do
      "$helm" lint --strict --quiet --kube-version $KUBERNETES $CHART --values "$values" >"$scratch/lint" 2>&1 || wrong "$helm lint, $values" <"$scratch/lint"
    done
  done
}

# (arguments of helm) must be refused with (words).
refused() { # words arguments...
  local words=$1 output
  shift
  if output=$(render helm3 $CHART/values-trial.yaml "$@" 2>&1); then
    wrong "accepted: $*" </dev/null
  elif [[ $output != *"$words"* ]]; then
    wrong "refused without \`$words\`: $*" <<<"$output"
  fi
}

check_refusals() {
  say "what must be refused"
  refused replicas --set api.replicas=2
  refused concurrency --set concurrency=2
  refused MAX_CONCURRENT_JOB --set config.MAX_CONCURRENT_JOB=1
  refused repo --set executor.image.repo=x
  refused username2 --set databaseExternal.username2=x
  refused pullPolicy --set worker.image.pullPolicy=Sometimes
  refused LAUNCHER --set config.LAUNCHER=process
  refused replicaCount --set api.replicaCount=two
  refused namespacePolicy --set executor.namespacePolicy=maybe
  refused "no S3" --set s3Internal.enabled=false
  refused "one of them" --set s3.endpoint=https://s3.example.com
  refused "no PostgreSQL" --set postgresql.enabled=false
  refused "no Redis" --set redis.enabled=false
  refused "set url, host or urlFromExistingSecret" --set databaseExternal.enabled=true
  refused "needs to know PostgreSQL" --set pgbouncer.enabled=true,existingConfig.prefix=x
  refused "executor.namespace of its own" --set executor.createNamespace=true
  refused "with different values" --set config.META_BUCKET=aaa,config.META_BUCKET_NAME=bbb
  refused "executor.namespace of its own" --set executor.createNamespace=true,executor.namespacePolicy=create,executor.namespace=jobs-%s
  refused "executor.watchNamespaces must hold roadstead" --set 'executor.watchNamespaces={jobs-a}'
  refused "executor.watchNamespaces must hold jobs-a" --set 'executor.namespace=jobs-a,config.WATCH_NAMESPACE=jobs-b'
  refused "executor.resources.requests: " --set executor.resources.requests.cpu=1
  refused "executor.maxResources.requests: " --set executor.maxResources.requests.cpu=1
  refused "gateway.className" --set gateway.enabled=true,gateway.create=true
}

# On top of the trial's values, each line is enough by itself.
alone() {
  cat <<'VALUES'
keda: {enabled: true}
gateway: {enabled: true}
ingress: {api: {enabled: true}}
ingress: {api: {enabled: true, hosts: null}}
pgbouncer: {enabled: true}
api: {statsd: {enabled: true}}
api: {deploymentStrategy: {type: Recreate}}
worker: {deploymentStrategy: {type: Recreate}}
api: {livenessProbe: null}
api: {readinessProbe: null}
worker: {livenessProbe: null}
worker: {readinessProbe: null}
api: {imagePullSecrets: [registry]}
worker: {imagePullSecrets: [registry]}
global: {imagePullSecrets: [registry, {name: registry}, another]}
api: {extraEnv: [{name: DATABASE_URL, value: a}, {name: REDIS_ADDR, value: a}, {name: S3_ACCESS_KEY_ID, value: a}, {name: S3_SECRET_ACCESS_KEY, value: a}]}
worker: {extraEnv: [{name: DATABASE_DSN, value: a}, {name: REDIS_URL, value: a}]}
config: {METRICS_PORT: 8080}
config: {METRICS_PORT: 9100, SERVER_ADDR: ":9100"}
{config: {METRICS_PORT: 9100}, service: {api: {port: 9100}}}
executor: {resources: {ephemeral_storage: 1Gi}, maxResources: {limits: {cpu: 2}}}
executor: {namespacePolicy: create}
VALUES
}

check_alone() {
  say "each value is enough by itself"
  local values helm
  while read -r values; do
    printf '%s\n' "$values" >"$scratch/values.yaml"
    for helm in helm3 helm4; do
      render $helm $CHART/values-trial.yaml --values "$scratch/values.yaml" >"$scratch/output" 2>&1 || wrong "$helm: $values" <"$scratch/output"
    done
  done < <(alone)
}

rendered() { # values template
  printf '%s\n' "$1" >"$scratch/values.yaml"
  render helm3 $CHART/values-trial.yaml --values "$scratch/values.yaml" --show-only "templates/$2" 2>&1
}

# (values) must make the template hold, or lack, each of (texts).
holds() { # values template texts...
  local values=$1 template=$2 text
  rendered "$values" "$template" >"$scratch/output" || true
  for text in "${@:3}"; do grep -qF -- "$text" "$scratch/output" || wrong "$values: $template lacks \`$text\`" <"$scratch/output"; done
}

lacks() { # values template texts...
  local values=$1 template=$2 text
  rendered "$values" "$template" >"$scratch/output" || true
  grep -q '^kind: ' "$scratch/output" || wrong "$values: $template" <"$scratch/output"
  for text in "${@:3}"; do ! grep -qF -- "$text" "$scratch/output" || wrong "$values: $template holds \`$text\`" <"$scratch/output"; done
}

# What is in a Secret of the template. (values template key)
secret_rendered() {
  rendered "$1" "$2" >"$scratch/output" || true
  secret_in "$scratch/output" "$3"
}

check_meanings() {
  say "what values mean"
  local values name long=abcdefghij-abcdefghij-abcdefghij-abcdefghij-abcdefghij part
  holds 'keda: {enabled: true}' worker/keda.yaml 'serverAddress: http://prometheus-operated.monitoring.svc:9090'
  holds 'gateway: {enabled: true}' api/gateway.yaml '    - name: roadstead'
  holds 'ingress: {api: {enabled: true}}' api/ingress.yaml '    - http:' 'path: /' 'pathType: Prefix'
  lacks 'ingress: {api: {enabled: true}}' configmap.yaml BASE_URL
  holds 'ingress: {api: {enabled: true, hosts: [{host: a.example.com}]}}' configmap.yaml 'BASE_URL: "http://a.example.com"'
  holds 'api: {statsd: {enabled: true}}' api/deployment.yaml 'fieldPath: status.hostIP'
  holds 'api: {statsd: {enabled: true, host: statsd}}' api/deployment.yaml 'value: "statsd"'
  lacks 'api: {deploymentStrategy: {type: Recreate}}' api/deployment.yaml rollingUpdate
  holds 'api: {deploymentStrategy: {rollingUpdate: {maxSurge: 3}}}' api/deployment.yaml 'maxSurge: 3'
  for part in api worker; do
    lacks "$part: {livenessProbe: null}" $part/deployment.yaml livenessProbe
    lacks "$part: {readinessProbe: null}" $part/deployment.yaml readinessProbe
    holds "$part: {readinessProbe: {tcpSocket: {port: 1}}}" $part/deployment.yaml readinessProbe 'port: 1'
    holds "$part: {image: {tag: 20240101}}" $part/deployment.yaml "image: roadstead-$part:20240101"
    holds "{global: {imagePullSecrets: [one]}, $part: {imagePullSecrets: [two, {name: three}]}}" $part/deployment.yaml '- name: one' '- name: two' '- name: three'
    lacks "$part: {extraEnv: [{name: DATABASE_DSN, value: a}, {name: S3_ACCESS_KEY_ID, value: a}]}" $part/deployment.yaml 'name: DATABASE_URL' 'key: S3_ACCESS_KEY_ID'
    holds "$part: {extraEnv: [{name: DATABASE_URL, value: a}]}" $part/deployment.yaml 'value: a' 'name: REDIS_URL'
  done
  holds 'executor: {image: {tag: 20240101}}' configmap.yaml 'EXECUTOR_IMAGE: "roadstead-executor:20240101"'
  holds 'executor: {imagePullSecrets: [one]}' executor/objects.yaml '- name: one'

  # One listener, one port; the worker's is another pod's.
  lacks 'config: {METRICS_PORT: 8080}' api/service.yaml 'name: metrics'
  lacks 'config: {METRICS_PORT: 8080}' api/deployment.yaml 'name: metrics'
  holds 'config: {METRICS_PORT: 8080}' worker/deployment.yaml 'containerPort: 8080'
  holds '{config: {METRICS_PORT: 9100}, service: {api: {port: 9100}}}' api/service.yaml 'port: 9100' 'port: 9101'

  holds 'executor: {resources: {ephemeral_storage: 3Gi}, maxResources: {ephemeral-storage: 4Gi}}' configmap.yaml 'JOB_EPHEMERAL_STORAGE: "3Gi"' 'JOB_MAX_EPHEMERAL_STORAGE: "4Gi"'
  holds 'executor: {resources: {limits: {cpu: 3, ephemeral-storage: 3Gi}}, maxResources: {limits: {memory: 1073741824}}}' configmap.yaml \
    'JOB_CPU: "3"' 'JOB_MEMORY: "128Mi"' 'JOB_EPHEMERAL_STORAGE: "3Gi"' 'JOB_MAX_MEMORY: "1073741824"'

  # The server inside and its clients agree.
  values='config: {S3_ACCESS_KEY_ID: an-id, S3_SECRET_ACCESS_KEY: a-secret, S3_REGION: eu-west-1}'
  holds "$values" internal/s3.yaml 'value: "eu-west-1"'
  expect "the server's access key" "$(secret_rendered "$values" internal/s3.yaml accessKey)" an-id
  expect "the server's secret key" "$(secret_rendered "$values" internal/s3.yaml secretKey)" a-secret
  expect "the clients' access key" "$(secret_rendered "$values" secret.yaml S3_ACCESS_KEY_ID)" an-id
  expect "the clients' secret key" "$(secret_rendered "$values" secret.yaml S3_SECRET_ACCESS_KEY)" a-secret

  # PgBouncer's quotes.
  values='{pgbouncer: {enabled: true}, databaseExternal: {enabled: true, host: "::1", database: "a \"name\" of o'"'"'neill"}}'
  secret_rendered "$values" internal/pgbouncer.yaml pgbouncer.ini >"$scratch/ini"
  grep -qF "* = host='::1' port=5432 dbname='a \"name\" of o''neill' connect_query=" "$scratch/ini" || wrong "a database's name" <"$scratch/ini"
  values='{pgbouncer: {enabled: true}, databaseExternal: {enabled: true, url: "postgres://me:secret@db?sslmode=require"}}'
  secret_rendered "$values" internal/pgbouncer.yaml pgbouncer.ini >"$scratch/ini"
  grep -qF "* = host='db' port=5432 dbname='me' connect_query=" "$scratch/ini" || wrong "a URL without a database" <"$scratch/ini"

  # The metadata services of clouds: their DNS and nothing else.
  holds '{s3Internal: {enabled: false}, s3: {endpoint: "https://s3.example.com"}}' executor/objects.yaml \
    'except: [169.254.0.0/16, 100.100.100.200/32]' 'except: [fe80::/10, fd00:ec2::254/128, fd20:ce::254/128]' 'cidr: 169.254.169.254/32' 'cidr: 169.254.20.10/32'
  expect "the metadata addresses' ports" "$(awk '/cidr: 169.254/ { within = 1 } within && /^    - to:/ { within = 0 } within && / port: / { printf "%s ", $NF }' "$scratch/output")" "53 53 "
  for name in 443 6443 8443 16443; do holds '' networkpolicies.yaml "- port: $name"; done

  while read -r name; do [ ${#name} -le 52 ] || wrong "a StatefulSet's name is too long for its revision" <<<"$name"; done < <(
    render helm3 $CHART/values-trial.yaml --set fullnameOverride=$long | awk '/^kind: StatefulSet$/ { getline; getline; print $2 }' | tee "$scratch/names"
  )
  [ "$(wc -l <"$scratch/names")" -eq 3 ] || wrong "other than three StatefulSets" <"$scratch/names"

  # The worker makes tenants' namespaces only.
  holds 'executor: {namespacePolicy: create}' configmap.yaml 'NAMESPACE_POLICY: "require"'
  holds 'executor: {namespacePolicy: create, namespace: jobs}' configmap.yaml 'NAMESPACE_POLICY: "require"'
  holds 'executor: {namespacePolicy: create, namespace: jobs}' executor/namespace.yaml 'name: jobs'
  holds 'executor: {namespacePolicy: create, namespace: jobs-%s}' configmap.yaml 'NAMESPACE_POLICY: "create"' 'NAMESPACE_OBJECTS_FILE: '
  holds 'executor: {namespace: jobs-a, watchNamespaces: [jobs-a, jobs-b]}' worker/rbac.yaml 'namespace: jobs-a' 'namespace: jobs-b'
}

# Random values differ from one rendering to the next.
without_random() { sed -E 's/^( *)(password|redis\.conf|secretKey|[A-Z0-9_]*(URL|KEY|KEY_ID)|userlist\.txt|pgbouncer\.ini|checksum\/[a-z]+): .*/\1\2/'; }

check_renderings() {
  local values
  say "Helm 3 and Helm 4 render the same"
  for values in $CHART/values-trial.yaml $CHART/ci/*.yaml; do
    render helm3 "$values" >"$scratch/three.yaml" 2>"$scratch/error" || wrong "helm3 template, $values" <"$scratch/error"
    render helm4 "$values" >"$scratch/four.yaml" 2>"$scratch/error" || wrong "helm4 template, $values" <"$scratch/error"
    wrong_if_any "$values" < <(diff --ignore-blank-lines <(without_random <"$scratch/three.yaml") <(without_random <"$scratch/four.yaml"))
  done
}

# Known findings, each with its reason:
#   CPU limits: they slow down what has CPU left; requests and the cap bound it.
#   ImagePullPolicy: tags are immutable versions; Always would tie every start to the registry.
#   low ids: the users of PostgreSQL's and Redis's own images, which own their files.
#   a policy without pods: that of the attempts, whose pods come later.
check_score() {
  local values
  say "kube-score"
  for values in $CHART/values.yaml $CHART/ci/full.yaml $CHART/ci/existing-config.yaml; do
    [ $values != $CHART/values.yaml ] || set -- --set s3Internal.enabled=true
    render helm3 "$values" "$@" >"$scratch/score.yaml"
    set --
    "$TOOLS/kube-score" score --output-format ci --kubernetes-version v1.29 --ignore-container-cpu-limit --ignore-test container-image-pull-policy \
      "$scratch/score.yaml" >"$scratch/score" || true
    wrong_if_any "kube-score, $values" < <(grep '^\[CRITICAL\]' "$scratch/score" |
      grep -vE 'roadstead-(postgresql|redis)/.* low (user|group) ID$' | grep -vE "roadstead-attempts/.*selector doesn't match any pods$")
    grep -q '^\[OK\]' "$scratch/score" || wrong "kube-score looked at nothing of $values" </dev/null
  done
}

check_no_secret_shows() {
  local values secret=do-not-show
  say "secrets are in Secrets only"
  for values in $CHART/ci/full.yaml $CHART/ci/external.yaml; do
    render helm3 "$values" --set postgresql.password=$secret,redis.password=$secret,s3.secretAccessKey=$secret,s3.accessKeyId=id,databaseExternal.password=$secret \
      --set redisExternal.url=redis://:$secret@redis,config.REDIS_ADDR=redis://:$secret@redis >"$scratch/all.yaml"
    grep -qF "$(printf %s $secret | base64)" "$scratch/all.yaml" || wrong "$values holds the secret nowhere" </dev/null
    wrong_if_any "$values shows a secret" < <(awk -v RS='---\n' '!/\nkind: Secret\n/' "$scratch/all.yaml" | grep -n -e "$secret" -e "$(printf %s $secret | base64)")
  done
}

# --- setup-config.sh ---------------------------------------------------------------------------------------------------------

expect() { # what found wanted
  [ "$2" = "$3" ] || wrong "$1" <<<"$2"$'\n'"is not"$'\n'"$3"
}

config_of() { scripts/setup-config.sh --dry-run --env-file "$1" 2>"$scratch/stderr"; }

secret_in() { # manifests key
  sed -n "s/^  $2: //p" "$1" | head -n 1 | base64 --decode
}

check_setup_config() {
  say "setup-config.sh"
  local env=$scratch/env made=$scratch/made.yaml
  cat >"$env" <<'ENV'
# A comment.
export DATABASE_DSN='postgres://u:p$w#d=%20@db:5432/r?sslmode=require'
REDIS_URL = redis://:a=b@redis:6379   # an inline comment
S3_ENDPOINT=https://s3.example.com
S3_ACCESS_KEY_ID=id#not-a-comment
S3_SECRET_ACCESS_KEY="a \"quoted\" one, \$5, $$6, ${S3_ACCESS_KEY_ID}, and
a second line"
META_BUCKET=meta-of-ours
CONTENT_BUCKET_NAME=${NOT_SET:-content}
RUST_LOG='info: {"a": b} # c \\'
JOB_TIMEOUT=2h
BASE_URL=
POSTGRES_PASSWORD=ignored
OPENAI_API_KEY=sk-1
ENV
  config_of "$env" >"$made" || wrong "a good file is refused" <"$scratch/stderr"
  expect DATABASE_URL "$(secret_in "$made" DATABASE_URL)" 'postgres://u:p$w#d=%20@db:5432/r?sslmode=require'
  expect DATABASE_DSN "$(secret_in "$made" DATABASE_DSN)" 'postgres://u:p$w#d=%20@db:5432/r?sslmode=require'
  expect REDIS_ADDR "$(secret_in "$made" REDIS_ADDR)" 'redis://:a=b@redis:6379'
  expect S3_ACCESS_KEY_ID "$(secret_in "$made" S3_ACCESS_KEY_ID)" 'id#not-a-comment'
  expect S3_SECRET_ACCESS_KEY "$(secret_in "$made" S3_SECRET_ACCESS_KEY)" $'a "quoted" one, $5, $6, id#not-a-comment, and\na second line'
  expect OPENAI_API_KEY "$(secret_in "$made" OPENAI_API_KEY)" sk-1
  grep -qxF '  META_BUCKET_NAME: "meta-of-ours"' "$made" || wrong "META_BUCKET_NAME" <"$made"
  grep -qxF '  CONTENT_BUCKET: "content"' "$made" || wrong "CONTENT_BUCKET" <"$made"
  grep -qxF '  JOB_TIMEOUT_SECONDS: "2h"' "$made" || wrong "JOB_TIMEOUT_SECONDS" <"$made"
  grep -qxF '  RUST_LOG: "info: {\"a\": b} # c \\\\"' "$made" || wrong "RUST_LOG" <"$made"
  grep -qE '^  (POSTGRES_PASSWORD|BASE_URL|SENTRY_DSN)' "$made" && wrong "something that should be left out is there" <"$made"
  sed 's/$/\r/' "$env" >"$scratch/crlf"
  config_of "$scratch/crlf" >"$scratch/made-of-crlf.yaml" || wrong "a good file with CRLF is refused" <"$scratch/stderr"
  wrong_if_any "CRLF makes a difference" < <(diff "$made" "$scratch/made-of-crlf.yaml")
  config_of .env.example >/dev/null || wrong ".env.example is refused" <"$scratch/stderr"

  printf 'DATABASE_URL=a\nDATABASE_DSN=b\nno assignment\nS3_ACCESS_KEY_ID=x\nA="open\n' >"$env"
  local status=0 words
  config_of "$env" >"$made" || status=$?
  expect "the exit status of a bad file" "$status" 2
  expect "what a bad file makes" "$(cat "$made")" ""
  for words in "different values" "line 3 is neither" "S3_ENDPOINT is missing" "META_BUCKET_NAME (or META_BUCKET) is missing" "S3_SECRET_ACCESS_KEY is missing" \
    "line 5: the quote is not closed"; do
    grep -qF -- "$words" "$scratch/stderr" || wrong "a bad file is refused without: $words" <"$scratch/stderr"
  done
  status=0
  config_of "$scratch/none" >/dev/null || status=$?
  expect "the exit status without a file" "$status" 2
}

# --- with a cluster ----------------------------------------------------------------------------------------------------------

start_cluster() {
  say "a cluster without nodes"
  local folder file
  e2e/kubelab/kubelab up --node none >/dev/null
  KUBECONFIG=$KUBELAB_DIR/kubeconfig
  export KUBECONFIG
  folder=$(module_folder $GATEWAY_API)/config/crd/standard
  set -- "$folder/gateway.networking.k8s.io_gateways.yaml" "$folder/gateway.networking.k8s.io_httproutes.yaml"
  folder=$(module_folder $PROMETHEUS)/example/prometheus-operator-crd
  set -- "$@" "$folder/monitoring.coreos.com_servicemonitors.yaml" "$folder/monitoring.coreos.com_prometheusrules.yaml"
  set -- "$@" "$(module_folder $KEDA)/config/crd/bases/keda.sh_scaledobjects.yaml"
  for file in "$@"; do kubectl apply --server-side -f "$file" >/dev/null; done
  kubectl wait --for=condition=Established --timeout=60s crd --all >/dev/null
  for file in $NAMESPACE sandbox-a sandbox-b other; do restricted_namespace "$file"; done
}

restricted_namespace() {
  kubectl create namespace "$1" >/dev/null
  kubectl label namespace "$1" pod-security.kubernetes.io/enforce=restricted pod-security.kubernetes.io/warn=restricted >/dev/null
}

# Warnings are errors: that is how the server names what in a Deployment's pods Pod Security would refuse.
taken() { kubectl apply --dry-run=server --validate=strict --warnings-as-errors -f "$1" >"$scratch/taken" 2>&1; }

check_server() {
  local values
  say "the server takes every rendering, with Pod Security \"restricted\""
  while read -r values; do
    printf '%s\n' "$values" >"$scratch/values.yaml"
    render helm3 $CHART/values-trial.yaml --values "$scratch/values.yaml" >"$scratch/all.yaml"
    taken "$scratch/all.yaml" || wrong "$values" <"$scratch/taken"
  done < <(alone)
  for values in $CHART/values-trial.yaml $CHART/ci/*.yaml; do
    render helm3 "$values" >"$scratch/all.yaml"
    # Dry run makes no namespace for what comes after.
    awk -v RS='---\n' '/\nkind: Namespace\n/' "$scratch/all.yaml" >"$scratch/namespaces.yaml"
    [ ! -s "$scratch/namespaces.yaml" ] || kubectl apply -f "$scratch/namespaces.yaml" >/dev/null
    taken "$scratch/all.yaml" || wrong "$values" <"$scratch/taken"
  done
  taken k8s/manifests || wrong k8s/manifests <"$scratch/taken"
  render helm3 $CHART/values-trial.yaml --set worker.securityContext.allowPrivilegeEscalation=true >"$scratch/all.yaml"
  if taken "$scratch/all.yaml"; then wrong "Pod Security was not asked: a worker with too many rights was taken" </dev/null; fi
}

password() { kubectl -n "$NAMESPACE" get secret roadstead-postgresql -o 'jsonpath={.data.password}'; }

# install, upgrade, uninstall, install again: one password, found in the URL, and no pod is replaced for nothing.
check_life() { # helm
  local helm=$1 first template
  say "$helm: install, upgrade, rollback, uninstall, install"
  local arguments=(roadstead $CHART --namespace $NAMESPACE --values $CHART/values-trial.yaml)
  "$helm" install "${arguments[@]}" >"$scratch/notes" 2>&1 || wrong "$helm install" <"$scratch/notes"
  grep -q 'keys create' "$scratch/notes" || wrong "the notes lack the key's creation" <"$scratch/notes"
  first=$(password)
  [ "${#first}" -gt 40 ] || wrong "no password" </dev/null
  kubectl -n $NAMESPACE get secret roadstead-connections -o 'jsonpath={.data.DATABASE_URL}' | base64 --decode | grep -qF "$(base64 --decode <<<"$first")" ||
    wrong "the URL holds another password" </dev/null
  template=$(kubectl -n $NAMESPACE get deployments,statefulsets -o 'jsonpath={.items[*].spec.template}')
  "$helm" upgrade "${arguments[@]}" >"$scratch/output" 2>&1 || wrong "$helm upgrade" <"$scratch/output"
  [ "$(password)" = "$first" ] || wrong "the upgrade changed the password" </dev/null
  [ "$(kubectl -n $NAMESPACE get deployments,statefulsets -o 'jsonpath={.items[*].spec.template}')" = "$template" ] ||
    wrong "an upgrade without changes replaces pods" </dev/null
  if "$helm" get values roadstead --namespace $NAMESPACE | grep -qF "$(base64 --decode <<<"$first")"; then wrong "the release's values hold the password" </dev/null; fi
  "$helm" upgrade "${arguments[@]}" --set config.MAX_CONCURRENT_JOBS=7 >/dev/null
  "$helm" rollback roadstead 1 --namespace $NAMESPACE >"$scratch/output" 2>&1 || wrong "$helm rollback" <"$scratch/output"
  [ "$(password)" = "$first" ] || wrong "the rollback changed the password" </dev/null
  "$helm" uninstall roadstead --namespace $NAMESPACE >/dev/null 2>&1
  kubectl -n $NAMESPACE delete pods --all --force >/dev/null 2>&1
  kubectl -n $NAMESPACE get all,secrets,configmaps,serviceaccounts,roles,rolebindings,networkpolicies,persistentvolumeclaims -o name |
    grep -vE '^(serviceaccount/default|configmap/kube-root-ca.crt)$' | sort >"$scratch/left"
  wrong_if_any "left behind" < <(printf '%s\n' persistentvolumeclaim/data-roadstead-{postgresql,redis,s3}-0 secret/roadstead-postgresql | diff - "$scratch/left")
  "$helm" install "${arguments[@]}" >"$scratch/output" 2>&1 || wrong "$helm install, again" <"$scratch/output"
  [ "$(password)" = "$first" ] || wrong "the next installation has another password for the same volume" </dev/null
  "$helm" uninstall roadstead --namespace $NAMESPACE >/dev/null 2>&1
  kubectl -n $NAMESPACE delete secret/roadstead-postgresql pvc --all --wait=false >/dev/null 2>&1 || kubectl -n $NAMESPACE delete pvc --all --wait=false >/dev/null
  kubectl -n $NAMESPACE delete secret roadstead-postgresql --ignore-not-found >/dev/null
}

can() { # yes|no namespace verb resource
  local answer
  answer=$(kubectl auth can-i "$3" "$4" --namespace "$2" --as system:serviceaccount:$NAMESPACE:roadstead-worker \
    --as-group system:serviceaccounts --as-group system:authenticated 2>/dev/null) || true
  [ "$answer" = "$1" ] || wrong "may the worker $3 $4 in $2? $answer, not $1" </dev/null
}

check_rights() {
  say "the worker's rights"
  local verb resource
  helm3 install roadstead $CHART --namespace $NAMESPACE --values $CHART/values-trial.yaml >/dev/null
  for verb in create get list watch delete; do can yes $NAMESPACE $verb jobs.batch; done
  for verb in list watch; do can yes $NAMESPACE $verb pods && can yes $NAMESPACE $verb events; done
  for verb in update patch deletecollection; do can no $NAMESPACE $verb jobs.batch; done
  for resource in pods secrets configmaps serviceaccounts namespaces; do for verb in create get delete; do can no $NAMESPACE $verb $resource; done; done
  for resource in pods/exec pods/log serviceaccounts/token; do can no $NAMESPACE create $resource; done
  for resource in jobs.batch pods secrets; do can no other list $resource; done
  for verb in create patch; do can no $NAMESPACE $verb namespaces && can no $NAMESPACE $verb networkpolicies.networking.k8s.io; done
  helm3 uninstall roadstead --namespace $NAMESPACE >/dev/null 2>&1

  render helm3 $CHART/ci/identity.yaml | awk -v RS='---\n' '/kind: (ClusterRole|ServiceAccount)/ { print "---\n" $0 }' | kubectl apply -f - >/dev/null
  can yes other create jobs.batch
  can yes other patch namespaces
  for resource in serviceaccounts resourcequotas limitranges networkpolicies.networking.k8s.io; do
    for verb in create patch; do can yes other $verb $resource; done
    for verb in get list delete; do can no other $verb $resource; done
  done
  can no other delete namespaces
  can no other get secrets
}

check_setup_config_applies() {
  say "setup-config.sh, applied twice"
  local env=$scratch/env before
  printf '%s\n' DATABASE_URL=postgres://db/r S3_ENDPOINT=https://s3 META_BUCKET=aaa CONTENT_BUCKET=bbb >"$env"
  printf '#!/bin/sh\nexec %q kubectl "$@"\n' "$PWD/e2e/kubelab/kubelab" >"$scratch/kubectl"
  chmod +x "$scratch/kubectl"
  export KUBECTL=$scratch/kubectl
  scripts/setup-config.sh --env-file "$env" --prefix ours >/dev/null 2>"$scratch/stderr" || wrong "it failed" <"$scratch/stderr"
  before=$(kubectl -n $NAMESPACE get secrets,configmaps -o 'jsonpath={.items[*].metadata.resourceVersion}')
  scripts/setup-config.sh --env-file "$env" --prefix ours >/dev/null 2>"$scratch/stderr" || wrong "the second time failed" <"$scratch/stderr"
  [ "$(kubectl -n $NAMESPACE get secrets,configmaps -o 'jsonpath={.items[*].metadata.resourceVersion}')" = "$before" ] || wrong "the second time changed something" </dev/null
  if scripts/setup-config.sh --env-file "$env" --namespace nowhere >/dev/null 2>&1; then wrong "a namespace that is not there is no error" </dev/null; fi

  # Whatever the chart refers to by the prefix is there.
  render helm3 $CHART/ci/existing-config.yaml --set existingConfig.prefix=ours | grep -oE 'name: ours-[a-z0-9-]+' | cut -c 7- | sort -u >"$scratch/wanted"
  [ "$(wc -l <"$scratch/wanted")" -eq 5 ] || wrong "the chart refers to other than five objects by the prefix" <"$scratch/wanted"
  kubectl -n $NAMESPACE get secret,configmap -o name | cut -d / -f 2 | sort >"$scratch/there"
  wrong_if_any "the chart refers to what setup-config.sh does not make" < <(comm -23 "$scratch/wanted" "$scratch/there")
}

for needed in go base64 awk; do command -v $needed >/dev/null || { echo "$needed is missing" >&2; exit 1; }; done
tool "$TOOLS" helm helm.sh/helm/v3/cmd/helm $HELM3
tool "$TOOLS/helm4" helm helm.sh/helm/v4/cmd/helm $HELM4
tool "$TOOLS" kube-score github.com/zegl/kube-score/cmd/kube-score $KUBE_SCORE
export HELM_CACHE_HOME=$scratch/helm/cache HELM_CONFIG_HOME=$scratch/helm/config HELM_DATA_HOME=$scratch/helm/data

check_generated
check_names
check_pgbouncer
check_lint
check_refusals
check_alone
check_meanings
check_renderings
check_score
check_no_secret_shows
check_setup_config
start_cluster
check_server
check_life helm3
check_life helm4
check_rights
check_setup_config_applies

[ $failures -eq 0 ] || { printf '%d check(s) failed\n' $failures >&2; exit 1; }
printf 'chart-check passed in %d s\n' $SECONDS
