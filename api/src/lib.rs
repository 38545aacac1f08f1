//! `roadstead-api`: the thin HTTP front. It validates, records, enqueues, reads and presigns, and is the executor's counterpart.
//!
//! Invariants: a 2xx to a submission means a committed row; every query names the tenant of a checked key; every refusal is a problem document.
//! It never launches anything and never waits for Redis before it answers.

pub mod auth;
pub mod changes;
pub mod envelope;
pub mod json_body;
pub mod problem;
pub mod server;
pub mod state;
