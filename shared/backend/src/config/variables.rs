//! Every variable that the servers read: the one list behind the reader, `.env.example` and `docs/configuration.md`.

use super::syntax::Kind::{
    self, Bucket, Duration, Host, HttpUrl, Listener, LogFilter, NamespaceTemplate, Namespaces, Number, PostgresUrl,
    Quantity, RedisPrefix, RedisUrl, Seconds, Secret, Switch, Text, Word,
};

/// One variable.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    pub name: &'static str,
    /// Other names for the same; two of them with different values are an error.
    pub aliases: &'static [&'static str],
    pub(super) kind: Kind,
    /// `None`: required, derived, or off.
    pub default: Option<&'static str>,
}

impl Variable {
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

const fn variable(
    name: &'static str,
    aliases: &'static [&'static str],
    kind: Kind,
    default: Option<&'static str>,
) -> Variable {
    Variable { name, aliases, kind, default }
}

const PORT: Kind = Number { min: 0, max: 65_535 };

pub const VARIABLES: &[Variable] = &[
    variable("DATABASE_URL", &["DATABASE_DSN"], PostgresUrl, None),
    variable("DATABASE_MAX_CONNECTIONS", &[], Number { min: 2, max: 1_000 }, Some("12")),
    variable("REDIS_URL", &["REDIS_ADDR"], RedisUrl, Some("redis://redis:6379")),
    variable("REDIS_PREFIX", &[], RedisPrefix, Some("roadstead")),
    variable("S3_ENDPOINT", &[], HttpUrl, None),
    variable("S3_PUBLIC_ENDPOINT", &[], HttpUrl, None),
    variable("S3_REGION", &[], Text, None),
    variable("S3_ACCESS_KEY_ID", &[], Secret, None),
    variable("S3_SECRET_ACCESS_KEY", &[], Secret, None),
    variable("S3_PATH_STYLE", &[], Switch, Some("true")),
    variable("S3_CREATE_BUCKETS", &[], Switch, Some("false")),
    variable("PRESIGN_EXPIRY", &[], Seconds, Some("15m")),
    variable("META_BUCKET_NAME", &["META_BUCKET"], Bucket, None),
    variable("CONTENT_BUCKET_NAME", &["CONTENT_BUCKET"], Bucket, None),
    variable("API_HOST", &[], Host, Some("0.0.0.0")),
    variable("API_PORT", &[], PORT, Some("8080")),
    variable("SERVER_ADDR", &[], Listener, None),
    variable("API_URL", &[], HttpUrl, None),
    variable("BASE_URL", &[], HttpUrl, None),
    variable("WORKER_HOST", &[], Host, Some("0.0.0.0")),
    variable("METRICS_ENABLED", &[], Switch, Some("true")),
    variable("METRICS_PORT", &[], PORT, None),
    variable("RUST_LOG", &[], LogFilter, Some("info")),
    variable("LOG_FORMAT", &[], Word(&["json", "text"]), None),
    variable("LAUNCHER", &[], Word(&["process", "kubernetes"]), None),
    variable("KUBERNETES_ENABLED", &[], Switch, None),
    variable("KUBERNETES_NAMESPACE", &["K8S_NAMESPACE"], NamespaceTemplate, Some("roadstead")),
    variable("NAMESPACE_POLICY", &[], Word(&["create", "require"]), Some("require")),
    variable("NAMESPACE_OBJECTS_FILE", &[], Text, None),
    variable("WATCH_NAMESPACE", &[], Namespaces, None),
    variable("KUBERNETES_RECONCILE_INTERVAL", &[], Duration, Some("30s")),
    variable("EXECUTOR_IMAGE", &[], Text, None),
    variable("EXECUTOR_IMAGE_PULL_POLICY", &[], Word(&["Always", "IfNotPresent", "Never"]), Some("IfNotPresent")),
    variable("EXECUTOR_SERVICE_ACCOUNT", &[], Text, Some("roadstead-executor")),
    variable("EXECUTOR_RUNTIME_CLASS", &[], Text, None),
    variable("USE_KATA_CONTAINERS", &[], Switch, Some("false")),
    variable("WORKFLOW_IMAGE", &[], Text, None),
    variable("JOB_TEMPLATE_FILE", &[], Text, None),
    variable("KUEUE_QUEUE", &[], Text, None),
    variable("EXECUTOR_PATH", &[], Text, None),
    variable("WORKSPACE_ROOT", &[], Text, None),
    variable("JOB_TIMEOUT_SECONDS", &["JOB_TIMEOUT"], Seconds, Some("3600")),
    variable("JOB_START_TIMEOUT_SECONDS", &[], Seconds, Some("300")),
    variable("JOB_MAX_RETRIES", &[], Number { min: 0, max: 100 }, Some("3")),
    variable("JOB_CPU", &[], Quantity, Some("500m")),
    variable("JOB_MEMORY", &[], Quantity, Some("512Mi")),
    variable("JOB_EPHEMERAL_STORAGE", &[], Quantity, Some("1Gi")),
    variable("JOB_MAX_CPU", &[], Quantity, Some("4")),
    variable("JOB_MAX_MEMORY", &[], Quantity, Some("8Gi")),
    variable("JOB_MAX_EPHEMERAL_STORAGE", &[], Quantity, Some("20Gi")),
    variable("MAX_CONCURRENT_JOBS", &[], Number { min: 0, max: 1_000_000 }, Some("10")),
    variable("ATTEMPT_LEASE_SECONDS", &[], Seconds, Some("90")),
    variable("KILL_GRACE_SECONDS", &[], Seconds, Some("10")),
    variable("MAX_QUEUED_PER_TENANT", &[], Number { min: 0, max: u64::MAX }, Some("1000000")),
    variable("MAX_INPUT_BYTES", &[], Number { min: 0, max: 64 << 20 }, Some("67108864")),
    variable("MAX_RESULT_BYTES", &[], Number { min: 0, max: 1 << 30 }, Some("16777216")),
    variable("MAX_LOG_BYTES", &[], Number { min: 0, max: u64::MAX }, Some("4294967296")),
    variable("MAX_ARTIFACT_BYTES", &[], Number { min: 0, max: 5 << 40 }, Some("17179869184")),
    variable("MAX_ARTIFACTS", &[], Number { min: 0, max: 100_000 }, Some("10000")),
    variable("RETENTION", &[], Duration, Some("30d")),
    variable("IDEMPOTENCY_RETENTION", &[], Duration, Some("24h")),
    variable("SHUTDOWN_TIMEOUT", &[], Seconds, Some("30s")),
    variable("MIGRATE_ON_START", &[], Switch, Some("true")),
    variable("DEV_MODE", &[], Switch, Some("false")),
];

/// The variable of that name or alias.
pub fn find(name: &str) -> Option<&'static Variable> {
    VARIABLES.iter().find(|v| v.name == name || v.aliases.contains(&name))
}
