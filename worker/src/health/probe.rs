//! What the probes look at. Each question to a server is short, and asked when somebody asks, so that an idle worker asks none.

use super::with_type;
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
}

impl Probe {
    pub fn new(worker: Arc<Worker>) -> Self {
        Self { worker }
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
        let ready = postgres && redis;
        let live = *self.worker.launcher.live().borrow();
        answer(ready, &json!({ "ready": ready, "postgresql": postgres, "redis": redis, "live_attempts": live }))
    }
}

fn answer(good: bool, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    with_type(status, "application/json", format!("{body}\n"))
}
