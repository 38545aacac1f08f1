//! Group commit: while one batch is with the database, the next one gathers; where many small ones would follow each other, it waits a little for more.
//!
//! Invariant: every accepted item is answered exactly once, with what the batch that carried it answered. Called by whoever serves many
//! small requests by one statement: submit, start, heartbeat, finish.

use crate::store::{StoreError, StoreResult};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

/// Answers a whole batch, in its order.
pub trait Commit<T, A>: Send + Sync + 'static {
    fn commit(&self, items: Vec<T>) -> impl Future<Output = Vec<A>> + Send;
}

/// A statement for a whole batch, which may be asked again.
pub trait Statement<T, A>: Send + Sync + 'static {
    /// Answers in the batch's order.
    fn run(&self, items: &[T]) -> impl Future<Output = StoreResult<Vec<A>>> + Send;
}

/// One answer for each. What PostgreSQL refuses is asked about one by one, so that none fails for what is wrong with another; an outage is everybody's.
pub async fn answer_each<T: Sync, A: Send>(statement: &impl Statement<T, A>, items: &[T]) -> Vec<StoreResult<A>> {
    match statement.run(items).await {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        // Nothing of it was committed, so each may be tried alone.
        Err(StoreError::Refused(_)) if items.len() > 1 => {
            let mut answers = Vec::with_capacity(items.len());
            for item in items {
                let alone = statement.run(std::slice::from_ref(item)).await;
                answers.push(alone.and_then(|mut answers| {
                    answers.pop().ok_or_else(|| StoreError::Refused("an item was not answered".to_owned()))
                }));
            }
            answers
        }
        Err(error) => items.iter().map(|_| Err(error.clone())).collect(),
    }
}

/// How a [`Batcher`] gathers.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Batches that are with the database at once.
    pub concurrent: usize,
    /// Items in one of them.
    pub max_items: usize,
    /// Items that may wait.
    pub max_waiting: usize,
    /// From the beginning of one batch to that of the next, at the least ([`Spacing`]).
    pub spacing: Duration,
}

/// Keeps beginnings apart. One that comes after a pause is not held back.
#[derive(Debug)]
pub struct Spacing {
    apart: Duration,
    next: Instant,
}

impl Spacing {
    /// The first may begin at once.
    pub fn new(apart: Duration) -> Self {
        Self { apart, next: Instant::now() }
    }

    /// Returns when one may begin. May be given up and asked again.
    pub async fn wait(&self) {
        // A timer that is over already would still be waited for until the clock's next millisecond.
        if Instant::now() < self.next {
            tokio::time::sleep_until(self.next).await;
        }
    }

    /// One begins now.
    pub fn begin(&mut self) {
        self.next = Instant::now() + self.apart;
    }
}

/// A queue in front of one [`Commit`]. Cloning shares it.
#[derive(Debug)]
pub struct Batcher<T, A> {
    queue: mpsc::Sender<(T, oneshot::Sender<A>)>,
}

impl<T, A> Clone for Batcher<T, A> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

/// The batcher's queue is full, or the batch was lost with the task that carried it. Whether it was committed is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much is waiting to be committed")]
pub struct Overloaded;

impl<T: Send + 'static, A: Send + 'static> Batcher<T, A> {
    pub fn start(commit: impl Commit<T, A>, terms: Terms) -> Self {
        let (queue, mut waiting) = mpsc::channel::<(T, oneshot::Sender<A>)>(terms.max_waiting);
        let commit = Arc::new(commit);
        let turns = Arc::new(Semaphore::new(terms.concurrent));
        tokio::spawn(async move {
            let mut spacing = Spacing::new(terms.spacing);
            // A turn is taken first, so that everything that arrives while all turns are out is in the next batch.
            while let Ok(turn) = Arc::clone(&turns).acquire_owned().await {
                spacing.wait().await;
                let mut gathered = Vec::new();
                if waiting.recv_many(&mut gathered, terms.max_items).await == 0 {
                    break;
                }
                spacing.begin();
                let commit = Arc::clone(&commit);
                tokio::spawn(async move {
                    let (items, replies): (Vec<T>, Vec<_>) = gathered.into_iter().unzip();
                    let answers = commit.commit(items).await;
                    drop(turn);
                    for (reply, answer) in replies.into_iter().zip(answers) {
                        // Whoever asked may have gone; the commit stands all the same.
                        let _ = reply.send(answer);
                    }
                });
            }
        });
        Self { queue }
    }

    /// Waits for a place in the queue only as long as there is one.
    pub async fn submit(&self, item: T) -> Result<A, Overloaded> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send((item, reply)).map_err(|_| Overloaded)?;
        answer.await.map_err(|_| Overloaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const TERMS: Terms = Terms { concurrent: 1, max_items: 1, max_waiting: 1, spacing: Duration::ZERO };

    struct Recorder {
        sizes: Mutex<Vec<usize>>,
        gate: Semaphore,
        running: AtomicUsize,
    }

    impl Commit<u32, u32> for Arc<Recorder> {
        async fn commit(&self, items: Vec<u32>) -> Vec<u32> {
            assert_eq!(self.running.fetch_add(1, Ordering::SeqCst), 0, "one batch at a time");
            self.gate.acquire().await.unwrap().forget();
            self.sizes.lock().unwrap().push(items.len());
            self.running.fetch_sub(1, Ordering::SeqCst);
            items.into_iter().map(|n| n * 2).collect()
        }
    }

    #[tokio::test]
    async fn what_arrives_during_a_commit_is_one_batch_and_each_gets_its_own_answer() {
        let recorder =
            Arc::new(Recorder { sizes: Mutex::default(), gate: Semaphore::new(0), running: AtomicUsize::new(0) });
        let batcher = Batcher::start(Arc::clone(&recorder), Terms { max_items: 100, max_waiting: 1_000, ..TERMS });
        let first = tokio::spawn({
            let batcher = batcher.clone();
            async move { batcher.submit(1).await }
        });
        while recorder.running.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let rest: Vec<_> = (2..=50)
            .map(|n| {
                let batcher = batcher.clone();
                tokio::spawn(async move { batcher.submit(n).await })
            })
            .collect();
        while batcher.queue.capacity() != 1_000 - 49 {
            tokio::task::yield_now().await;
        }
        recorder.gate.add_permits(2);
        assert_eq!(first.await.unwrap(), Ok(2));
        for (n, answer) in (2..=50).zip(rest) {
            assert_eq!(answer.await.unwrap(), Ok(n * 2));
        }
        assert_eq!(*recorder.sizes.lock().unwrap(), [1, 49]);
    }

    #[tokio::test]
    async fn a_full_queue_says_so() {
        let recorder =
            Arc::new(Recorder { sizes: Mutex::default(), gate: Semaphore::new(0), running: AtomicUsize::new(0) });
        let batcher = Batcher::start(Arc::clone(&recorder), TERMS);
        let first = tokio::spawn({
            let batcher = batcher.clone();
            async move { batcher.submit(1).await }
        });
        while recorder.running.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn({
            let batcher = batcher.clone();
            async move { batcher.submit(2).await }
        });
        while batcher.queue.capacity() != 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(batcher.submit(3).await, Err(Overloaded));
        recorder.gate.add_permits(2);
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (Ok(2), Ok(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_after_a_pause_is_not_held_back_and_what_follows_gathers() {
        let recorder =
            Arc::new(Recorder { sizes: Mutex::default(), gate: Semaphore::new(100), running: AtomicUsize::new(0) });
        let spacing = Duration::from_millis(3);
        let terms = Terms { max_items: 100, max_waiting: 100, spacing, ..TERMS };
        let batcher = Batcher::start(Arc::clone(&recorder), terms);
        let begin = Instant::now();
        for pause in [0, 3, 60] {
            tokio::time::advance(Duration::from_millis(pause)).await;
            let asked = Instant::now();
            batcher.submit(1).await.unwrap();
            assert_eq!(asked.elapsed(), Duration::ZERO, "after {pause} ms");
        }
        let some: Vec<_> = (2..=4)
            .map(|n| {
                let batcher = batcher.clone();
                tokio::spawn(async move { batcher.submit(n).await })
            })
            .collect();
        for answer in some {
            answer.await.unwrap().unwrap();
        }
        assert_eq!(begin.elapsed(), Duration::from_millis(63) + spacing);
        assert_eq!(*recorder.sizes.lock().unwrap(), [1, 1, 1, 3]);
    }

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

    async fn answered(items: &[u32]) -> (Vec<Result<u32, &'static str>>, usize) {
        let echo = Echo::default();
        let answers = answer_each(&echo, items).await.into_iter();
        let word = |error| if matches!(error, StoreError::Refused(_)) { "refused" } else { "away" };
        (answers.map(|answer| answer.map_err(word)).collect(), echo.0.into_inner())
    }

    #[tokio::test]
    async fn an_item_that_is_refused_fails_by_itself() {
        assert_eq!(answered(&[1, 3]).await, (vec![Ok(1), Ok(3)], 1));
        assert_eq!(answered(&[1, 2, 3]).await, (vec![Ok(1), Err("refused"), Ok(3)], 4));
    }

    #[tokio::test]
    async fn an_outage_is_not_asked_about_one_by_one() {
        assert_eq!(answered(&[1, 0]).await, (vec![Err("away"); 2], 1));
    }
}
