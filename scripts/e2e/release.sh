# Sourced: what happens to a release after its installation, with work running all the while.

readonly SLEEPERS=6 SLEEP_SECONDS=15

# More than the cap of values-trial.yaml: some wait while the pods are replaced.
submit_sleepers() {
  local body='{"spec":{"steps":[{"id":"wait","command":["sleep","'$SLEEP_SECONDS'"]}],"max_retries":0}}'
  sleepers=()
  for _ in $(seq 1 $SLEEPERS); do
    sleepers+=("$(api POST /executions --header 'Content-Type: application/json' --data "$body" | field id)")
  done
  for _ in $(seq 1 120); do
    ! api GET "/executions/${sleepers[0]}" | strings state | grep -q running || return 0
    sleep 0.5
  done
  fail "the execution ${sleepers[0]} does not start"
}

# A line for the API and one for the worker.
generations() {
  kubectl -n $NAMESPACE get deployments --selector 'app.kubernetes.io/component in (api, worker)' \
    --output jsonpath='{range .items[*]}{.metadata.name} {.status.observedGeneration}{"\n"}{end}'
}
password() { kubectl -n $NAMESPACE get secret $RELEASE-postgresql --output jsonpath='{.data.password}'; }

# Runs a command that replaces every pod of ours; no execution may notice.
replace_under_load() { # command...
  local before kept execution
  before=$(generations)
  kept=$(password)
  submit_sleepers
  "$@"
  [ -z "$(comm -12 <(sort <<<"$before") <(generations | sort))" ] || fail "not all pods were replaced: this says nothing"
  [ "$(password)" = "$kept" ] || fail "the generated password changed"
  for execution in "${sleepers[@]}"; do
    wait_for_success "$execution"
    api GET "/executions/$execution" | grep -qE '"attempt" ?: ?1\b' || fail "the execution $execution took more than one attempt"
  done
  echo "${#sleepers[@]} executions succeeded, each in its first attempt"
}

# Everything of the namespace that came neither with it nor with the lab.
leftovers() {
  local kinds
  kinds=$(kubectl api-resources --namespaced --verbs list --output name | grep -vE '^events' | paste -s -d ,)
  {
    kubectl -n $NAMESPACE get "$kinds" --output name 2>/dev/null \
      | grep -vE '^(configmap/kube-root-ca\.crt|serviceaccount/default|(service|endpoints|networkpolicy\.networking\.k8s\.io)/lab-s3|endpointslice.*/lab-s3-.*)$'
    kubectl get namespaces,clusterroles,clusterrolebindings,persistentvolumes,priorityclasses --output name \
      --selector app.kubernetes.io/instance=$RELEASE
  } | sort || true
}

uninstall_release() {
  local notes left one
  notes=$(helm get notes $RELEASE --namespace $NAMESPACE)
  helm uninstall $RELEASE --namespace $NAMESPACE --wait --timeout 3m
  # What belonged to something that is gone goes a little later.
  for _ in $(seq 1 60); do
    left=$(leftovers)
    grep -qvE '^(persistentvolumeclaim|secret)/' <<<"$left" || break
    sleep 1
  done
  for one in $left; do
    grep -qF "${one#*/}" <<<"$notes" || fail "left behind, and not in the notes: $one"
  done
  printf 'left behind, as the notes say:\n%s\n' "$left"
}
