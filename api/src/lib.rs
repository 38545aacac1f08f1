//! `roadstead-api`: the thin HTTP front. It validates, records, enqueues, reads and presigns, and is the executor's counterpart.
//!
//! Invariants: a 2xx to a submission means a committed row; every query names the tenant of a checked key; every refusal is a problem document.
//! It never launches anything and never waits for Redis before it answers.

pub mod admin;
pub mod artifacts;
pub mod attempts;
pub mod auth;
pub mod cancel;
pub mod capacity;
pub mod changes;
pub mod clock;
pub mod docs;
pub mod enqueue;
pub mod envelope;
pub mod health;
mod http_metrics;
pub mod json_body;
pub mod logs;
pub mod metrics;
pub mod openapi;
pub mod problem;
pub mod query;
pub mod quota;
pub mod result;
pub mod retry;
pub mod run;
pub mod server;
mod startup;
pub mod state;
pub mod submit;
pub mod workflow_cache;
pub mod workflows;
