//! When the supervisor looks again, and which of its jobs are due then. Pure.

use std::time::Duration;
use tokio::time::Instant;

/// While something is queued or live.
const BUSY: Duration = Duration::from_secs(1);
/// While somebody else supervises.
const BYSTANDER: Duration = Duration::from_secs(2);
/// A system that was busy is watched for this much longer, so that one execution after another is not a beginning and an end each.
const LINGER: Duration = Duration::from_secs(10);
/// A row whose time has come but that is locked by somebody is not waited for in circles.
const SHORTEST: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Somebody else holds the lease.
    Bystander,
    /// Holds the lease: there is work.
    Busy,
    /// There is nothing to do, so nobody needs the lease.
    Idle,
}

/// How long to wait, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    pub at_most: Duration,
    /// Whether to answer the supervisors' bell: its ring is for one.
    pub listen: bool,
    /// Whether a launch of this worker's own is news: a sign of work that rings no bell here.
    pub launches_are_news: bool,
}

/// `next_in`: when the next row asks for something.
pub fn rest(role: Role, next_in: Option<Duration>, reconcile_interval: Duration) -> Rest {
    let until_next = |at_most: Duration| next_in.map_or(at_most, |next| next.clamp(SHORTEST, at_most.max(SHORTEST)));
    match role {
        Role::Bystander => Rest { at_most: BYSTANDER, listen: false, launches_are_news: false },
        Role::Busy => Rest { at_most: until_next(BUSY), listen: true, launches_are_news: false },
        Role::Idle => Rest { at_most: until_next(reconcile_interval), listen: true, launches_are_news: true },
    }
}

/// Busy, or was a moment ago.
#[derive(Debug, Default)]
pub struct Bustle {
    until: Option<Instant>,
}

impl Bustle {
    pub fn observe(&mut self, busy: bool, now: Instant) -> bool {
        if busy {
            self.until = Some(now + LINGER);
        }
        self.until.is_some_and(|until| now < until)
    }
}

/// A job that is done at most this often.
#[derive(Debug)]
pub struct Every {
    interval: Duration,
    last: Option<Instant>,
}

impl Every {
    pub const fn new(interval: Duration) -> Self {
        Self { interval, last: None }
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.duration_since(last) >= self.interval)
    }

    /// Whether it is due; then it counts as done.
    pub fn take(&mut self, now: Instant) -> bool {
        let due = self.is_due(now);
        if due {
            self.last = Some(now);
        }
        due
    }

    /// It did not work: due again at the next look.
    pub fn again(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECONCILE: Duration = Duration::from_secs(30);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn an_idle_supervisor_sleeps_until_the_next_row_or_the_reconciliation() {
        let whole = Rest { at_most: RECONCILE, listen: true, launches_are_news: true };
        assert_eq!(rest(Role::Idle, None, RECONCILE), whole);
        assert_eq!(rest(Role::Idle, Some(seconds(7)), RECONCILE).at_most, seconds(7));
        assert_eq!(rest(Role::Idle, Some(seconds(3600)), RECONCILE).at_most, RECONCILE);
    }

    #[test]
    fn a_busy_one_looks_every_second_or_sooner() {
        let second = Rest { at_most: seconds(1), listen: true, launches_are_news: false };
        assert_eq!(rest(Role::Busy, None, RECONCILE), second);
        assert_eq!(rest(Role::Busy, Some(Duration::from_millis(300)), RECONCILE).at_most, Duration::from_millis(300));
    }

    #[test]
    fn a_row_that_is_due_and_stays_makes_no_busy_loop() {
        assert_eq!(rest(Role::Busy, Some(Duration::ZERO), RECONCILE).at_most, SHORTEST);
        assert_eq!(rest(Role::Idle, Some(Duration::ZERO), RECONCILE).at_most, SHORTEST);
    }

    #[test]
    fn a_bystander_takes_nobodys_ring() {
        let deaf = Rest { at_most: seconds(2), listen: false, launches_are_news: false };
        assert_eq!(rest(Role::Bystander, Some(Duration::ZERO), RECONCILE), deaf);
    }

    #[test]
    fn bustle_lasts_a_little_longer_than_work() {
        let (mut bustle, start) = (Bustle::default(), crate::clock::now());
        assert!(!bustle.observe(false, start));
        assert!(bustle.observe(true, start));
        assert!(bustle.observe(false, start + seconds(9)));
        assert!(!bustle.observe(false, start + seconds(10)));
    }

    #[test]
    fn a_job_is_due_at_first_then_after_its_interval_and_after_a_failure() {
        let (mut job, start) = (Every::new(seconds(5)), crate::clock::now());
        assert!(job.is_due(start) && job.take(start));
        assert!(!job.take(start + seconds(4)));
        assert!(job.take(start + seconds(5)));
        job.again();
        assert!(job.take(start + seconds(6)));
    }
}
