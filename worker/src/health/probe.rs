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
    use crate::launch::process::{ProcessLauncher, Surroundings};
    use crate::worker::{Freed, Judged, Pulse, Settings};
    use roadstead_backend::config::{LaunchTimes, ObjectsConfig, PostgresConfig, RedisConfig, Secret};
    use roadstead_backend::dispatch::Dispatch;
    use roadstead_backend::objects::Objects;
    use roadstead_backend::store::Database;
    use slog::{Discard, Logger, o};
    use std::path::PathBuf;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    const SPAN: Duration = Duration::from_secs(30);

    async fn worker() -> Arc<Worker> {
        let servers = roadstead_testkit::servers().await;
        let database = PostgresConfig {
            url: Secret::new(servers.new_database().await),
            max_connections: 2,
            connect_timeout: SPAN,
            statement_timeout: SPAN,
        };
        let redis = RedisConfig { url: Secret::new(servers.redis_url()), prefix: "probed".to_owned() };
        let objects = ObjectsConfig {
            endpoint: "http://127.0.0.1:9".to_owned(),
            public_endpoint: "http://127.0.0.1:9".to_owned(),
            region: "us-east-1".to_owned(),
            credentials: Some((Secret::new("id"), Secret::new("secret"))),
            path_style: true,
            meta_bucket: "meta".to_owned(),
            content_bucket: "content".to_owned(),
            create_buckets: false,
            presign_expiry: SPAN,
        };
        let surroundings = Surroundings {
            executor: PathBuf::from("/nowhere"),
            api_url: "http://127.0.0.1:9".to_owned(),
            workspace_root: PathBuf::from("/nowhere"),
            search_path: None,
            certificates: None,
        };
        let log = Logger::root(Discard, o!());
        Arc::new(Worker {
            id: "probed".to_owned(),
            database: Database::new(&database),
            dispatch: Dispatch::new(&redis).unwrap(),
            objects: Objects::new(&objects).unwrap(),
            launcher: Arc::new(ProcessLauncher::new(surroundings, 1, log.clone())),
            settings: Settings {
                cap: 1,
                launch: LaunchTimes { launch_lease: SPAN, start_timeout: SPAN },
                reconcile_interval: SPAN,
                retention: SPAN,
                idempotency_retention: SPAN,
                shutdown_timeout: SPAN,
            },
            freed: Freed::default(),
            judged: Judged::default(),
            settling: TaskTracker::new(),
            pulse: Pulse::default(),
            log,
        })
    }

    #[tokio::test]
    async fn ready_is_who_has_its_schema_and_was_not_told_to_stop() {
        let stop = CancellationToken::new();
        let standing = Arc::new(Standing::new(stop.clone()));
        let probe = Probe::new(worker().await, Arc::clone(&standing));
        assert_eq!(probe.readiness().await.status(), StatusCode::SERVICE_UNAVAILABLE);
        standing.note_migrated();
        assert_eq!(probe.readiness().await.status(), StatusCode::OK);
        stop.cancel();
        assert_eq!(probe.readiness().await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(probe.liveness().status(), StatusCode::OK);
    }
}
