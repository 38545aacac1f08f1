//! How often, and for how long, something is tried again: exponentially longer waits with jitter, always with an end.

use crate::random;
use backon::{ExponentialBuilder, Retryable};
use std::time::Duration;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Tries until it works, until an error is not a `passing` one, or until `patience` is used up by waiting.
pub async fn retry<T, E, F, Fut>(patience: Duration, passing: impl FnMut(&E) -> bool, operation: F) -> Result<T, E>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    operation.retry(waits(patience)).when(passing).await
}

/// The waits between tries.
pub fn waits(patience: Duration) -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .with_factor(2.0)
        .with_jitter()
        .with_jitter_seed(random::jitter_seed())
        .without_max_times()
        .with_total_delay(Some(patience))
}
