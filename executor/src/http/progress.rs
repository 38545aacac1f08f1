//! Whether a transfer still moves. A big upload may take hours; a silent peer may not.

use super::Failure;
use crate::clock;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// What a server may do with a long body that it has whole, before it answers.
const ANSWER_PATIENCE: Duration = Duration::from_mins(5);

/// When a transfer last moved. Clones speak of the same transfer.
#[derive(Clone, Debug)]
pub struct Progress {
    began: Instant,
    moved_after_ms: Arc<AtomicU64>,
    is_long: bool,
    is_sent: Arc<AtomicBool>,
}

impl Progress {
    pub fn start() -> Self {
        Self { began: clock::now(), moved_after_ms: Arc::default(), is_long: false, is_sent: Arc::default() }
    }

    /// Of a body that its server may have to work on before it answers.
    pub fn start_long() -> Self {
        Self { is_long: true, ..Self::start() }
    }

    pub fn made(&self) {
        let after = clock::now().duration_since(self.began).as_millis() as u64;
        self.moved_after_ms.store(after, Ordering::Relaxed);
    }

    /// The last of a body was handed over; what the connection holds of it is little beside a long one.
    pub fn sent(&self) {
        self.is_sent.store(self.is_long, Ordering::Relaxed);
    }

    fn moved_at(&self) -> Instant {
        self.began + Duration::from_millis(self.moved_after_ms.load(Ordering::Relaxed))
    }

    /// Runs a transfer until it is over or has not moved for `idle`; for longer when only the answer to a long body is missing.
    pub async fn unless_idle<T>(
        &self,
        idle: Duration,
        transfer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut transfer = pin!(transfer);
        let patience = || if self.is_sent.load(Ordering::Relaxed) { idle.max(ANSWER_PATIENCE) } else { idle };
        loop {
            let limit = self.moved_at() + patience();
            tokio::select! {
                result = &mut transfer => return result,
                () = sleep_until(limit) => {
                    if self.moved_at() + patience() <= clock::now() {
                        return Err(Failure::Unreachable(format!("no progress for {} s", patience().as_secs_f32())));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_transfer_that_moves_may_take_any_time_and_a_silent_one_may_not() {
        let progress = Progress::start();
        let moving = async {
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_secs(9)).await;
                progress.made();
            }
            Ok(())
        };
        assert!(progress.unless_idle(Duration::from_secs(10), moving).await.is_ok());

        let before = clock::now();
        let silent =
            Progress::start().unless_idle(Duration::from_secs(10), std::future::pending::<Result<(), _>>()).await;
        assert!(matches!(silent, Err(Failure::Unreachable(_))));
        assert_eq!(clock::now() - before, Duration::from_secs(10));

        let (progress, before) = (Progress::start_long(), clock::now());
        progress.sent();
        let unanswered = progress.unless_idle(Duration::from_secs(10), std::future::pending::<Result<(), _>>()).await;
        assert!(matches!(unanswered, Err(Failure::Unreachable(_))));
        assert_eq!(clock::now() - before, ANSWER_PATIENCE);
    }
}
