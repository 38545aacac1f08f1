//! What the probes look at. Each question to a server is short, and asked when somebody asks, so that an idle worker asks none.

use super::{Standing, with_type};
use crate::clock;
use crate::worker::Worker;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(1);
/// The dispatcher turns round at least once in a reconcile interval; a statement may take its whole timeout before.
const STATEMENT: Duration = Duration::from_secs(60);

pub struct Probe {
    worker: Arc<Worker>,
    standing: Arc<Standing>,
}

impl Probe {
    pub fn new(worker: Arc<Worker>, standing: Arc<Standing>) -> Self {
        Self { worker, standing }
    }

    pub fn liveness(&self) -> Response<Full<Bytes>> {
        let silent = self.worker.pulse.silent_for(clock::now());
        let alive = silent <= self.worker.settings.reconcile_interval * 2 + STATEMENT;
        answer(alive, &json!({ "alive": alive, "last_turn_seconds_ago": silent.as_secs() }))
    }

    pub async fn readiness(&self) -> Response<Full<Bytes>> {
        let (postgres, redis) = tokio::join!(
            tokio::time::timeout(PATIENCE, self.worker.database.ping()),
            tokio::time::timeout(PATIENCE, self.worker.dispatch.ping()),
        );
        let (postgres, redis) = (matches!(postgres, Ok(Ok(()))), matches!(redis, Ok(Ok(()))));
        let (migrated, stopping) = (self.standing.is_migrated(), self.standing.is_stopping());
        let ready = postgres && redis && migrated && !stopping;
        let live = *self.worker.launcher.live().borrow();
        let body = json!({
            "ready": ready, "postgresql": postgres, "migrated": migrated, "redis": redis, "stopping": stopping,
            "live_attempts": live,
        });
        answer(ready, &body)
    }
}

fn answer(good: bool, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    with_type(status, "application/json", format!("{body}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn ready_is_who_has_its_schema_and_was_not_told_to_stop() {
        let stop = CancellationToken::new();
        let standing = Arc::new(Standing::new(stop.clone()));
        let probe = Probe::new(Arc::new(testing::worker(testing::NOWHERE).await.0), Arc::clone(&standing));
        assert_eq!(probe.readiness().await.status(), StatusCode::SERVICE_UNAVAILABLE);
        standing.note_migrated();
        assert_eq!(probe.readiness().await.status(), StatusCode::OK);
        stop.cancel();
        assert_eq!(probe.readiness().await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(probe.liveness().status(), StatusCode::OK);
    }
}
