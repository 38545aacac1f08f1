# Sourced: a Kubernetes cluster with one real node (e2e/kubelab) for as long as a script runs. A machine has room for one: a lock
# makes the next script wait. The state folder keeps the logs when all else is gone.

. scripts/compose/engine.sh

readonly CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/roadstead
readonly LAB=$CACHE/e2e GO_TOOLS=$CACHE/tools/go
readonly HELM=v3.19.5
readonly LOCK=/run/roadstead-lab.lock WAIT_SECONDS=3600
export KUBELAB_DIR=$LAB/cluster KUBECONFIG=$LAB/cluster/kubeconfig
export PATH=$LAB/bin:$GO_TOOLS:$PATH:/usr/sbin:/sbin

# A node that is silent for this long is lost; its pods go a little later. The second, simulated node keeps the cluster from
# holding back evictions as it does when all nodes are silent; it takes no pods.
# What pods write is measured every 5 s instead of every minute.
# KUBELAB_FLAGS: what else is wanted, as `--netpol=false`.
read -r -a more_flags <<<"${KUBELAB_FLAGS:-}"
readonly LAB_FLAGS=(--node real --nodes 1 --node-lost-after 12s --evict-after 5s --arg kubelet:--volume-stats-agg-period=5s "${more_flags[@]}")

say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }
note() { printf '%s\n' "$*" >&2; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

# --- what it needs -----------------------------------------------------------------------------------------------------------

static_busybox() { [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1; }

lab_packages() {
  local pair missing=()
  for pair in containerd:containerd runc:runc ip:iproute2 nft:nftables mount:mount curl:curl /usr/lib/cni/ptp:containernetworking-plugins; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  static_busybox || missing+=(busybox-static)
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || fail "missing: ${missing[*]}"
  note "apt-get install ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
}

lab_tools() {
  local why
  why=$(scripts/e2e/possible.sh) || fail "$why"
  lab_packages
  if ! go version -m "$GO_TOOLS/helm" 2>/dev/null | grep -qE "mod.helm\.sh/helm/v3.$HELM"; then
    note "compiling helm $HELM"
    GOBIN=$GO_TOOLS CGO_ENABLED=0 nice go install -ldflags "-s -w" "helm.sh/helm/v3/cmd/helm@$HELM"
  fi
  mkdir -p "$LAB/bin"
  # One binary: it acts by the name under which it is called.
  ln -sf "$(e2e/kubelab/kubelab build)" "$LAB/bin/kubelab"
  ln -sf "$(readlink "$LAB/bin/kubelab")" "$LAB/bin/kubectl"
}

# --- up and down -------------------------------------------------------------------------------------------------------------

# What stays behind a script must not hold the lock.
outliving() { "$@" 8>&- 9>&-; }

lab_lock() {
  exec 9>"$LOCK"
  flock --nonblock 9 && return
  note "another lab runs on this machine: waiting until it ends"
  flock --timeout $WAIT_SECONDS 9 || fail "it still runs after $WAIT_SECONDS s"
}

# A real node of somebody who knows nothing of our lock.
foreign_node() {
  local owner
  owner=$(cat /sys/class/net/kubelab0/ifalias 2>/dev/null) && [ "$owner" != "$KUBELAB_DIR" ] && kubelab status --dir "$owner" >/dev/null 2>&1
}

lab_up() {
  local until=$((SECONDS + WAIT_SECONDS))
  ! foreign_node || note "kubelab runs in $(cat /sys/class/net/kubelab0/ifalias): waiting until it ends"
  while foreign_node; do
    [ $SECONDS -lt $until ] || fail "it still runs after $WAIT_SECONDS s"
    sleep 5
  done
  kubelab down # of a script that was killed
  outliving kubelab up "${LAB_FLAGS[@]}" >/dev/null
}

# From here on, whatever was started ends with the script; a second Ctrl-C can't stop that.
lab_begin() {
  lab_lock
  trap lab_end EXIT
  trap 'stopped_at="line $LINENO of ${BASH_SOURCE[0]}"' ERR
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}

lab_end() {
  local status=$?
  set +e
  trap '' INT TERM HUP
  trap - ERR
  case $status in
    0 | 130 | 143) ;;
    *) lab_report; note "stopped at ${stopped_at:-a check} with exit status $status" ;;
  esac
  kubelab down || status=1
  engine_down
  exit $status
}

# --- when something went wrong -------------------------------------------------------------------------------------------------

lab_report() {
  local namespace pod kubectl=(kubectl --request-timeout 10s)
  "${kubectl[@]}" version >/dev/null 2>&1 || { note "no cluster answers; its logs: $KUBELAB_DIR/logs"; return 0; }
  {
    echo "--- pods"
    "${kubectl[@]}" get pods --all-namespaces --output wide
    echo "--- Jobs"
    "${kubectl[@]}" get jobs --all-namespaces
    echo "--- events that are no routine"
    "${kubectl[@]}" get events --all-namespaces --field-selector type!=Normal --sort-by .lastTimestamp | tail -n 40
    for namespace in "$NAMESPACE" "$JOBS_NAMESPACE"; do
      for pod in $("${kubectl[@]}" -n "$namespace" get pods --output name); do
        echo "--- $namespace $pod"
        "${kubectl[@]}" -n "$namespace" logs "$pod" --all-containers --previous --tail 20 2>/dev/null | cut -c 1-400
        "${kubectl[@]}" -n "$namespace" logs "$pod" --all-containers --tail 30 2>&1 | cut -c 1-400
      done
    done
  } >&2
}
