//! Roadstead on a real node, as its chart installed it: real images, real containers, real failures.
//!
//! `scripts/e2e.sh` makes the lab and says in the environment where everything is: `ROADSTEAD_URL`, `ROADSTEAD_API_KEY`, `ROADSTEAD_NAMESPACE`,
//! `ROADSTEAD_JOBS_NAMESPACE`, `ROADSTEAD_IMAGE_BUSYBOX`, `ROADSTEAD_IMAGE_HELLO`, `ROADSTEAD_IMAGE_UNFIT`,
//! `ROADSTEAD_IMAGE_EXECUTOR`, `KUBECONFIG`.

mod disturb;
mod failures;
mod lab;
mod latency;
mod node_loss;
mod outside;
mod runs;
mod secrets;
mod start_deadline;
