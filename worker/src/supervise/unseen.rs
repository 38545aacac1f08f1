//! Attempts of a cluster that should be there and are not: somebody deleted their Jobs, or they ended while no worker was looking.
//!
//! Invariant: what counts as gone was known as launched before the list was begun that does not have it. Which came first is known by the order in which this
//! process asked, and by no clock: PostgreSQL's is another, its answer may be late, and a machine that stood still tells neither.

use super::settle::settle;
use crate::clock;
use crate::launch::{End, Ended, Stage};
use crate::worker::Worker;
use roadstead_backend::store::overdue::{self, Berthed};
use roadstead_backend::store::{Connection, StoreResult};
use roadstead_domain::execution::Reason;
use roadstead_domain::ids::AttemptId;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub struct Unseen {
    known: Option<Known>,
}

/// Attempts that were launched and not heard of.
#[derive(Debug)]
struct Known {
    /// After PostgreSQL had said so.
    at: Instant,
    attempts: HashSet<AttemptId>,
}

impl Unseen {
    /// Looks once for every list of the cluster.
    pub async fn turn(&mut self, worker: &Arc<Worker>, connection: &mut Connection) -> StoreResult<()> {
        if worker.launcher.looked_at().is_none_or(|at| !self.is_news(at)) {
            return Ok(());
        }
        let berthed = overdue::berthed(connection).await?;
        for Berthed { tenant, attempt } in self.known_before(berthed, clock::now()) {
            if !worker.launcher.holds(attempt) && worker.judged.begin(attempt) {
                settle_as_gone(worker, tenant, attempt);
            }
        }
        Ok(())
    }

    /// Whether a list that was begun then may lack what is known.
    fn is_news(&self, looked_at: Instant) -> bool {
        self.known.as_ref().is_none_or(|known| known.at < looked_at)
    }

    /// Those that were known before the list was begun. All of them are known from now on.
    fn known_before(&mut self, mut berthed: Vec<Berthed>, now: Instant) -> Vec<Berthed> {
        let attempts = berthed.iter().map(|berthed| berthed.attempt).collect();
        let before = self.known.replace(Known { at: now, attempts });
        berthed.retain(|berthed| before.as_ref().is_some_and(|before| before.attempts.contains(&berthed.attempt)));
        berthed
    }
}

fn settle_as_gone(worker: &Arc<Worker>, tenant: String, attempt: AttemptId) {
    let reason = Reason::new(Reason::JOB_DELETED, "its Job is gone, and nobody saw how it ended");
    let ended = Ended { tenant, attempt, end: End::Lost(reason), because: None, stage: Stage::Gone };
    let worker = Arc::clone(worker);
    worker.clone().settling.spawn(async move {
        settle(Arc::clone(&worker), ended).await;
        worker.judged.end(attempt);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead_domain::ids::ExecutionId;
    use std::time::Duration;

    #[test]
    fn only_what_was_known_before_a_list_was_begun_may_be_gone() {
        let [one, two] = [(); 2].map(|()| AttemptId { execution_id: ExecutionId::new(), attempt: 1 });
        let berthed = |attempts: &[AttemptId]| -> Vec<Berthed> {
            attempts.iter().map(|attempt| Berthed { tenant: "t".to_owned(), attempt: *attempt }).collect()
        };
        let (mut unseen, start) = (Unseen::default(), clock::now());
        let at = |seconds| start + Duration::from_secs(seconds);

        assert!(unseen.is_news(at(0)));
        assert!(
            unseen.known_before(berthed(&[one]), at(1)).is_empty(),
            "it may have been launched after the list was begun"
        );
        assert!(!unseen.is_news(at(0)) && !unseen.is_news(at(1)), "such a list says nothing new");
        assert!(unseen.is_news(at(2)));
        let gone = unseen.known_before(berthed(&[one, two]), at(3));
        assert_eq!(gone.iter().map(|gone| gone.attempt).collect::<Vec<_>>(), [one]);
        let gone = unseen.known_before(berthed(&[two]), at(5));
        assert_eq!(gone.iter().map(|gone| gone.attempt).collect::<Vec<_>>(), [two]);
        assert!(unseen.known_before(Vec::new(), at(7)).is_empty());
    }
}
