//! The lease: until when this attempt's code may run without word from the API.
//!
//! It begins when a request that was answered was *sent*, so on the API's side it can only begin later. Whatever happens to the
//! network, the children are gone before the API may take the attempt for lost.

use crate::clock;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// When, counted from its last renewal, a lease that is not renewed stops the children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// SIGTERM.
    pub stop_after: Duration,
    /// SIGKILL.
    pub kill_after: Duration,
}

/// Between the last SIGKILL and the lease's end, for dying and for clocks that differ.
const LONGEST_MARGIN: Duration = Duration::from_secs(3);

impl Terms {
    /// A long grace never eats up the lease: three quarters of it are for waiting.
    pub fn of(lease: Duration, grace: Duration) -> Self {
        let kill_after = lease.saturating_sub((lease / 20).min(LONGEST_MARGIN));
        Self { stop_after: kill_after.saturating_sub(grace).max(lease * 3 / 4), kill_after }
    }
}

/// Shared by the heartbeat, which renews, and the guard, which watches.
#[derive(Debug)]
pub struct Lease {
    terms: Terms,
    renewed: watch::Sender<Instant>,
}

impl Lease {
    pub fn new(terms: Terms, from: Instant) -> Self {
        Self { terms, renewed: watch::Sender::new(from) }
    }

    /// A request sent at `sent` was answered.
    pub fn renew(&self, sent: Instant) {
        self.renewed.send_if_modified(|at| {
            sent > *at && {
                *at = sent;
                true
            }
        });
    }

    pub fn kill_at(&self) -> Instant {
        *self.renewed.borrow() + self.terms.kill_after
    }

    /// Whether the children must be told to stop by now, and none started.
    pub fn is_ending(&self) -> bool {
        *self.renewed.borrow() + self.terms.stop_after <= clock::now()
    }

    /// Waits until the children must be told to stop.
    pub async fn ends(&self) {
        loop {
            let stop_at = *self.renewed.borrow() + self.terms.stop_after;
            if stop_at <= clock::now() {
                return;
            }
            tokio::time::sleep_until(stop_at).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn an_api_that_is_away_for_a_minute_stops_nothing_under_the_default_lease() {
        for grace in [0, 10, 30, 300] {
            let terms = Terms::of(seconds(90), seconds(grace));
            assert!(terms.stop_after > seconds(65), "{terms:?}");
            assert!(terms.stop_after <= terms.kill_after && terms.kill_after == seconds(87), "{terms:?}");
        }
        assert_eq!(Terms::of(seconds(90), seconds(10)).stop_after, seconds(77));
    }

    #[test]
    fn a_short_lease_has_a_margin_too() {
        let terms = Terms::of(seconds(2), seconds(10));
        assert_eq!((terms.stop_after, terms.kill_after), (Duration::from_millis(1500), Duration::from_millis(1900)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_after_its_last_renewal_and_an_old_answer_renews_nothing() {
        let start = clock::now();
        let lease = Lease::new(Terms::of(seconds(90), seconds(10)), start);
        let renewals = async {
            tokio::time::sleep(seconds(50)).await;
            assert!(!lease.is_ending());
            lease.renew(start + seconds(40));
            lease.renew(start + seconds(30));
        };
        tokio::join!(lease.ends(), renewals);
        assert!(lease.is_ending());
        assert_eq!(clock::now(), start + seconds(40 + 77));
        assert_eq!(lease.kill_at(), start + seconds(40 + 87));
    }
}
