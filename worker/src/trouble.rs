//! What a room can't do anything about but wait, and saying so without flooding the log.

use roadstead_backend::dispatch::DispatchError;
use roadstead_backend::store::StoreError;
use slog::{Logger, info, warn};
use std::time::Duration;
use tokio::time::Instant;

/// What lasts is said again this often: an old line may be rotated away.
const SAME: Duration = Duration::from_secs(300);
/// And what is wrong now for another reason.
const ANOTHER: Duration = Duration::from_secs(60);

/// PostgreSQL or Redis did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
}

/// One kind of trouble of one room: logged when it begins, when it is over, and now and then in between, however often it happens.
#[derive(Debug)]
pub struct Complaint {
    what: &'static str,
    since: Option<Instant>,
    /// When it was last said, and why.
    said: Option<(Instant, String)>,
}

impl Complaint {
    pub const fn about(what: &'static str) -> Self {
        Self { what, since: None, said: None }
    }

    pub fn raise(&mut self, log: &Logger, error: &dyn std::fmt::Display) {
        let (now, error) = (crate::clock::now(), error.to_string());
        let since = *self.since.get_or_insert(now);
        let is_due =
            |(at, before): &(Instant, String)| now.duration_since(*at) >= if *before == error { SAME } else { ANOTHER };
        if self.said.as_ref().is_none_or(is_due) {
            warn!(log, "{} does not work; trying on", self.what; "error" => &error,
                  "since_ms" => now.duration_since(since).as_millis() as u64);
            self.said = Some((now, error));
        }
    }

    pub fn over(&mut self, log: &Logger) {
        if let Some(since) = self.since.take() {
            self.said = None;
            info!(log, "{} works again", self.what; "after_ms" => since.elapsed().as_millis() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slog::{Drain, Never, OwnedKVList, Record, o};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Count(Arc<AtomicUsize>);

    impl Drain for Count {
        type Ok = ();
        type Err = Never;

        fn log(&self, _: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_said_now_and_then_and_what_changes_soon() {
        let count = Arc::new(AtomicUsize::new(0));
        let log = Logger::root(Count(Arc::clone(&count)), o!());
        let mut complaint = Complaint::about("it");
        let mut lines = async |error: &str, seconds: u64| {
            let before = count.load(Ordering::SeqCst);
            for _ in 0..seconds {
                complaint.raise(&log, &error);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            if seconds == 0 {
                complaint.over(&log);
            }
            count.load(Ordering::SeqCst) - before
        };
        assert_eq!(lines("closed", 60).await, 1);
        assert_eq!(lines("no password", 300).await, 1);
        assert_eq!(lines("no password", 900).await, 3);
        assert_eq!(lines("", 0).await, 1);
        assert_eq!(lines("", 0).await, 0, "nothing is over that was not");
        assert_eq!(lines("no password", 1).await, 1);
    }
}
