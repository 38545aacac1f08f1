//! Waiting for a condition: the only way in which a test lets time pass.

use std::panic::Location;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Enough for anything that should take no time, on a machine that is busy with something else.
pub const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
const MAX_POLL: Duration = Duration::from_millis(200);

/// Asks `check` until it answers with `Ok`; panics after `within`, naming what was waited for, what the last answer was, and the test's line.
#[track_caller]
pub fn wait_for<T>(
    what: &str,
    within: Duration,
    check: impl AsyncFnMut() -> Result<T, String>,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    poll(what.to_owned(), within, check, caller)
}

async fn poll<T>(
    what: String,
    within: Duration,
    mut check: impl AsyncFnMut() -> Result<T, String>,
    caller: &Location<'_>,
) -> T {
    let deadline = Instant::now() + within;
    let mut pause = POLL;
    let mut last = "no answer yet".to_owned();
    loop {
        match timeout(deadline.saturating_duration_since(Instant::now()).max(POLL), check()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(why)) => last = why,
            Err(_) => last = format!("the check itself did not come back; before: {last}"),
        }
        assert!(Instant::now() < deadline, "waited {} s for {what} ({caller}): {last}", within.as_secs_f64());
        sleep(pause).await;
        pause = (pause * 2).min(MAX_POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_true_is_returned() {
        let mut asked = 0;
        let check = || {
            asked += 1;
            let answer = if asked < 4 { Err("not yet".to_owned()) } else { Ok(asked) };
            async move { answer }
        };
        assert_eq!(wait_for("the fourth time", PATIENCE, check).await, 4);
    }

    #[tokio::test]
    #[should_panic(expected = "for the moon")]
    async fn what_never_comes_true_is_named() {
        wait_for("the moon", Duration::from_millis(30), async || Err::<(), _>("still dark".to_owned())).await;
    }
}
