//! Who supervises: whoever holds the `supervisor` lease row, which lasts a few seconds and is renewed only while there is work.
//!
//! Nothing depends on there being one supervisor only, except how much is done twice: every job is a conditional write or makes duplicates
//! that a claim drops. So the lease may be short, and no fencing is needed.

use crate::clock;
use crate::worker::Worker;
use roadstead_backend::store::{Connection, StoreResult, lease};
use std::time::Duration;
use tokio::time::Instant;

const NAME: &str = "supervisor";
const SPAN: Duration = Duration::from_secs(6);
const RENEWAL: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub struct Lease {
    /// When it was last taken or renewed, before that was asked for.
    held_since: Option<Instant>,
}

impl Lease {
    /// Takes the lease, or renews it when it is time; answers whether this worker has it.
    pub async fn hold(&mut self, worker: &Worker, connection: &mut Connection) -> StoreResult<bool> {
        if self.held_since.is_some_and(|since| since.elapsed() < RENEWAL) {
            return Ok(true);
        }
        let asked_at = clock::now();
        let held = lease::acquire(connection, NAME, &worker.id, SPAN).await?;
        self.held_since = held.then_some(asked_at);
        Ok(held)
    }

    pub fn is_held(&self) -> bool {
        self.held_since.is_some()
    }

    /// Gives it back, so that whoever is called next has it at once.
    pub async fn give_back(&mut self, worker: &Worker, connection: &mut Connection) -> StoreResult<()> {
        if self.held_since.take().is_some() {
            lease::release(connection, NAME, &worker.id).await?;
        }
        Ok(())
    }
}
