//! Roadstead over a real Kubernetes control plane, whose node and executors are played: what is promised must hold whoever dies between which two lines.
//!
//! `KUBECONFIG` names a cluster without nodes; `scripts/e2e/launchers.sh` starts one. Each test has its own database, Redis prefix, buckets and namespace.

mod boundaries;
mod outages;
mod redis_door;
mod world;
