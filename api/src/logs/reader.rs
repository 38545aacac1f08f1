//! A reader of a log: from its first wanted line to its end, one segment in memory at a time.
//!
//! Invariants: lines come in order and each once, also where segments are reported out of order; a log ends only after a look that saw its attempt finished and
//! no segment beyond those that were given. While somebody follows, the attempt's row says so, so that its executor ships every half second.

use super::lines::{self, Filter, Format, Skip};
use crate::problem::{Kind, Problem};
use crate::query::live::{Feed, Step};
use crate::state::App;
use actix_web::web;
use bytes::Bytes;
use roadstead_backend::objects::{Store, layout};
use roadstead_backend::store::Connection;
use roadstead_backend::store::follow::{self, Growth};
use roadstead_backend::store::query::{self, LogSegment};
use roadstead_domain::execution::State;
use roadstead_domain::ids::{AttemptId, ExecutionId};
use slog::warn;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// A segment is shipped at 1 MiB; the line that crossed the bound, JSON escapes included, is in it.
const MAX_SEGMENT_BYTES: u64 = 4 << 20;
/// How long a follower is believed to be there.
const FOLLOWED_SPAN: Duration = Duration::from_secs(10);
const FOLLOW_AGAIN: Duration = Duration::from_secs(4);

/// What is wanted of an execution's logs.
#[derive(Clone, Debug)]
pub struct Selection {
    /// `None`: the latest attempt that has started, and those after it.
    pub attempt: Option<i32>,
    pub filter: Filter,
    /// Only so many of the lines that are there.
    pub tail: Option<u64>,
    pub follow: bool,
    /// The attempt and line that were read last.
    pub after: Option<(i32, u64)>,
    pub format: Format,
}

pub struct Reader {
    app: web::Data<App>,
    tenant: String,
    id: ExecutionId,
    selection: Selection,
    /// The attempt that is being read; `None` until one has started.
    attempt: Option<i32>,
    next_seq: i32,
    /// The number of the first line of the first segment that was not given yet.
    next_line: u64,
    skip: Skip,
    pending: VecDeque<LogSegment>,
    /// The execution's state at the last look.
    seen: Option<State>,
    /// When which attempt was last told that it is followed.
    followed: Option<(i32, Instant)>,
}

impl Reader {
    pub fn new(app: web::Data<App>, tenant: String, id: ExecutionId, selection: Selection) -> Self {
        let after = selection.after.filter(|(attempt, _)| selection.attempt.is_none_or(|wanted| wanted == *attempt));
        Self {
            app,
            tenant,
            id,
            attempt: selection.attempt.or(after.map(|(attempt, _)| attempt)),
            next_seq: 0,
            next_line: 0,
            skip: Skip { below: after.map_or(0, |(_, n)| n.saturating_add(1)), wanted: 0 },
            pending: VecDeque::new(),
            seen: None,
            followed: None,
            selection: Selection { tail: selection.tail.filter(|_| after.is_none()), ..selection },
        }
    }

    async fn look(&mut self) -> Result<Step, Problem> {
        // A tail is of what the first look finds.
        let tail = self.selection.tail.take();
        let growth =
            self.app.database.run(async |connection| follow::growth(connection, &self.tenant, self.id).await).await?;
        let growth = growth.ok_or_else(Problem::not_found)?;
        let waited = self.seen.replace(growth.state).is_some();
        self.say_followed(&growth).await?;
        let latest = || growth.attempts.iter().rev().find(|log| log.started).map(|log| log.attempt);
        self.attempt = self.attempt.or_else(latest);
        let Some(attempt) = self.attempt else { return Ok(self.nothing_more(growth.state)) };
        let Some(&log) = growth.attempts.iter().find(|log| log.attempt == attempt) else {
            return if self.selection.follow && may_come(attempt, &growth) {
                Ok(Step::Idle)
            } else if waited {
                Ok(self.end(growth.state))
            } else {
                Err(Problem::new(Kind::NotFound, format!("there is no attempt {attempt} of this execution")))
            };
        };
        let over = log.finished || growth.state.is_terminal();
        if log.last_seq.is_some_and(|last| last >= self.next_seq) && self.gather(attempt, over, tail).await? {
            return Ok(Step::Data(String::new()));
        }
        if !over {
            return Ok(self.nothing_more(growth.state));
        }
        if self.selection.attempt.is_some() {
            return Ok(self.end(growth.state));
        }
        let next = growth.attempts.iter().find(|log| log.started && log.attempt > attempt);
        if let Some(next) = next.filter(|_| self.selection.follow) {
            self.turn_to(next.attempt);
            return Ok(Step::Data(String::new()));
        }
        Ok(self.nothing_more(growth.state))
    }

    fn nothing_more(&self, state: State) -> Step {
        if state.is_terminal() || !self.selection.follow { self.end(state) } else { Step::Idle }
    }

    fn end(&self, state: State) -> Step {
        match self.selection.format {
            Format::Events => Step::End(crate::query::end(state)),
            Format::Text | Format::Ndjson => Step::End(String::new()),
        }
    }

    fn turn_to(&mut self, attempt: i32) {
        self.attempt = Some(attempt);
        (self.next_seq, self.next_line, self.skip) = (0, 0, Skip::default());
    }

    /// Tells the live attempt, a launching one too, so that its executor hears of it at its first heartbeat.
    async fn say_followed(&mut self, growth: &Growth) -> Result<(), Problem> {
        let live = growth.attempts.last().filter(|log| !log.finished && self.selection.follow).map(|log| log.attempt);
        let Some(live) = live.filter(|live| self.selection.attempt.is_none_or(|wanted| wanted == *live)) else {
            return Ok(());
        };
        if self.followed.is_none_or(|(attempt, at)| attempt != live || at.elapsed() >= FOLLOW_AGAIN) {
            let (tenant, id) = (&self.tenant, self.id);
            let follow =
                async |connection: &mut Connection| follow::follow(connection, tenant, id, live, FOLLOWED_SPAN).await;
            self.app.database.run(follow).await?;
            self.followed = Some((live, Instant::now()));
        }
        Ok(())
    }

    /// Takes up the segments that are new and whose turn it is; answers whether there are any.
    async fn gather(&mut self, attempt: i32, over: bool, tail: Option<u64>) -> Result<bool, Problem> {
        let (tenant, id, from) = (&self.tenant, self.id, self.next_seq);
        let segments =
            async |connection: &mut Connection| query::log_segments(connection, tenant, id, attempt, from).await;
        let segments = self.app.database.run(segments).await?;
        let before = self.next_seq;
        let mut line = self.next_line;
        for segment in segments {
            // One that is missing may yet be reported, but not once the attempt is over.
            if segment.seq != self.next_seq && !over {
                break;
            }
            // None comes after the last number there is.
            let Some(next_seq) = segment.seq.checked_add(1) else { break };
            self.next_seq = next_seq;
            line += segment.lines.max(0) as u64;
            if line <= self.skip.below {
                self.next_line = line;
            } else {
                self.pending.push_back(segment);
            }
        }
        if let Some(tail) = tail {
            self.cut_to_tail(attempt, tail).await?;
        }
        Ok(self.next_seq > before)
    }

    /// Passes over all but the last `tail` wanted lines of what is pending, from the end, so that only the tail is read.
    async fn cut_to_tail(&mut self, attempt: i32, tail: u64) -> Result<(), Problem> {
        let mut found = 0;
        let mut first = self.pending.len();
        while first > 0 && found < tail {
            first -= 1;
            let segment = self.pending[first];
            found += if self.selection.filter.takes_all() {
                segment.lines.max(0) as u64
            } else {
                lines::count(&self.fetch(attempt, segment).await?, &self.selection.filter)
            };
        }
        self.next_line += self.pending.drain(..first).map(|segment| segment.lines.max(0) as u64).sum::<u64>();
        self.skip.wanted = found.saturating_sub(tail);
        Ok(())
    }

    async fn fetch(&self, attempt: i32, segment: LogSegment) -> Result<Bytes, Problem> {
        let id = AttemptId { execution_id: self.id, attempt };
        let key = layout::log_segment(&self.tenant, id, segment.seq.max(0) as u32);
        if let Some(content) = self.app.objects.get(Store::Content, &key, MAX_SEGMENT_BYTES).await? {
            return Ok(content);
        }
        warn!(self.app.log, "a log segment is not stored"; "attempt" => %id, "seq" => segment.seq);
        Ok(lines::missing_segment(self.next_line, segment.seq, segment.lines).into())
    }
}

/// Whether an attempt that is not there yet may be waited for.
fn may_come(attempt: i32, growth: &Growth) -> bool {
    let latest = growth.attempts.last().map_or(0, |log| log.attempt);
    !growth.state.is_terminal() && attempt > latest && attempt <= growth.max_attempts
}

impl Feed for Reader {
    async fn next(&mut self) -> Result<Step, Problem> {
        let Some((attempt, segment)) = self.attempt.zip(self.pending.front().copied()) else {
            return match self.seen {
                // What there was has been given; what came meanwhile is for those who follow.
                Some(state) if !self.selection.follow => Ok(self.end(state)),
                _ => self.look().await,
            };
        };
        let content = self.fetch(attempt, segment).await?;
        self.pending.pop_front();
        self.next_line += segment.lines.max(0) as u64;
        let Selection { filter, format, .. } = &self.selection;
        Ok(Step::Data(lines::render(&content, attempt, filter, &mut self.skip, *format)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead_backend::store::follow::AttemptLog;

    #[test]
    fn only_an_attempt_that_can_exist_is_waited_for() {
        let growth = |state, attempts: i32| Growth {
            state,
            max_attempts: 3,
            attempts: (1..=attempts)
                .map(|attempt| AttemptLog { attempt, started: true, finished: false, last_seq: None })
                .collect(),
        };
        assert!(may_come(1, &growth(State::Queued, 0)) && may_come(3, &growth(State::Running, 1)));
        assert!(!may_come(4, &growth(State::Running, 1)), "no execution has more attempts than it may");
        assert!(!may_come(1, &growth(State::Running, 2)) && !may_come(3, &growth(State::Failed, 1)));
    }
}
