#!/usr/bin/env bash
# Proves Roadstead on a real Kubernetes: builds the images, starts a cluster with one real node (e2e/kubelab), installs the chart
# with everything inside, runs the example, the cluster's tests, and an upgrade, a rollback and an uninstallation with work running; in
# the end the node is lost.
# Starts an engine and a cluster of its own and ends them, also on failure. Where no image can be pulled, local stand-ins take their
# place (scripts/compose/standins.sh).
set -Eeuo pipefail
cd "$(dirname "$0")/.."
. scripts/e2e/lab.sh
. scripts/e2e/images.sh
. scripts/e2e/install.sh
. scripts/e2e/release.sh
. scripts/api.sh

raise_all

say "the example"
run_example
read_artifact

say "helm test"
helm test $RELEASE --namespace $NAMESPACE --timeout 2m --hide-notes

say "the tests on the node"
nice cargo test --locked --workspace --test node -- --ignored --test-threads=3 --skip how_long --skip disturb:: --skip node_loss::

say "the tests that take parts of the cluster away"
nice cargo test --locked --workspace --test node -- --ignored --test-threads=1 disturb::

say "helm upgrade with work running: PgBouncer comes between"
replace_under_load upgrade_release --set pgbouncer.enabled=true --set pgbouncer.replicaCount=1
run_example

say "helm rollback with work running"
replace_under_load helm rollback $RELEASE 1 --namespace $NAMESPACE --wait --timeout 5m

say "helm uninstall"
uninstall_release

# Last, because all that is on the node goes with it.
say "a lost node"
nice cargo build --locked --workspace --bins --test node
nice cargo test --locked --workspace --test node -- --ignored node_loss::

printf '\ne2e passed in %d s\n' $SECONDS
