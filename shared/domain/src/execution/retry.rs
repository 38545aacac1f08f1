//! What follows an attempt that is over: the event for the state machine, and the wait before the next attempt.

use super::transition::Event;
use crate::attempt::protocol::{Outcome, Status};
use std::time::Duration;

/// Wait before the second attempt; it doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(300);

/// What is known of an execution when one of its attempts ends.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    pub attempt: i32,
    pub max_attempts: i32,
    pub cancel_requested: bool,
}

impl Standing {
    fn may_retry(self) -> bool {
        !self.cancel_requested && self.attempt < self.max_attempts
    }

    /// The event for an attempt that reported its own end. Work that succeeded before it heard of a cancel has succeeded.
    pub fn reported(self, outcome: &Outcome) -> Event {
        match outcome.status {
            Status::Succeeded => Event::AttemptSucceeded,
            Status::TimedOut => Event::AttemptTimedOut,
            Status::Cancelled if self.cancel_requested => Event::AttemptCancelled,
            // Nobody asked for it: the executor was told to stop by its machine, so this attempt was lost.
            Status::Cancelled => self.lost(),
            Status::Failed if self.cancel_requested => Event::AttemptCancelled,
            Status::Failed => Event::AttemptFailed { retry: outcome.retryable && self.may_retry() },
        }
    }

    /// The event for an attempt that ended without a report.
    pub fn lost(self) -> Event {
        if self.cancel_requested { Event::AttemptCancelled } else { Event::AttemptLost { retry: self.may_retry() } }
    }

    /// The event for an attempt that could not be started.
    pub fn start_failed(self, retryable: bool) -> Event {
        if self.cancel_requested {
            Event::AttemptCancelled
        } else {
            Event::AttemptFailed { retry: retryable && self.may_retry() }
        }
    }

    /// How long the next attempt waits: 1 s, 2 s, 4 s … at most 5 min.
    pub fn backoff(self) -> Duration {
        let doublings = u32::try_from(self.attempt.max(1) - 1).unwrap_or(0).min(16);
        FIRST_BACKOFF.saturating_mul(1 << doublings).min(MAX_BACKOFF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(attempt: i32, cancel_requested: bool) -> Standing {
        Standing { attempt, max_attempts: 3, cancel_requested }
    }

    fn outcome(status: Status, retryable: bool) -> Outcome {
        Outcome { status, reason: None, retryable }
    }

    #[test]
    fn a_failure_is_retried_while_attempts_remain() {
        let failed = outcome(Status::Failed, true);
        assert_eq!(standing(2, false).reported(&failed), Event::AttemptFailed { retry: true });
        assert_eq!(standing(3, false).reported(&failed), Event::AttemptFailed { retry: false });
        let fatal = outcome(Status::Failed, false);
        assert_eq!(standing(1, false).reported(&fatal), Event::AttemptFailed { retry: false });
    }

    #[test]
    fn a_cancelled_execution_is_never_tried_again() {
        assert_eq!(standing(1, true).lost(), Event::AttemptCancelled);
        assert_eq!(standing(1, true).reported(&outcome(Status::Failed, true)), Event::AttemptCancelled);
        assert_eq!(standing(1, true).start_failed(true), Event::AttemptCancelled);
    }

    #[test]
    fn a_success_that_crossed_a_cancel_stands() {
        assert_eq!(standing(1, true).reported(&outcome(Status::Succeeded, false)), Event::AttemptSucceeded);
    }

    #[test]
    fn an_executor_stopped_by_its_machine_is_a_lost_attempt() {
        assert_eq!(standing(1, false).reported(&outcome(Status::Cancelled, true)), Event::AttemptLost { retry: true });
    }

    #[test]
    fn backoff_doubles_to_a_bound() {
        assert_eq!(standing(1, false).backoff(), Duration::from_secs(1));
        assert_eq!(standing(3, false).backoff(), Duration::from_secs(4));
        assert_eq!(standing(60, false).backoff(), Duration::from_secs(300));
    }
}
