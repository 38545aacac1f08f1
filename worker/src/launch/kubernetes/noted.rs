//! Why attempts wait, as it was last told: it is told again when the reason is another, and now and then when only its words are.

use roadstead_domain::execution::Reason;
use roadstead_domain::ids::AttemptId;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Between two notes about one attempt when only the words change.
const INTERVAL: Duration = Duration::from_secs(30);
/// A launch that was put off is tried again when its lease (15 s) has run out; one that is not was somebody else's to try, or is not wanted any more.
const PUT_OFF_LASTS: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Noted {
    pub reason: Reason,
    at: Instant,
}

impl Noted {
    pub fn new(reason: Reason, at: Instant) -> Self {
        Self { reason, at }
    }

    /// Whether this says as much.
    pub fn covers(&self, reason: &Reason, now: Instant) -> bool {
        let same_words = self.reason.message == reason.message;
        self.reason.code == reason.code && (same_words || now.saturating_duration_since(self.at) < INTERVAL)
    }
}

/// Launches that the cluster put off: between two tries there is nothing else of them.
#[derive(Debug, Default)]
pub struct PutOff(HashMap<AttemptId, (Noted, Instant)>);

impl PutOff {
    /// Answers whether that is news.
    pub fn note(&mut self, attempt: AttemptId, reason: &Reason, now: Instant) -> bool {
        if let Some((noted, last)) = self.0.get_mut(&attempt)
            && noted.covers(reason, now)
        {
            *last = now;
            return false;
        }
        self.0.insert(attempt, (Noted::new(reason.clone(), now), now));
        true
    }

    pub fn reason(&self, attempt: AttemptId) -> Option<Reason> {
        self.0.get(&attempt).map(|(noted, _)| noted.reason.clone())
    }

    pub fn tick(&mut self, now: Instant) {
        self.0.retain(|_, (_, last)| now.saturating_duration_since(*last) < PUT_OFF_LASTS);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
