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
use std::collections::HashMap;
use std::sync::Arc;
use tokio::time::Instant;

/// The attempts that were launched and are not heard of, and since when PostgreSQL has been known to say so.
#[derive(Debug, Default)]
pub struct Unseen {
    known: HashMap<AttemptId, Instant>,
}

impl Unseen {
    pub async fn turn(&mut self, worker: &Arc<Worker>, connection: &mut Connection) -> StoreResult<()> {
        let berthed = overdue::berthed(connection).await?;
        for Berthed { tenant, attempt } in self.gone(berthed, clock::now(), |tenant| worker.launcher.looked_at(tenant))
        {
            if !worker.launcher.holds(attempt) && worker.judged.begin(attempt) {
                settle_as_gone(worker, tenant, attempt);
            }
        }
        Ok(())
    }

    /// Those of `berthed`, which were answered `now`, that may be gone if they are not held: they were known when their tenant was looked at.
    fn gone(
        &mut self,
        mut berthed: Vec<Berthed>,
        now: Instant,
        looked_at: impl Fn(&str) -> Option<Instant>,
    ) -> Vec<Berthed> {
        let since = |attempt| self.known.get(&attempt).copied().unwrap_or(now);
        self.known = berthed.iter().map(|berthed| (berthed.attempt, since(berthed.attempt))).collect();
        berthed.retain(|Berthed { tenant, attempt }| looked_at(tenant).is_some_and(|at| self.known[attempt] < at));
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
    fn only_what_was_known_when_its_tenant_was_looked_at_may_be_gone() {
        let [one, two] = [(); 2].map(|()| AttemptId { execution_id: ExecutionId::new(), attempt: 1 });
        let (mut unseen, start) = (Unseen::default(), clock::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut gone = |berthed: &[(&str, AttemptId)], now, looked_at: &[(&str, u64)]| {
            let berthed =
                berthed.iter().map(|(tenant, attempt)| Berthed { tenant: (*tenant).into(), attempt: *attempt });
            let looked_at =
                |tenant: &str| looked_at.iter().find(|(of, _)| *of == tenant).map(|(_, seconds)| at(*seconds));
            unseen.gone(berthed.collect(), at(now), looked_at).into_iter().map(|gone| gone.attempt).collect::<Vec<_>>()
        };
        assert!(gone(&[("a", one)], 1, &[("a", 0)]).is_empty(), "it may have been launched after the look began");
        assert!(gone(&[("a", one), ("b", two)], 2, &[("a", 1), ("b", 1)]).is_empty(), "nor does such a look say it");
        assert_eq!(gone(&[("a", one), ("b", two)], 4, &[("a", 3)]), [one], "of the other's nothing is known");
        assert_eq!(gone(&[("b", two)], 6, &[("a", 5), ("b", 3)]), [two]);
        assert!(gone(&[("a", one)], 7, &[("a", 6)]).is_empty(), "it was not heard of for a while, and is known anew");
    }
}
