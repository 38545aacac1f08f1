//! The two clocks: wall time for what people read, monotonic time for every decision.

use std::time::{SystemTime, UNIX_EPOCH};
pub use tokio::time::Instant;

/// Milliseconds since the Unix epoch.
pub fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Monotonic; the lease and all deadlines are measured on it.
pub fn now() -> Instant {
    Instant::now()
}
