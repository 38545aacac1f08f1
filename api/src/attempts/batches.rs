//! Group commit of what executors report: the same batcher as for submissions, one queue a kind.
//!
//! Invariant: a batch that PostgreSQL refuses is committed one by one, so that no attempt fails for what is wrong with another's report.

use crate::problem::Problem;
use roadstead_backend::batch::{Batcher, Commit};
use roadstead_backend::store::finish::{Finished, Report, finish};
use roadstead_backend::store::heartbeat::{Beat, heartbeat};
use roadstead_backend::store::start::{Start, StartClaim, start};
use roadstead_backend::store::{Database, StoreError, StoreResult};
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

/// What answers a whole batch, in its order, and may be asked again.
trait Statement<T, A>: Send + Sync + 'static {
    fn run(&self, items: &[T]) -> impl Future<Output = StoreResult<Vec<A>>> + Send;
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
    A: Send,
    S: Statement<T, A>,
{
    async fn commit(&self, items: Vec<T>) -> Vec<Result<A, Problem>> {
        match self.0.run(&items).await {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(StoreError::Refused(_)) if items.len() > 1 => {
                let mut answers = Vec::with_capacity(items.len());
                for item in &items {
                    let alone = self.0.run(std::slice::from_ref(item)).await;
                    answers.push(alone.map_err(Problem::from).and_then(|mut answers| {
                        answers.pop().ok_or_else(|| Problem::internal("a report was not answered"))
                    }));
                }
                answers
            }
            // Everybody's mistake: executors ask again.
            Err(error) => {
                let problem = Problem::from(error);
                items.iter().map(|_| Err(problem.clone())).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Kind;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Answers with its items, refuses 2, and is away for 0.
    #[derive(Default)]
    struct Echo(AtomicUsize);

    impl Statement<u32, u32> for Echo {
        async fn run(&self, items: &[u32]) -> StoreResult<Vec<u32>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            match items {
                items if items.contains(&0) => Err(StoreError::Unavailable("away".to_owned())),
                items if items.contains(&2) => Err(StoreError::Refused("two".to_owned())),
                items => Ok(items.to_vec()),
            }
        }
    }

    async fn commit(items: &[u32]) -> (Vec<Result<u32, Kind>>, usize) {
        let each = Each(Echo::default());
        let answers = each.commit(items.to_vec()).await;
        let kinds = answers.into_iter().map(|answer| answer.map_err(|problem| problem.kind())).collect();
        (kinds, each.0.0.into_inner())
    }

    #[tokio::test]
    async fn a_report_that_is_refused_fails_by_itself() {
        assert_eq!(commit(&[1, 3]).await, (vec![Ok(1), Ok(3)], 1));
        assert_eq!(commit(&[1, 2, 3]).await, (vec![Ok(1), Err(Kind::Internal), Ok(3)], 4));
    }

    #[tokio::test]
    async fn an_outage_is_not_asked_about_one_by_one() {
        assert_eq!(commit(&[1, 0]).await, (vec![Err(Kind::Unavailable); 2], 1));
    }
}
