//! Group commit of what executors report: the same batcher as for submissions, one queue a kind.

use crate::problem::Problem;
use roadstead_backend::batch::{Batcher, Commit, Statement, answer_each};
use roadstead_backend::store::finish::{Finished, Report, finish};
use roadstead_backend::store::heartbeat::{Beat, heartbeat};
use roadstead_backend::store::start::{Start, StartClaim, start};
use roadstead_backend::store::{Database, StoreResult};
use roadstead_domain::attempt::protocol::HeartbeatReply;
use std::time::Duration;

/// What arrives during a commit is in the next one: a few large ones cost less than many small ones.
const CONCURRENT_COMMITS: usize = 1;
const MAX_GATHERED: usize = 256;
const MAX_WAITING: usize = 4_096;

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
    Batcher::start(Each(statement), CONCURRENT_COMMITS, MAX_GATHERED, MAX_WAITING)
}

#[derive(Debug)]
struct Starts(Database, Duration);

impl Statement<StartClaim, Start> for Starts {
    async fn run(&self, items: &[StartClaim]) -> StoreResult<Vec<Start>> {
        start(&mut *self.0.get().await?, items, self.1).await
    }
}

#[derive(Debug)]
struct Beats(Database, Duration);

impl Statement<Beat, Option<HeartbeatReply>> for Beats {
    async fn run(&self, items: &[Beat]) -> StoreResult<Vec<Option<HeartbeatReply>>> {
        heartbeat(&mut *self.0.get().await?, items, self.1).await
    }
}

#[derive(Debug)]
struct Finishes(Database);

impl Statement<Report, Finished> for Finishes {
    async fn run(&self, items: &[Report]) -> StoreResult<Vec<Finished>> {
        finish(&mut *self.0.get().await?, items).await
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
