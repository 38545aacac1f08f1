//! Group commit of what executors report: the same batcher as for submissions, one queue a kind.
//!
//! Invariant: no attempt fails for what is wrong with another's report (`answer_each`). Reports come one by one, as attempts begin and end: without a pause
//! each would be a commit of its own.

use crate::problem::Problem;
use roadstead_backend::batch::{Batcher, Commit, Statement, Terms, answer_each};
use roadstead_backend::store::finish::{Finished, Report, finish};
use roadstead_backend::store::heartbeat::{Beat, heartbeat};
use roadstead_backend::store::start::{Start, StartClaim, start};
use roadstead_backend::store::{Database, StoreResult};
use roadstead_domain::attempt::protocol::HeartbeatReply;
use std::time::Duration;

/// A few large commits cost less than many small ones.
const TERMS: Terms = Terms { concurrent: 1, max_items: 256, max_waiting: 4_096, spacing: Duration::from_millis(3) };

/// The queues in front of the commits. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Reports {
    pub starts: Batcher<StartClaim, Result<Start, Problem>>,
    pub beats: Batcher<Beat, Result<Option<HeartbeatReply>, Problem>>,
    pub finishes: Batcher<Report, Result<Finished, Problem>>,
}

impl Reports {
    pub fn start(database: &Database, lease: Duration) -> Self {
        let database = || database.clone();
        Self {
            starts: gather(Starts(database(), lease)),
            beats: gather(Beats(database(), lease)),
            finishes: gather(Finishes(database())),
        }
    }
}

fn gather<T, A, S>(statement: S) -> Batcher<T, Result<A, Problem>>
where
    T: Send + Sync + 'static,
    A: Send + 'static,
    S: Statement<T, A>,
{
    Batcher::start(Each(statement), TERMS)
}

#[derive(Debug)]
struct Starts(Database, Duration);

impl Statement<StartClaim, Start> for Starts {
    async fn run(&self, items: &[StartClaim]) -> StoreResult<Vec<Start>> {
        self.0.run(async |connection| start(connection, items, self.1).await).await
    }
}

#[derive(Debug)]
struct Beats(Database, Duration);

impl Statement<Beat, Option<HeartbeatReply>> for Beats {
    async fn run(&self, items: &[Beat]) -> StoreResult<Vec<Option<HeartbeatReply>>> {
        self.0.run(async |connection| heartbeat(connection, items, self.1).await).await
    }
}

#[derive(Debug)]
struct Finishes(Database);

impl Statement<Report, Finished> for Finishes {
    async fn run(&self, items: &[Report]) -> StoreResult<Vec<Finished>> {
        self.0.run(async |connection| finish(connection, items).await).await
    }
}

/// One answer for each.
struct Each<S>(S);

impl<T, A, S> Commit<T, Result<A, Problem>> for Each<S>
where
    T: Send + Sync + 'static,
    A: Send + 'static,
    S: Statement<T, A>,
{
    async fn commit(&self, items: Vec<T>) -> Vec<Result<A, Problem>> {
        answer_each(&self.0, &items).await.into_iter().map(|answer| answer.map_err(Problem::from)).collect()
    }
}
