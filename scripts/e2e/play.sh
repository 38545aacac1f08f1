#!/usr/bin/env bash
# `make run LAUNCHER=kubernetes`: the whole system in a Kubernetes cluster of this machine, until Ctrl-C.
set -Eeuo pipefail
cd "$(dirname "$0")/../.."
. scripts/e2e/lab.sh
. scripts/e2e/images.sh
. scripts/e2e/install.sh

raise_all
say "the sample \`word-count\`"
readonly CLI=${CARGO_TARGET_DIR:-target}/release/roadstead
"$CLI" submit examples/word-count/workflow.yaml --input @examples/word-count/input.json --watch || note "the sample did not succeed"

cat <<TEXT

Roadstead is running in Kubernetes.

  API      $ROADSTEAD_URL
  docs     $ROADSTEAD_URL/docs
  key      $ROADSTEAD_API_KEY

In another terminal:

  . $LAB/env
  $CLI submit examples/diamond.yaml --watch
  kubectl -n $JOBS_NAMESPACE get jobs,pods --watch
  kubectl -n $NAMESPACE logs -f deployment/$RELEASE-worker
  make roll          after a change: build, load into the cluster, replace the pods

Ctrl-C ends everything and removes it.
TEXT
sleep infinity &
trap 'kill $!; exit 0' INT TERM HUP
wait $!
