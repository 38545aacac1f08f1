# Sourced: Roadstead in the lab, by its own chart, as an operator would install it.

readonly RELEASE=roadstead NAMESPACE=roadstead JOBS_NAMESPACE=roadstead-jobs

# A lab with Roadstead in it, for as long as the script runs.
raise_all() {
  say "tools"
  lab_tools
  lab_begin
  say "images"
  engine_up
  build_images
  engine_down
  say "cluster"
  lab_up
  load_images
  say "helm install"
  install_release
  reach_release
}

install_release() {
  kubectl create namespace $NAMESPACE
  kubectl label namespace $NAMESPACE pod-security.kubernetes.io/{enforce,warn}=restricted
  kubectl -n $NAMESPACE apply --filename scripts/e2e/s3-door.yaml
  helm install $RELEASE k8s/chart --namespace $NAMESPACE --values k8s/chart/values-trial.yaml --values scripts/e2e/values.yaml \
    --wait --timeout 5m --hide-notes
  enforced=$(kubectl get namespaces --selector pod-security.kubernetes.io/enforce=restricted --output name | paste -s -d ' ')
  [ "$enforced" = "namespace/$NAMESPACE namespace/$JOBS_NAMESPACE" ] || fail "Pod Security is enforced in $enforced only"
}

# With the same values, and what else is given.
upgrade_release() { # helm's arguments
  helm upgrade $RELEASE k8s/chart --namespace $NAMESPACE --reset-then-reuse-values --wait --timeout 5m --hide-notes "$@"
}

# Leaves $URL and $KEY for api.sh; for tests, commands and people the same and more in the environment and in $LAB/env.
reach_release() {
  local address
  address=$(kubectl -n $NAMESPACE get service $RELEASE-api --output jsonpath='{.spec.clusterIP}:{.spec.ports[0].port}')
  ROADSTEAD_API_KEY=$(kubectl -n $NAMESPACE exec deployment/$RELEASE-api --container api -- \
    /usr/local/bin/roadstead-api keys create --tenant e2e | awk '/^rs/ { print $1 }')
  [ -n "$ROADSTEAD_API_KEY" ] || fail "keys create printed no key"
  export ROADSTEAD_URL=http://$address ROADSTEAD_API_KEY
  export ROADSTEAD_RELEASE=$RELEASE ROADSTEAD_NAMESPACE=$NAMESPACE ROADSTEAD_JOBS_NAMESPACE=$JOBS_NAMESPACE
  export ROADSTEAD_IMAGE_BUSYBOX=$TEST_BUSYBOX ROADSTEAD_IMAGE_HELLO=$TEST_HELLO ROADSTEAD_IMAGE_UNFIT=$TEST_UNFIT
  export ROADSTEAD_IMAGE_EXECUTOR=roadstead-executor:dev
  URL=$ROADSTEAD_URL/v1 KEY=$ROADSTEAD_API_KEY
  {
    declare -p ${!ROADSTEAD_*} KUBECONFIG KUBELAB_DIR | sed -n 's/^declare -x /export /p'
    echo "export PATH=$LAB/bin:$GO_TOOLS:\$PATH"
  } >"$LAB/env"
}
