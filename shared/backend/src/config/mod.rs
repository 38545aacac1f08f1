//! Configuration: read once in `main`, checked as a whole, passed on as one struct per concern.
//!
//! The environment wins over the file that `ROADSTEAD_CONFIG` names. Every mistake is reported together; nothing is ever guessed from a wrong
//! value. This folder is the only place that reads the environment.

mod kubernetes;
mod read;
mod variables;

pub use kubernetes::{KubernetesConfig, NamespacePolicy};
pub use read::{ConfigErrors, Reader, listener};
pub use variables::{VARIABLES, Variable};

use std::net::IpAddr;
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
    /// Where `/livez`, `/readyz` and `/metrics` are answered.
    pub port: u16,
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
    /// For making the buckets; absent when no S3 variable is set.
    pub objects: Option<ObjectsConfig>,
    pub log: LogConfig,
}

impl ApiConfig {
    pub fn read(reader: &mut Reader) -> Self {
        let (host, port) = read::listener(reader);
        let local =
            format!("http://{}:{port}", if host.is_unspecified() { "127.0.0.1".into() } else { authority(host) });
        let base_url = reader.url("BASE_URL", &["http", "https"]).unwrap_or_else(|| local.clone());
        let api_url = reader.url("API_URL", &["http", "https"]).unwrap_or(local);
        let metrics = MetricsConfig {
            enabled: reader.boolean("METRICS_ENABLED"),
            port: reader.optional("METRICS_PORT").and_then(|_| reader.number("METRICS_PORT", 0, u16::MAX)),
        };
        let dev_mode = reader.boolean("DEV_MODE");
        if dev_mode && !host.is_loopback() {
            reader.error(
                "DEV_MODE",
                format!("switches authentication off, so API_HOST must be a loopback address, not {host}"),
            );
        }
        Self {
            host,
            port,
            api_url,
            base_url,
            dev_mode,
            migrate_on_start: reader.boolean("MIGRATE_ON_START"),
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
    pub fn read(reader: &mut Reader) -> Self {
        let launcher = match kubernetes::read(reader) {
            Some(kubernetes) => {
                for name in ["API_URL", "EXECUTOR_IMAGE"] {
                    if reader.optional(name).is_none() {
                        reader.error(name, "is required by LAUNCHER=kubernetes");
                    }
                }
                LauncherConfig::Kubernetes(Box::new(kubernetes))
            }
            None => LauncherConfig::Process {
                executor_path: reader
                    .optional("EXECUTOR_PATH")
                    .map_or_else(read::executor_beside_this_program, PathBuf::from),
                workspace_root: reader
                    .optional("WORKSPACE_ROOT")
                    .map_or_else(|| std::env::temp_dir().join("roadstead"), PathBuf::from),
            },
        };
        let (_, api_port) = read::listener(reader);
        Self {
            host: reader.parsed("WORKER_HOST", "an IP address").unwrap_or(IpAddr::from([0, 0, 0, 0])),
            port: reader
                .optional("METRICS_PORT")
                .and_then(|_| reader.number("METRICS_PORT", 0, u16::MAX))
                .unwrap_or(9090),
            metrics_enabled: reader.boolean("METRICS_ENABLED"),
            api_url: reader
                .url("API_URL", &["http", "https"])
                .unwrap_or_else(|| format!("http://127.0.0.1:{api_port}")),
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
        let objects = reader.optional("S3_ENDPOINT").is_some().then(|| objects(reader));
        Self { database: postgres(reader), objects, log: log(reader) }
    }
}

fn authority(host: IpAddr) -> String {
    match host {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

fn postgres(reader: &mut Reader) -> PostgresConfig {
    let url = reader.url("DATABASE_URL", &["postgres", "postgresql"]);
    if url.is_none() {
        reader.missing("DATABASE_URL");
    }
    PostgresConfig {
        url: Secret::new(url.unwrap_or_default()),
        max_connections: reader.number("DATABASE_MAX_CONNECTIONS", 2, 1_000).unwrap_or(2),
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(30),
    }
}

fn redis(reader: &mut Reader) -> RedisConfig {
    let url = match reader.text("REDIS_URL") {
        // `REDIS_ADDR` in other tools is host:port.
        Some(text) if !text.contains("://") && !text.is_empty() => format!("redis://{text}"),
        _ => reader.url("REDIS_URL", &["redis", "rediss", "unix", "redis+unix"]).unwrap_or_default(),
    };
    let prefix = reader.text("REDIS_PREFIX").unwrap_or_default();
    if prefix.is_empty()
        || prefix.len() > 64
        || !prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    {
        reader.error("REDIS_PREFIX", "must be 1 to 64 letters, digits, `-`, `_` or `.`");
    }
    RedisConfig { url: Secret::new(url), prefix }
}

fn objects(reader: &mut Reader) -> ObjectsConfig {
    let endpoint = reader.url("S3_ENDPOINT", &["http", "https"]);
    if endpoint.is_none() {
        reader.missing("S3_ENDPOINT");
    }
    let endpoint = endpoint.unwrap_or_default();
    let credentials = match (reader.optional("S3_ACCESS_KEY_ID"), reader.optional("S3_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => Some((Secret::new(id), Secret::new(secret))),
        (None, None) => None,
        (Some(_), None) => {
            reader.error("S3_SECRET_ACCESS_KEY", "is missing, but S3_ACCESS_KEY_ID is set");
            None
        }
        (None, Some(_)) => {
            reader.error("S3_ACCESS_KEY_ID", "is missing, but S3_SECRET_ACCESS_KEY is set");
            None
        }
    };
    let mut bucket = |name| {
        let bucket = reader.required(name);
        if !bucket.is_empty() && !(3..=63).contains(&bucket.len()) {
            reader.error(name, "must be a bucket name of 3 to 63 characters");
        }
        bucket
    };
    let (meta_bucket, content_bucket) = (bucket("META_BUCKET_NAME"), bucket("CONTENT_BUCKET_NAME"));
    ObjectsConfig {
        public_endpoint: reader.url("S3_PUBLIC_ENDPOINT", &["http", "https"]).unwrap_or_else(|| endpoint.clone()),
        endpoint,
        region: reader.text("S3_REGION").unwrap_or_default(),
        credentials,
        path_style: reader.boolean("S3_PATH_STYLE"),
        meta_bucket,
        content_bucket,
        create_buckets: reader.boolean("S3_CREATE_BUCKETS"),
        presign_expiry: reader.duration("PRESIGN_EXPIRY"),
    }
}

fn executions(reader: &mut Reader) -> ExecutionConfig {
    let attempt_lease = reader.duration("ATTEMPT_LEASE_SECONDS");
    let kill_grace = reader.duration("KILL_GRACE_SECONDS");
    if attempt_lease < kill_grace + Duration::from_secs(5) {
        reader.error("ATTEMPT_LEASE_SECONDS", "must exceed KILL_GRACE_SECONDS by 5 s at least");
    }
    ExecutionConfig {
        timeout: reader.duration("JOB_TIMEOUT_SECONDS"),
        max_retries: reader.number("JOB_MAX_RETRIES", 0, 100).unwrap_or(0),
        max_concurrent_jobs: reader.number("MAX_CONCURRENT_JOBS", 0, 1_000_000).unwrap_or(0),
        max_queued_per_tenant: reader.number("MAX_QUEUED_PER_TENANT", 0, u64::MAX).unwrap_or(0),
        max_input_bytes: reader.number("MAX_INPUT_BYTES", 0, 64 << 20).unwrap_or(0),
        max_result_bytes: reader.number("MAX_RESULT_BYTES", 0, 1 << 30).unwrap_or(0),
        max_log_bytes: reader.number("MAX_LOG_BYTES", 0, u64::MAX).unwrap_or(0),
        max_artifact_bytes: reader.number("MAX_ARTIFACT_BYTES", 0, 5 << 40).unwrap_or(0),
        max_artifacts: reader.number("MAX_ARTIFACTS", 0, 100_000).unwrap_or(0),
        attempt_lease,
        kill_grace,
    }
}

fn log(reader: &mut Reader) -> LogConfig {
    let filter = reader.text("RUST_LOG").unwrap_or_default();
    if let Err(error) = crate::telemetry::Filter::parse(&filter) {
        reader.error("RUST_LOG", error);
    }
    let json = match reader.optional("LOG_FORMAT").as_deref() {
        Some("json") => true,
        Some("text") => false,
        Some(other) => {
            reader.error("LOG_FORMAT", format!("must be `json` or `text`, not `{other}`"));
            true
        }
        None => !std::io::IsTerminal::is_terminal(&std::io::stderr()),
    };
    LogConfig { filter, json }
}

/// A PEM file of further root certificates, as OpenSSL's programs take it.
pub fn extra_roots_file() -> Option<PathBuf> {
    std::env::var_os("SSL_CERT_FILE").map(PathBuf::from)
}

/// Where programs are looked for; steps of the process launcher get it.
pub fn search_path() -> Option<std::ffi::OsString> {
    std::env::var_os("PATH").filter(|path| !path.is_empty())
}

/// The web identity of the pod, when S3's keys come from one (AWS's variables).
pub fn web_identity() -> Option<(String, PathBuf)> {
    let role = std::env::var("AWS_ROLE_ARN").ok()?;
    let file = std::env::var_os("AWS_WEB_IDENTITY_TOKEN_FILE")?;
    Some((role, PathBuf::from(file)))
}
