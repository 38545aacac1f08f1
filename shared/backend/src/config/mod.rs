//! Configuration: read once in `main`, checked as a whole, passed on as one struct per concern.
//!
//! The environment wins over the file that `ROADSTEAD_CONFIG` names. Every mistake is reported together; nothing is ever guessed from a wrong
//! value. This folder is the only place that reads the environment.

mod environment;
mod file;
mod kubernetes;
mod read;
mod summary;
mod syntax;
#[cfg(test)]
mod tests;
mod urls;
mod variables;

pub use environment::{extra_roots_file, read_roots, search_path, web_identity};
pub use kubernetes::{KubernetesConfig, NamespacePolicy};
pub use read::{ConfigErrors, Reader};
pub use summary::Summary;
pub use urls::redacted;
pub use variables::{VARIABLES, Variable};

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A value that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

#[derive(Clone, Debug)]
pub struct PostgresConfig {
    pub url: Secret,
    pub max_connections: u32,
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
}

#[derive(Clone, Debug)]
pub struct RedisConfig {
    pub url: Secret,
    /// Begins every key; keys of one prefix share one hash slot.
    pub prefix: String,
}

#[derive(Clone, Debug)]
pub struct ObjectsConfig {
    pub endpoint: String,
    /// What presigned URLs name.
    pub public_endpoint: String,
    pub region: String,
    pub credentials: Option<(Secret, Secret)>,
    pub path_style: bool,
    pub meta_bucket: String,
    pub content_bucket: String,
    pub create_buckets: bool,
    pub presign_expiry: Duration,
}

/// What an execution gets when its submission and its workflow are silent, and what it may have at most.
#[derive(Clone, Copy, Debug)]
pub struct ExecutionConfig {
    pub timeout: Duration,
    pub max_retries: u32,
    pub max_concurrent_jobs: u32,
    pub max_queued_per_tenant: u64,
    pub max_input_bytes: u64,
    pub max_result_bytes: u64,
    pub max_log_bytes: u64,
    pub max_artifact_bytes: u64,
    pub max_artifacts: u32,
    pub attempt_lease: Duration,
    pub kill_grace: Duration,
}

/// How long a launch may take.
#[derive(Clone, Copy, Debug)]
pub struct LaunchTimes {
    /// Until then a launch belongs to the worker that claimed it.
    pub launch_lease: Duration,
    /// From claim to granted start.
    pub start_timeout: Duration,
}

#[derive(Clone, Debug)]
pub struct LogConfig {
    /// `RUST_LOG`'s directives: `info` or `info,roadstead_backend::store=debug`.
    pub filter: String,
    pub json: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct MetricsConfig {
    pub enabled: bool,
    /// A listener of its own; `None`: the program's HTTP listener.
    pub port: Option<u16>,
}

/// `roadstead-api`.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    pub host: IpAddr,
    pub port: u16,
    /// How executors reach the API.
    pub api_url: String,
    /// How people reach it.
    pub base_url: String,
    pub dev_mode: bool,
    pub migrate_on_start: bool,
    pub shutdown_timeout: Duration,
    pub database: PostgresConfig,
    pub redis: RedisConfig,
    pub objects: ObjectsConfig,
    pub executions: ExecutionConfig,
    /// Present under `LAUNCHER=kubernetes`: attempts prove themselves by tokens of the cluster's.
    pub kubernetes: Option<KubernetesConfig>,
    pub metrics: MetricsConfig,
    pub log: LogConfig,
}

/// Where attempts run.
#[derive(Clone, Debug)]
pub enum LauncherConfig {
    /// As child processes of the worker.
    Process { executor_path: PathBuf, workspace_root: PathBuf },
    /// Each in a Job of its own.
    Kubernetes(Box<KubernetesConfig>),
}

/// `roadstead-worker`.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    pub host: IpAddr,
    /// Where `/livez`, `/readyz` and `/metrics` are answered; `None`: on [`Self::DEFAULT_PORT`] if it is free.
    pub port: Option<u16>,
    pub metrics_enabled: bool,
    pub api_url: String,
    pub launcher: LauncherConfig,
    pub launch: LaunchTimes,
    pub reconcile_interval: Duration,
    pub retention: Duration,
    pub idempotency_retention: Duration,
    pub shutdown_timeout: Duration,
    pub database: PostgresConfig,
    pub redis: RedisConfig,
    pub objects: ObjectsConfig,
    pub executions: ExecutionConfig,
    pub log: LogConfig,
}

/// What `roadstead-api migrate`, `keys` and `tenants` need.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    pub database: PostgresConfig,
    /// For telling the workers what changed.
    pub redis: RedisConfig,
    /// For making the buckets, where that is asked for.
    pub objects: Option<ObjectsConfig>,
    pub log: LogConfig,
}

impl ApiConfig {
    pub fn read(reader: &mut Reader) -> Self {
        let (host, port) = listener(reader);
        let metrics = MetricsConfig {
            enabled: reader.switch("METRICS_ENABLED"),
            port: reader.number("METRICS_PORT").filter(|metrics_port| *metrics_port != port),
        };
        Self {
            host,
            port,
            api_url: api_url(reader),
            base_url: reader.parsed("BASE_URL", urls::http).unwrap_or_else(|| local_url(host, port)),
            dev_mode: dev_mode(reader, "API_HOST", host),
            migrate_on_start: reader.switch("MIGRATE_ON_START"),
            shutdown_timeout: reader.duration("SHUTDOWN_TIMEOUT"),
            database: postgres(reader),
            redis: redis(reader),
            objects: objects(reader),
            executions: executions(reader),
            kubernetes: kubernetes::read(reader),
            metrics,
            log: log(reader),
        }
    }
}

impl WorkerConfig {
    pub const DEFAULT_PORT: u16 = 9090;

    pub fn read(reader: &mut Reader) -> Self {
        let launcher = match kubernetes::read(reader) {
            Some(kubernetes) => {
                for name in ["API_URL", "EXECUTOR_IMAGE"] {
                    if reader.text(name).is_none() {
                        reader.missing(name, "is required by LAUNCHER=kubernetes");
                    }
                }
                LauncherConfig::Kubernetes(Box::new(kubernetes))
            }
            None => LauncherConfig::Process {
                executor_path: reader
                    .text("EXECUTOR_PATH")
                    .map_or_else(environment::executor_beside_this_program, PathBuf::from),
                workspace_root: reader
                    .text("WORKSPACE_ROOT")
                    .map_or_else(|| std::env::temp_dir().join("roadstead"), PathBuf::from),
            },
        };
        let host = if reader.switch("DEV_MODE") && !reader.is_set("WORKER_HOST") {
            Ipv4Addr::LOCALHOST.into()
        } else {
            reader.host("WORKER_HOST")
        };
        dev_mode(reader, "WORKER_HOST", host);
        Self {
            host,
            port: reader.number("METRICS_PORT"),
            metrics_enabled: reader.switch("METRICS_ENABLED"),
            api_url: api_url(reader),
            launcher,
            launch: LaunchTimes {
                launch_lease: Duration::from_secs(15),
                start_timeout: reader.duration("JOB_START_TIMEOUT_SECONDS"),
            },
            reconcile_interval: reader.duration("KUBERNETES_RECONCILE_INTERVAL"),
            retention: reader.duration("RETENTION"),
            idempotency_retention: reader.duration("IDEMPOTENCY_RETENTION"),
            shutdown_timeout: reader.duration("SHUTDOWN_TIMEOUT"),
            database: postgres(reader),
            redis: redis(reader),
            objects: objects(reader),
            executions: executions(reader),
            log: log(reader),
        }
    }
}

impl AdminConfig {
    pub fn read(reader: &mut Reader) -> Self {
        let makes_buckets = reader.switch("S3_CREATE_BUCKETS") && reader.text("S3_ENDPOINT").is_some();
        let objects = makes_buckets.then(|| objects(reader));
        Self { database: postgres(reader), redis: redis(reader), objects, log: log(reader) }
    }
}

/// Of the API.
pub fn listener(reader: &mut Reader) -> (IpAddr, u16) {
    (reader.host("API_HOST"), reader.number("API_PORT").unwrap_or_default())
}

/// Without another word, executors are on the API's machine.
fn api_url(reader: &mut Reader) -> String {
    reader.parsed("API_URL", urls::http).unwrap_or_else(|| {
        let (host, port) = listener(reader);
        local_url(host, port)
    })
}

fn local_url(host: IpAddr, port: u16) -> String {
    let host = if host.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { host };
    format!("http://{}", SocketAddr::new(host, port))
}

/// Each program answers for its own listener.
fn dev_mode(reader: &mut Reader, listener: &str, host: IpAddr) -> bool {
    let dev_mode = reader.switch("DEV_MODE");
    if dev_mode && !host.is_loopback() {
        reader.error(
            "DEV_MODE",
            format!("switches authentication off, so {listener} must be a loopback address, not {host}"),
        );
    }
    dev_mode
}

fn postgres(reader: &mut Reader) -> PostgresConfig {
    reader.required("DATABASE_URL");
    PostgresConfig {
        url: Secret::new(reader.parsed("DATABASE_URL", urls::postgres).unwrap_or_default()),
        max_connections: reader.number("DATABASE_MAX_CONNECTIONS").unwrap_or_default(),
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(30),
    }
}

fn redis(reader: &mut Reader) -> RedisConfig {
    RedisConfig {
        url: Secret::new(reader.parsed("REDIS_URL", urls::redis).unwrap_or_default()),
        prefix: reader.required("REDIS_PREFIX"),
    }
}

fn objects(reader: &mut Reader) -> ObjectsConfig {
    reader.required("S3_ENDPOINT");
    let endpoint = reader.parsed("S3_ENDPOINT", urls::http).unwrap_or_default();
    ObjectsConfig {
        public_endpoint: reader.parsed("S3_PUBLIC_ENDPOINT", urls::http).unwrap_or_else(|| endpoint.clone()),
        endpoint,
        region: reader.required("S3_REGION"),
        credentials: credentials(reader),
        path_style: reader.switch("S3_PATH_STYLE"),
        meta_bucket: reader.required("META_BUCKET_NAME"),
        content_bucket: reader.required("CONTENT_BUCKET_NAME"),
        create_buckets: reader.switch("S3_CREATE_BUCKETS"),
        presign_expiry: reader.duration("PRESIGN_EXPIRY"),
    }
}

/// `None`: the pod's web identity is used.
fn credentials(reader: &mut Reader) -> Option<(Secret, Secret)> {
    match (reader.text("S3_ACCESS_KEY_ID"), reader.text("S3_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => return Some((Secret::new(id), Secret::new(secret))),
        (Some(_), None) => reader.missing("S3_SECRET_ACCESS_KEY", "is missing, but S3_ACCESS_KEY_ID is set"),
        (None, Some(_)) => reader.missing("S3_ACCESS_KEY_ID", "is missing, but S3_SECRET_ACCESS_KEY is set"),
        (None, None) if reader.environment.web_identity().is_some() => {}
        (None, None) => reader.missing(
            "S3_ACCESS_KEY_ID",
            "and S3_SECRET_ACCESS_KEY are required where there is no web identity (AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE)",
        ),
    }
    None
}

fn executions(reader: &mut Reader) -> ExecutionConfig {
    let attempt_lease = reader.duration("ATTEMPT_LEASE_SECONDS");
    let kill_grace = reader.duration("KILL_GRACE_SECONDS");
    if attempt_lease < kill_grace + Duration::from_secs(5) {
        reader.error("ATTEMPT_LEASE_SECONDS", "must exceed KILL_GRACE_SECONDS by 5 s at least");
    }
    ExecutionConfig {
        timeout: reader.duration("JOB_TIMEOUT_SECONDS"),
        max_retries: reader.number("JOB_MAX_RETRIES").unwrap_or_default(),
        max_concurrent_jobs: reader.number("MAX_CONCURRENT_JOBS").unwrap_or_default(),
        max_queued_per_tenant: reader.number("MAX_QUEUED_PER_TENANT").unwrap_or_default(),
        max_input_bytes: reader.number("MAX_INPUT_BYTES").unwrap_or_default(),
        max_result_bytes: reader.number("MAX_RESULT_BYTES").unwrap_or_default(),
        max_log_bytes: reader.number("MAX_LOG_BYTES").unwrap_or_default(),
        max_artifact_bytes: reader.number("MAX_ARTIFACT_BYTES").unwrap_or_default(),
        max_artifacts: reader.number("MAX_ARTIFACTS").unwrap_or_default(),
        attempt_lease,
        kill_grace,
    }
}

fn log(reader: &mut Reader) -> LogConfig {
    let json = match reader.text("LOG_FORMAT") {
        Some(format) => format == "json",
        None => !std::io::IsTerminal::is_terminal(&std::io::stderr()),
    };
    LogConfig { filter: reader.required("RUST_LOG"), json }
}
