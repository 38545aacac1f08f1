//! The commit of gathered submissions: one statement, then their ids on the way to their streams.
//!
//! Invariants: what follows a commit follows here, not in the handler, so a client that goes away changes nothing of it; a batch that PostgreSQL refuses is
//! committed one by one, so that no request fails for what is wrong with another.

use crate::enqueue::Enqueuer;
use crate::problem::Problem;
use crate::quota::Reservation;
use roadstead_backend::batch::{Commit, Statement, answer_each};
use roadstead_backend::dispatch::{Group, Share, Stream};
use roadstead_backend::store::query::Execution;
use roadstead_backend::store::repeats::Repeats;
use roadstead_backend::store::submit::{Submission, Submitted, submit};
use roadstead_backend::store::{Database, StoreResult};
use roadstead_backend::telemetry::metrics::EXECUTIONS_SUBMITTED_TOTAL;

/// One request on its way to the database.
#[derive(Debug)]
pub struct Item {
    pub submission: Submission,
    pub share: Share,
    pub reservation: Reservation,
}

/// What became of it.
#[derive(Debug)]
pub enum Recorded {
    /// Committed; the submission comes back.
    Now(Submission),
    /// Its key was used before with the same body: these executions, as they are now.
    Before(Vec<Execution>),
    KeyReused,
    /// These executions were removed since.
    Forgotten,
    Failed(Problem),
}

#[derive(Debug)]
pub struct Recorder {
    pub database: Database,
    pub enqueuer: Enqueuer,
    pub repeats: Repeats,
}

impl Commit<Item, Recorded> for Recorder {
    async fn commit(&self, items: Vec<Item>) -> Vec<Recorded> {
        let mut submissions = Vec::with_capacity(items.len());
        let mut rest = Vec::with_capacity(items.len());
        for item in items {
            submissions.push(item.submission);
            rest.push((item.share, item.reservation));
        }
        self.choose_streams(&mut submissions);
        let answers = answer_each(self, &submissions).await;
        let mut groups = Vec::new();
        let mut ring = false;
        let mut recorded = Vec::with_capacity(submissions.len());
        for ((submission, (share, reservation)), answer) in submissions.into_iter().zip(rest).zip(answers) {
            recorded.push(match answer {
                Ok(Submitted::Recorded) => {
                    reservation.used();
                    ring |= gather(&mut groups, &submission, share);
                    Recorded::Now(submission)
                }
                Ok(Submitted::Repeated(executions)) => Recorded::Before(executions),
                Ok(Submitted::KeyReused) => Recorded::KeyReused,
                Ok(Submitted::Forgotten) => Recorded::Forgotten,
                Ok(Submitted::Unread(error)) => Recorded::Failed(error.into()),
                Err(error) => Recorded::Failed(error.into()),
            });
        }
        let committed: usize = recorded.iter().map(Recorded::executions).sum();
        metrics::counter!(EXECUTIONS_SUBMITTED_TOTAL).increment(committed as u64);
        self.enqueuer.append(groups).await;
        if ring {
            self.enqueuer.ring();
        }
        recorded
    }
}

impl Recorder {
    /// Whether each row's stream takes it is asked as late as can be.
    fn choose_streams(&self, submissions: &mut [Submission]) {
        let mut asked: Vec<(Stream, bool)> = Vec::new();
        for submission in submissions {
            let tenant = &submission.tenant;
            for row in submission.executions.iter_mut().filter(|row| row.run_at.is_none()) {
                let known = asked.iter().find(|(s, _)| s.priority == row.priority && s.tenant == *tenant);
                row.enqueued = if let Some((_, takes)) = known {
                    *takes
                } else {
                    let stream = Stream { tenant: tenant.clone(), priority: row.priority };
                    let takes = self.enqueuer.takes(&stream);
                    asked.push((stream, takes));
                    takes
                };
            }
        }
    }
}

impl Statement<Submission, Submitted> for Recorder {
    async fn run(&self, submissions: &[Submission]) -> StoreResult<Vec<Submitted>> {
        self.database.run(async |connection| submit(connection, submissions, &self.repeats).await).await
    }
}

impl Recorded {
    fn executions(&self) -> usize {
        match self {
            Self::Now(submission) => submission.executions.len(),
            Self::Before(_) | Self::KeyReused | Self::Forgotten | Self::Failed(_) => 0,
        }
    }
}

/// Adds what is to be appended to its streams; answers whether PostgreSQL has to speak for some of it.
fn gather(groups: &mut Vec<Group>, submission: &Submission, share: Share) -> bool {
    let mut ring = false;
    for row in &submission.executions {
        ring |= !row.enqueued || row.queue_deadline.is_some();
        if !row.enqueued {
            continue;
        }
        let tenant = &submission.tenant;
        let known = groups.iter_mut().find(|g| g.stream.priority == row.priority && g.stream.tenant == *tenant);
        match known {
            Some(group) => group.ids.push(row.id),
            None => groups.push(Group {
                stream: Stream { tenant: tenant.clone(), priority: row.priority },
                share,
                ids: vec![row.id],
            }),
        }
    }
    ring
}
