//! This process's monotonic clock: the only place that reads it. What other processes must agree on is timed by the database.

use tokio::time::Instant;

pub fn now() -> Instant {
    Instant::now()
}
