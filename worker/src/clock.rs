//! This process's clocks: the only place that reads them. What other processes must agree on is timed by the database.

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

/// Monotonic.
pub fn now() -> Instant {
    Instant::now()
}

/// The time of day, to be compared with what a cluster says of its own: the two may differ.
pub fn wall() -> Timestamp {
    Timestamp::now()
}
