//! What every handler shares: connections, configuration, caches, and the queues in front of the database.

use crate::attempts::{Identity, Reports};
use crate::auth::{KeyCache, Principal, Role};
use crate::capacity::LoadCache;
use crate::changes::Changes;
use crate::enqueue::Enqueuer;
use crate::metrics::GaugeCache;
use crate::query::live::Streams;
use crate::quota::Quotas;
use crate::submit::definition::Remembered;
use crate::submit::idempotency::InFlight;
use crate::submit::service::Submitter;
use crate::workflow_cache::WorkflowCache;
use roadstead_backend::config::ApiConfig;
use roadstead_backend::dispatch::{Dispatch, DispatchError};
use roadstead_backend::objects::{Objects, ObjectsError};
use roadstead_backend::store::Database;
use roadstead_backend::store::tenants::Tenant;
use roadstead_backend::telemetry::MetricsHandle;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The tenant of everybody where there is no authentication.
pub const DEV_TENANT: &str = "default";

/// One per process, behind `web::Data`.
pub struct App {
    pub config: Arc<ApiConfig>,
    pub database: Database,
    pub dispatch: Dispatch,
    pub objects: Objects,
    pub keys: KeyCache,
    pub workflows: WorkflowCache,
    pub definitions: Remembered,
    pub quotas: Quotas,
    pub in_flight: InFlight,
    pub enqueuer: Enqueuer,
    pub submitter: Submitter,
    pub reports: Reports,
    /// `None`: attempts prove themselves by the credential that their launcher gave them.
    pub identity: Option<Identity>,
    pub changes: Changes,
    pub load: LoadCache,
    pub streams: Streams,
    pub gauges: GaugeCache,
    pub log: slog::Logger,
    /// `None`: metrics are switched off.
    pub metrics: Option<MetricsHandle>,
    /// Cancelled when the program is told to end: what streams and waits ends then.
    pub stopping: CancellationToken,
    /// Under `DEV_MODE`, whoever asks.
    pub everybody: Option<Principal>,
    /// The schema is this program's.
    migrated: AtomicBool,
}

/// What a configuration can turn out to be wrong about without a connection.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("REDIS_URL: {0}")]
    Redis(#[from] DispatchError),
    #[error("S3: {0}")]
    Objects(#[from] ObjectsError),
}

impl App {
    /// Makes everything without connecting to anything; within a runtime, which carries the background tasks.
    pub fn new(config: ApiConfig, log: slog::Logger, metrics: Option<MetricsHandle>) -> Result<Self, StateError> {
        let database = Database::new(&config.database).impatient();
        let dispatch = Dispatch::new(&config.redis)?;
        let objects = Objects::new(&config.objects)?;
        let enqueuer = Enqueuer::start(dispatch.clone(), database.clone(), log.clone());
        Ok(Self {
            keys: KeyCache::default(),
            workflows: WorkflowCache::default(),
            definitions: Remembered::default(),
            quotas: Quotas::new(database.clone()),
            in_flight: InFlight::default(),
            submitter: Submitter::start(&database, &enqueuer),
            reports: Reports::start(&database, config.executions.attempt_lease),
            identity: config.kubernetes.as_ref().map(|kubernetes| Identity::start(kubernetes, &log)),
            changes: Changes::default(),
            load: LoadCache::default(),
            streams: Streams::default(),
            gauges: GaugeCache::default(),
            stopping: CancellationToken::new(),
            everybody: config.dev_mode.then(everybody),
            migrated: AtomicBool::new(false),
            config: Arc::new(config),
            database,
            dispatch,
            objects,
            enqueuer,
            log,
            metrics,
        })
    }

    /// Until this is noted, no route that needs the schema answers.
    pub fn note_migrated(&self) {
        self.migrated.store(true, Ordering::Release);
    }

    pub fn is_migrated(&self) -> bool {
        self.migrated.load(Ordering::Acquire)
    }
}

fn everybody() -> Principal {
    let tenant = Tenant { name: DEV_TENANT.to_owned(), weight: 1, max_concurrent: None, max_queued: None };
    Principal { tenant: Arc::new(tenant), role: Role::Admin, key_id: Uuid::nil() }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("config", &self.config).finish_non_exhaustive()
    }
}
