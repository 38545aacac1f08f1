//! What the servers share beside the domain: PostgreSQL, Redis, S3, configuration, telemetry, and the batcher in front of the store.
//!
//! No actix, no launcher, no Kubernetes.

pub mod batch;
pub mod config;
pub mod dispatch;
pub mod objects;
mod outage;
pub mod secrets;
pub mod store;
pub mod telemetry;
