//! The relay: queued rows that are not in Redis are appended to their streams, in order, as far as the streams' windows go.
//!
//! Appended first, noted second: dying in between makes duplicates, which the claim drops; the other way round would make losses, which only
//! the reconciliation finds. While rows of a stream wait here, nobody else appends to it.

use crate::trouble::Trouble;
use crate::worker::Worker;
use roadstead_backend::dispatch::{Group, LOW_WATER, Share, Stream, WINDOW};
use roadstead_backend::store::relay::{self, Backlog};
use roadstead_backend::store::{Connection, StoreResult};
use std::collections::HashSet;

/// Rows of one stream that are read and appended at once.
const CHUNK: usize = 5_000;
/// Streams that are looked at in one turn; the next turn goes on behind them.
const MAX_STREAMS: usize = 256;

#[derive(Debug, Default)]
pub struct Relay {
    /// Streams whose window did not take all that waited: they are refilled when they have drained to the low-water mark, not row by row.
    full: HashSet<Stream>,
    /// Where the next turn begins among the streams.
    next: usize,
}

impl Relay {
    /// One turn; answers how many rows were appended.
    pub async fn turn(&mut self, worker: &Worker, connection: &mut Connection) -> Result<usize, Trouble> {
        let backlogs = relay::backlogs(connection).await?;
        if backlogs.is_empty() {
            self.full.clear();
            return Ok(0);
        }
        let begin = if self.next < backlogs.len() { self.next } else { 0 };
        let mut appended = 0;
        for backlog in backlogs.iter().cycle().skip(begin).take(backlogs.len().min(MAX_STREAMS)) {
            appended += self.refill(worker, connection, backlog).await?;
        }
        self.next = (begin + MAX_STREAMS) % backlogs.len().max(1);
        Ok(appended)
    }

    async fn refill(
        &mut self,
        worker: &Worker,
        connection: &mut Connection,
        backlog: &Backlog,
    ) -> Result<usize, Trouble> {
        let (stream, share) = (stream(backlog), share(backlog));
        let mut depth = worker.dispatch.depth(&stream).await?;
        if depth > LOW_WATER && self.full.contains(&stream) {
            return Ok(0);
        }
        let mut appended = 0;
        while depth <= WINDOW {
            // One more than there is room for, so that the stream knows that rows wait behind it.
            let limit = (WINDOW - depth).min(CHUNK) + 1;
            let ids = relay::waiting(connection, &stream.tenant, stream.priority, limit as i64).await?;
            let group = Group { stream: stream.clone(), share, ids };
            let accepted = worker.dispatch.refill(&group).await?;
            mark(connection, &stream, &group.ids[..accepted.min(group.ids.len())]).await?;
            appended += accepted;
            depth += accepted;
            if accepted < group.ids.len() {
                self.full.insert(stream);
                break;
            }
            if group.ids.len() < limit {
                self.full.remove(&stream);
                worker.dispatch.caught_up(&stream).await?;
                break;
            }
        }
        Ok(appended)
    }
}

async fn mark(
    connection: &mut Connection,
    stream: &Stream,
    ids: &[roadstead_domain::ids::ExecutionId],
) -> StoreResult<()> {
    if ids.is_empty() { Ok(()) } else { relay::mark(connection, &stream.tenant, ids, true).await }
}

pub fn stream(backlog: &Backlog) -> Stream {
    Stream { tenant: backlog.tenant.clone(), priority: backlog.priority }
}

pub const fn share(backlog: &Backlog) -> Share {
    Share { weight: backlog.weight, max_concurrent: backlog.max_concurrent }
}
