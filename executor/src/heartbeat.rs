//! The heartbeat: says what is new, renews the lease when it is answered, and brings back what the API wants.
//!
//! An answer that does not come changes nothing here; the lease judges that.

use crate::api::{Api, ApiError, REQUEST_TIMEOUT};
use crate::clock;
use crate::halt::{Halt, Stop};
use crate::lease::Lease;
use crate::report::Report;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// While somebody reads along, and once after the start, so that whoever waits for a start is heard of soon.
const QUICK: Duration = Duration::from_millis(500);
/// Two heartbeats are at least this far apart, however many segments were shipped.
const CLOSEST: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub struct Heart {
    pub api: Arc<Api>,
    pub report: Arc<Report>,
    pub lease: Arc<Lease>,
    pub stop: Stop,
    pub interval: Duration,
    /// Bound for one request: several must fit into a lease.
    pub timeout: Duration,
    /// Whether somebody reads along.
    pub following: watch::Sender<bool>,
    /// A segment was shipped.
    pub shipped: Arc<Notify>,
}

impl Heart {
    pub fn timeout_within(lease: Duration) -> Duration {
        REQUEST_TIMEOUT.min(lease / 4)
    }

    /// Beats until the attempt is no longer current, or until it is dropped.
    pub async fn beat(self) {
        tokio::time::sleep(self.interval.min(QUICK)).await;
        loop {
            let (heartbeat, carried) = self.report.unknown();
            let sent = clock::now();
            match self.api.heartbeat(heartbeat, self.timeout).await {
                Ok(reply) => {
                    self.lease.renew(sent);
                    self.report.answered(carried);
                    self.following.send_if_modified(|now| std::mem::replace(now, reply.following) != reply.following);
                    if reply.cancel {
                        self.stop.ask(Halt::Cancelled);
                    }
                }
                Err(ApiError::Gone) => {
                    self.stop.ask(Halt::Superseded);
                    return;
                }
                Err(ApiError::Refused { .. } | ApiError::Unavailable { .. }) => {}
            }
            self.pause().await;
        }
    }

    async fn pause(&self) {
        if !*self.following.borrow() {
            return tokio::time::sleep(self.interval).await;
        }
        tokio::time::sleep(self.interval.min(CLOSEST)).await;
        let rest = self.interval.min(QUICK).saturating_sub(CLOSEST);
        // What was shipped is of use to the reader only once it was reported.
        let _ = tokio::time::timeout(rest, self.shipped.notified()).await;
    }
}
