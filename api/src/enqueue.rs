//! After the commit: ids into their streams, in the background, and the supervisor's bell where PostgreSQL has to speak for itself.
//!
//! Invariants: nobody's answer waits for Redis; a row that did not get into its stream is marked so (`enqueued = false`) and the supervisor is rung, and
//! where even that fails the relay finds it; while a stream is full or Redis is away, rows are written as not enqueued at once and no `XADD` is tried.
//! Memory is bounded: a queue that is full sends its rows to the relay.

use roadstead_backend::batch::Spacing;
use roadstead_backend::dispatch::{Dispatch, Group, Stream};
use roadstead_backend::store::{Database, relay};
use roadstead_domain::ids::ExecutionId;
use slog::{Logger, info, warn};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

/// Committed batches that may wait for Redis.
const MAX_WAITING_BATCHES: usize = 1_024;
/// Batches that are appended together.
const MAX_GATHERED: usize = 64;
/// From one gathering to the next ([`Spacing`]), so that under load a call of the script has ids enough to be worth it.
const APPEND_SPACING: Duration = Duration::from_millis(3);
/// Ids in one call of the script, which blocks Redis while it runs.
const MAX_IDS_A_CALL: usize = 1_000;
/// How long a full stream is taken to be full without asking: at first, and twice as long each time that it still is. Asking costs a second write of the
/// rows that it does not take; those that are not offered to it reach it through the relay, a moment later.
const FULL_BELIEF: Duration = Duration::from_millis(100);
const MAX_FULL_BELIEF: Duration = Duration::from_secs(2);
/// Between two rings; a ring in between is not lost but late.
const RING_INTERVAL: Duration = Duration::from_millis(50);
/// Between two attempts at a Redis that is away.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

enum Message {
    Append(Vec<Group>),
    Close(oneshot::Sender<()>),
}

/// The way in. Cloning shares it.
#[derive(Clone)]
pub struct Enqueuer {
    queue: mpsc::Sender<Message>,
    gate: Arc<Gate>,
    database: Database,
    log: Logger,
}

/// What is known of Redis without asking.
#[derive(Debug, Default)]
struct Gate {
    away: AtomicBool,
    full: RwLock<HashMap<Stream, Full>>,
    ring_wanted: AtomicBool,
    bell: Notify,
}

/// A stream that did not take what it was offered.
#[derive(Clone, Copy, Debug)]
struct Full {
    until: Instant,
    belief: Duration,
}

impl Enqueuer {
    pub fn start(dispatch: Dispatch, database: Database, log: Logger) -> Self {
        let (queue, inbox) = mpsc::channel(MAX_WAITING_BATCHES);
        let enqueuer = Self { queue, gate: Arc::default(), database, log };
        let task = Appender {
            dispatch,
            gate: Arc::clone(&enqueuer.gate),
            database: enqueuer.database.clone(),
            log: enqueuer.log.clone(),
            ring_due: None,
            last_ring: None,
        };
        tokio::spawn(task.run(inbox));
        enqueuer
    }

    /// Whether a row of this stream should be written as enqueued. If not, ring after its commit.
    pub fn takes(&self, stream: &Stream) -> bool {
        if self.gate.away.load(Ordering::Relaxed) {
            return false;
        }
        let full = self.gate.full.read().unwrap_or_else(PoisonError::into_inner);
        full.is_empty() || full.get(stream).is_none_or(|known| known.until <= Instant::now())
    }

    /// Hands over rows that are committed as enqueued.
    pub async fn append(&self, groups: Vec<Group>) {
        if groups.is_empty() {
            return;
        }
        if let Err(refused) = self.queue.try_send(Message::Append(groups)) {
            let (mpsc::error::TrySendError::Full(message) | mpsc::error::TrySendError::Closed(message)) = refused;
            if let Message::Append(groups) = message {
                for group in groups {
                    leave_to_relay(&self.database, &self.log, &group.stream, &group.ids).await;
                }
                self.ring();
            }
        }
    }

    /// Rings the supervisor soon: something is scheduled, expires, or waits for the relay. Never waits.
    pub fn ring(&self) {
        self.gate.ring_wanted.store(true, Ordering::Release);
        self.gate.bell.notify_one();
    }

    /// Waits until everything that was handed over so far is in Redis or with the relay.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.queue.send(Message::Close(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

impl std::fmt::Debug for Enqueuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enqueuer").field("gate", &self.gate).finish_non_exhaustive()
    }
}

struct Appender {
    dispatch: Dispatch,
    gate: Arc<Gate>,
    database: Database,
    log: Logger,
    ring_due: Option<Instant>,
    last_ring: Option<Instant>,
}

/// What came while it was too soon, or the first that comes after that. May be given up and asked for again: nothing is lost.
async fn gather(inbox: &mut mpsc::Receiver<Message>, messages: &mut Vec<Message>, spacing: &Spacing) -> usize {
    spacing.wait().await;
    inbox.recv_many(messages, MAX_GATHERED).await
}

impl Appender {
    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut messages = Vec::with_capacity(MAX_GATHERED);
        let mut spacing = Spacing::new(APPEND_SPACING);
        loop {
            if self.gate.ring_wanted.swap(false, Ordering::AcqRel) {
                self.want_ring();
            }
            if self.ring_due.is_some_and(|due| due <= Instant::now()) {
                self.ring().await;
            }
            let gate = Arc::clone(&self.gate);
            let due = self.ring_due;
            tokio::select! {
                received = gather(&mut inbox, &mut messages, &spacing) => {
                    if received == 0 {
                        return;
                    }
                    spacing.begin();
                    self.handle(&mut messages).await;
                }
                () = gate.bell.notified() => {}
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    async fn handle(&mut self, messages: &mut Vec<Message>) {
        let mut groups: Vec<Group> = Vec::new();
        let mut closing = Vec::new();
        for message in messages.drain(..) {
            match message {
                Message::Append(more) => merge(&mut groups, more),
                Message::Close(done) => closing.push(done),
            }
        }
        for call in calls(groups) {
            self.append(call).await;
        }
        if !closing.is_empty() && self.ring_due.is_some() {
            self.ring().await;
        }
        for done in closing {
            let _ = done.send(());
        }
    }

    async fn append(&mut self, groups: Vec<Group>) {
        let accepted = match self.dispatch.enqueue(&groups).await {
            Ok(accepted) => accepted,
            Err(error) => {
                self.note_away(&error);
                vec![0; groups.len()]
            }
        };
        for (group, accepted) in groups.iter().zip(accepted) {
            let rest = group.ids.get(accepted..).unwrap_or_default();
            if rest.is_empty() {
                self.note_taken(&group.stream);
                continue;
            }
            if !self.gate.away.load(Ordering::Relaxed) {
                self.note_full(&group.stream);
            }
            leave_to_relay(&self.database, &self.log, &group.stream, rest).await;
            // The script's own ring came before the rows were marked.
            self.want_ring();
        }
    }

    fn note_full(&self, stream: &Stream) {
        let mut full = self.gate.full.write().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        full.retain(|_, known| known.until + MAX_FULL_BELIEF > now);
        let belief = full.get(stream).map_or(FULL_BELIEF, |known| {
            // Offered before it was known to be full: no news.
            if known.until > now { known.belief } else { (known.belief * 2).min(MAX_FULL_BELIEF) }
        });
        full.insert(stream.clone(), Full { until: now + belief, belief });
    }

    fn note_taken(&self, stream: &Stream) {
        if self.gate.full.read().unwrap_or_else(PoisonError::into_inner).contains_key(stream) {
            self.gate.full.write().unwrap_or_else(PoisonError::into_inner).remove(stream);
        }
    }

    fn note_away(&mut self, error: &impl std::fmt::Display) {
        if !self.gate.away.swap(true, Ordering::Relaxed) {
            warn!(self.log, "Redis is away; submissions are accepted and wait for the relay"; "error" => %error);
        }
        self.ring_due = Some(Instant::now() + PROBE_INTERVAL);
    }

    fn want_ring(&mut self) {
        if self.ring_due.is_none() {
            let now = Instant::now();
            self.ring_due = Some(self.last_ring.map_or(now, |last| now.max(last + RING_INTERVAL)));
        }
    }

    /// Also how a Redis that was away is found again.
    async fn ring(&mut self) {
        self.last_ring = Some(Instant::now());
        match self.dispatch.ring_supervisor().await {
            Ok(()) => {
                self.ring_due = None;
                if self.gate.away.swap(false, Ordering::Relaxed) {
                    info!(self.log, "Redis is back");
                }
            }
            Err(error) => self.note_away(&error),
        }
    }
}

/// Groups of one stream become one, in the order of their commits.
fn merge(groups: &mut Vec<Group>, more: Vec<Group>) {
    for group in more {
        match groups.iter_mut().find(|known| known.stream == group.stream) {
            Some(known) => {
                known.share = group.share;
                known.ids.extend(group.ids);
            }
            None => groups.push(group),
        }
    }
}

/// Groups cut and packed so that no call of the script is long.
fn calls(groups: Vec<Group>) -> Vec<Vec<Group>> {
    let mut calls: Vec<Vec<Group>> = Vec::new();
    let mut room = 0;
    for Group { stream, share, ids } in groups {
        let mut ids = ids.as_slice();
        while !ids.is_empty() {
            if room == 0 {
                calls.push(Vec::new());
                room = MAX_IDS_A_CALL;
            }
            let (some, rest) = ids.split_at(ids.len().min(room));
            if let Some(call) = calls.last_mut() {
                call.push(Group { stream: stream.clone(), share, ids: some.to_vec() });
            }
            room -= some.len();
            ids = rest;
        }
    }
    calls
}

/// Takes back the belief that these rows are in their stream. When PostgreSQL is away too, the relay finds out later that it does not hold.
async fn leave_to_relay(database: &Database, log: &Logger, stream: &Stream, ids: &[ExecutionId]) {
    let marked =
        async { database.run(async |connection| relay::mark(connection, &stream.tenant, ids, false).await).await };
    if let Err(error) = marked.await {
        warn!(log, "rows that are not in Redis could not be marked so"; "tenant" => &stream.tenant, "rows" => ids.len(), "error" => %error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn what_comes_after_a_pause_is_not_held_back_and_what_follows_gathers() {
        let (queue, mut inbox) = mpsc::channel(8);
        let mut messages = Vec::new();
        let begin = Instant::now();
        let mut spacing = Spacing::new(APPEND_SPACING);
        queue.send(Message::Append(Vec::new())).await.unwrap();
        assert_eq!((gather(&mut inbox, &mut messages, &spacing).await, begin.elapsed()), (1, Duration::ZERO));
        spacing.begin();
        for _ in 0..3 {
            queue.send(Message::Append(Vec::new())).await.unwrap();
            // A ring comes in between.
            assert!(gather(&mut inbox, &mut messages, &spacing).now_or_never().is_none());
        }
        assert_eq!((gather(&mut inbox, &mut messages, &spacing).await, begin.elapsed()), (3, APPEND_SPACING));
        assert_eq!(messages.len(), 4);
    }
}
