#!/usr/bin/env bash
# The Kubernetes launcher and whole Roadsteads before a real control plane, with nodes and executors that the tests play: what is
# launched, seen, stopped and taken over, whoever dies between which two lines. Starts a cluster of its own and ends it.
set -Eeuo pipefail
cd "$(dirname "$0")/../.."

readonly STATE=${XDG_CACHE_HOME:-$HOME/.cache}/roadstead/e2e/launchers
export KUBELAB_DIR=$STATE KUBECONFIG=$STATE/kubeconfig
kubelab() { e2e/kubelab/kubelab "$@"; }

cargo build --workspace --all-targets --locked
kubelab down >/dev/null 2>&1 || true
trap 'kubelab down' EXIT
kubelab up --node none --qps 500 --job-syncs 16 >/dev/null
cargo test --locked -p roadstead-worker --test kubernetes_launcher -- --ignored
cargo test --locked -p roadstead-e2e --test cluster -- --ignored --test-threads=3
