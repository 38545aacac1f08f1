//! Group commit of what executors report: the same batcher as for submissions, one queue a kind.

use crate::problem::Problem;
use roadstead_backend::batch::{Batcher, Commit};
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
            starts: Batcher::start(Starts(database(), lease), CONCURRENT_COMMITS, MAX_GATHERED, MAX_WAITING),
            beats: Batcher::start(Beats(database(), lease), CONCURRENT_COMMITS, MAX_GATHERED, MAX_WAITING),
            finishes: Batcher::start(Finishes(database()), CONCURRENT_COMMITS, MAX_GATHERED, MAX_WAITING),
        }
    }
}

#[derive(Debug)]
struct Starts(Database, Duration);

impl Commit<StartClaim, Result<Start, Problem>> for Starts {
    async fn commit(&self, items: Vec<StartClaim>) -> Vec<Result<Start, Problem>> {
        let answers = async { start(&mut *self.0.get().await?, &items, self.1).await };
        each(items.len(), answers.await)
    }
}

#[derive(Debug)]
struct Beats(Database, Duration);

impl Commit<Beat, Result<Option<HeartbeatReply>, Problem>> for Beats {
    async fn commit(&self, items: Vec<Beat>) -> Vec<Result<Option<HeartbeatReply>, Problem>> {
        let answers = async { heartbeat(&mut *self.0.get().await?, &items, self.1).await };
        each(items.len(), answers.await)
    }
}

#[derive(Debug)]
struct Finishes(Database);

impl Commit<Report, Result<Finished, Problem>> for Finishes {
    async fn commit(&self, items: Vec<Report>) -> Vec<Result<Finished, Problem>> {
        let answers = async { finish(&mut *self.0.get().await?, &items).await };
        each(items.len(), answers.await)
    }
}

/// One answer for each, or the one mistake for all: executors ask again.
fn each<A>(items: usize, answers: StoreResult<Vec<A>>) -> Vec<Result<A, Problem>> {
    match answers {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(error) => {
            let problem = Problem::from(error);
            (0..items).map(|_| Err(problem.clone())).collect()
        }
    }
}
