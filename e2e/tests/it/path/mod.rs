//! The main path, and all that can be asked along it.

mod artifacts;
mod batch;
mod bytes;
mod examples;
mod follow;
mod idempotency;
mod listing;
mod logs;
mod retention;
mod service;
mod step;
mod turns;
mod word_count;
mod workflows;
