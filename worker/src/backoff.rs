//! How long to wait before something that failed is tried again: longer each time, with jitter, never too long to find a server that
//! came back within five seconds.

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use std::time::Duration;

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Backoff(ExponentialBackoff);

impl Default for Backoff {
    fn default() -> Self {
        let waits = ExponentialBuilder::new()
            .with_min_delay(FIRST_WAIT)
            .with_max_delay(LONGEST_WAIT)
            .with_factor(2.0)
            .with_jitter()
            .without_max_times();
        Self(waits.build())
    }
}

impl Backoff {
    pub fn next_wait(&mut self) -> Duration {
        // Jitter is added to the wait, so that the longest one may come out a little longer.
        self.0.next().unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT)
    }

    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let first = backoff.next_wait();
        assert!((FIRST_WAIT..FIRST_WAIT * 2).contains(&first), "{first:?}");
        assert!((0..50).all(|_| backoff.next_wait() <= LONGEST_WAIT));
        assert_eq!(backoff.next_wait(), LONGEST_WAIT);
        backoff.reset();
        assert!(backoff.next_wait() < FIRST_WAIT * 2);
    }
}
