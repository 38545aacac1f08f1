//! A worker for unit tests: its own database, a launcher that launches nothing, and whatever object store it is told of.

use crate::launch::process::{ProcessLauncher, Surroundings};
use crate::worker::{Freed, Judged, Pulse, Settings, Worker};
use roadstead_backend::config::{LaunchTimes, ObjectsConfig, PostgresConfig, RedisConfig, Secret};
use roadstead_backend::dispatch::Dispatch;
use roadstead_backend::objects::Objects;
use roadstead_backend::store::Database;
use slog::{Discard, Logger, o};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// Nobody answers there.
pub const NOWHERE: &str = "http://127.0.0.1:9";

/// The database has no schema yet.
pub async fn worker(object_store: &str) -> (Worker, PostgresConfig) {
    let servers = roadstead_testkit::servers().await;
    let database = PostgresConfig {
        url: Secret::new(servers.new_database().await),
        max_connections: 2,
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(30),
    };
    let redis = RedisConfig { url: Secret::new(servers.redis_url()), prefix: "unit".to_owned() };
    let objects = ObjectsConfig {
        endpoint: object_store.to_owned(),
        public_endpoint: NOWHERE.to_owned(),
        region: "us-east-1".to_owned(),
        credentials: Some((Secret::new("id"), Secret::new("secret"))),
        path_style: true,
        meta_bucket: "meta".to_owned(),
        content_bucket: "content".to_owned(),
        create_buckets: false,
        presign_expiry: Duration::from_secs(900),
    };
    let surroundings = Surroundings {
        executor: PathBuf::from("/nowhere"),
        api_url: NOWHERE.to_owned(),
        workspace_root: PathBuf::from("/nowhere"),
        search_path: None,
        certificates: None,
    };
    let log = Logger::root(Discard, o!());
    let worker = Worker {
        id: "one".to_owned(),
        database: Database::new(&database),
        dispatch: Dispatch::new(&redis).unwrap(),
        objects: Objects::new(&objects).unwrap(),
        launcher: Arc::new(ProcessLauncher::new(surroundings, 1, log.clone())),
        settings: Settings {
            cap: 1,
            launch: LaunchTimes { launch_lease: Duration::from_secs(15), start_timeout: Duration::from_secs(300) },
            reconcile_interval: Duration::from_secs(30),
            retention: Duration::from_secs(3_600),
            idempotency_retention: Duration::from_secs(3_600),
            shutdown_timeout: Duration::ZERO,
        },
        freed: Freed::default(),
        judged: Judged::default(),
        settling: TaskTracker::new(),
        pulse: Pulse::default(),
        log,
    };
    (worker, database)
}
