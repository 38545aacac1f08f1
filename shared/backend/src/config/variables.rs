//! Every variable that the servers read: the one list behind the reader, `.env.example` and `docs/configuration.md`.

/// One variable.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    pub name: &'static str,
    /// Other names for the same; two of them with different values are an error.
    pub aliases: &'static [&'static str],
    /// `None`: required, derived, or off.
    pub default: Option<&'static str>,
    pub secret: bool,
}

const fn plain(name: &'static str, aliases: &'static [&'static str], default: Option<&'static str>) -> Variable {
    Variable { name, aliases, default, secret: false }
}

const fn secret(name: &'static str, aliases: &'static [&'static str], default: Option<&'static str>) -> Variable {
    Variable { name, aliases, default, secret: true }
}

pub const VARIABLES: &[Variable] = &[
    secret("DATABASE_URL", &["DATABASE_DSN"], None),
    plain("DATABASE_MAX_CONNECTIONS", &[], Some("12")),
    secret("REDIS_URL", &["REDIS_ADDR"], Some("redis://redis:6379")),
    plain("REDIS_PREFIX", &[], Some("roadstead")),
    plain("S3_ENDPOINT", &[], None),
    plain("S3_PUBLIC_ENDPOINT", &[], None),
    plain("S3_REGION", &[], Some("us-east-1")),
    secret("S3_ACCESS_KEY_ID", &[], None),
    secret("S3_SECRET_ACCESS_KEY", &[], None),
    plain("S3_PATH_STYLE", &[], Some("true")),
    plain("S3_CREATE_BUCKETS", &[], Some("false")),
    plain("PRESIGN_EXPIRY", &[], Some("15m")),
    plain("META_BUCKET_NAME", &["META_BUCKET"], None),
    plain("CONTENT_BUCKET_NAME", &["CONTENT_BUCKET"], None),
    plain("API_HOST", &[], Some("0.0.0.0")),
    plain("API_PORT", &[], Some("8080")),
    plain("SERVER_ADDR", &[], None),
    plain("API_URL", &[], None),
    plain("BASE_URL", &[], None),
    plain("WORKER_HOST", &[], Some("0.0.0.0")),
    plain("METRICS_ENABLED", &[], Some("true")),
    plain("METRICS_PORT", &[], None),
    plain("RUST_LOG", &[], Some("info")),
    plain("LOG_FORMAT", &[], None),
    plain("LAUNCHER", &[], None),
    plain("KUBERNETES_ENABLED", &[], None),
    plain("KUBERNETES_NAMESPACE", &["K8S_NAMESPACE"], Some("roadstead")),
    plain("NAMESPACE_POLICY", &[], Some("require")),
    plain("NAMESPACE_OBJECTS_FILE", &[], None),
    plain("WATCH_NAMESPACE", &[], None),
    plain("KUBERNETES_RECONCILE_INTERVAL", &[], Some("30s")),
    plain("EXECUTOR_IMAGE", &[], None),
    plain("EXECUTOR_IMAGE_PULL_POLICY", &[], Some("IfNotPresent")),
    plain("EXECUTOR_SERVICE_ACCOUNT", &[], Some("roadstead-executor")),
    plain("EXECUTOR_RUNTIME_CLASS", &[], None),
    plain("USE_KATA_CONTAINERS", &[], Some("false")),
    plain("WORKFLOW_IMAGE", &[], None),
    plain("JOB_TEMPLATE_FILE", &[], None),
    plain("KUEUE_QUEUE", &[], None),
    plain("EXECUTOR_PATH", &[], None),
    plain("WORKSPACE_ROOT", &[], None),
    plain("JOB_TIMEOUT_SECONDS", &["JOB_TIMEOUT"], Some("3600")),
    plain("JOB_START_TIMEOUT_SECONDS", &[], Some("300")),
    plain("JOB_MAX_RETRIES", &[], Some("3")),
    plain("JOB_CPU", &[], Some("500m")),
    plain("JOB_MEMORY", &[], Some("512Mi")),
    plain("JOB_EPHEMERAL_STORAGE", &[], Some("1Gi")),
    plain("JOB_MAX_CPU", &[], Some("4")),
    plain("JOB_MAX_MEMORY", &[], Some("8Gi")),
    plain("JOB_MAX_EPHEMERAL_STORAGE", &[], Some("20Gi")),
    plain("MAX_CONCURRENT_JOBS", &[], Some("10")),
    plain("ATTEMPT_LEASE_SECONDS", &[], Some("90")),
    plain("KILL_GRACE_SECONDS", &[], Some("10")),
    plain("MAX_QUEUED_PER_TENANT", &[], Some("1000000")),
    plain("MAX_INPUT_BYTES", &[], Some("67108864")),
    plain("MAX_RESULT_BYTES", &[], Some("16777216")),
    plain("MAX_LOG_BYTES", &[], Some("4294967296")),
    plain("MAX_ARTIFACT_BYTES", &[], Some("17179869184")),
    plain("MAX_ARTIFACTS", &[], Some("10000")),
    plain("RETENTION", &[], Some("30d")),
    plain("IDEMPOTENCY_RETENTION", &[], Some("24h")),
    plain("SHUTDOWN_TIMEOUT", &[], Some("30s")),
    plain("MIGRATE_ON_START", &[], Some("true")),
    plain("DEV_MODE", &[], Some("false")),
];

/// The variable of that name or alias.
pub fn find(name: &str) -> Option<&'static Variable> {
    VARIABLES.iter().find(|v| v.name == name || v.aliases.contains(&name))
}
