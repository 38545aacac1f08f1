//! What a program says about itself: a log for people and collectors, metrics for Prometheus.
//!
//! Called once, by `main`. Never blocks who logs or counts, and never holds an id, a key or a URL's query as a metric's label.

mod filter;
mod log;
pub mod metrics;
mod process;

pub use filter::Filter;
pub use log::{Guard, logger};
pub use metrics::{MetricsHandle, install_metrics};
