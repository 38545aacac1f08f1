//! What servers make of an environment.

use super::{ApiConfig, ConfigErrors, KubernetesConfig, LauncherConfig, Reader, VARIABLES, WorkerConfig};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

fn environment<'a>(extra: &[(&'a str, &'a str)]) -> Vec<(String, String)> {
    let base = [
        ("DATABASE_URL", "postgres://u:hush@db/x?sslmode=require"),
        ("S3_ENDPOINT", "http://s3:9000/"),
        ("S3_REGION", "us-east-1"),
        ("S3_ACCESS_KEY_ID", "hush"),
        ("S3_SECRET_ACCESS_KEY", "hush"),
        ("META_BUCKET_NAME", "meta"),
        ("CONTENT_BUCKET_NAME", "content"),
        ("LAUNCHER", "process"),
    ];
    base.iter().chain(extra).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn api(extra: &[(&str, &str)]) -> Result<ApiConfig, ConfigErrors> {
    let mut reader = Reader::new(environment(extra));
    let config = ApiConfig::read(&mut reader);
    reader.finish(config)
}

fn worker(extra: &[(&str, &str)]) -> Result<WorkerConfig, ConfigErrors> {
    let mut reader = Reader::new(environment(extra));
    let config = WorkerConfig::read(&mut reader);
    reader.finish(config)
}

/// What each program says of the same environment.
fn mistakes(extra: &[(&str, &str)]) -> [String; 2] {
    [api(extra).unwrap_err().to_string(), worker(extra).unwrap_err().to_string()]
}

fn kubernetes(extra: &[(&str, &str)]) -> Result<KubernetesConfig, ConfigErrors> {
    let all = [&[("LAUNCHER", "kubernetes"), ("API_URL", "http://api:8080"), ("EXECUTOR_IMAGE", "executor:1")], extra]
        .concat();
    worker(&all).map(|config| match config.launcher {
        LauncherConfig::Kubernetes(kubernetes) => *kubernetes,
        LauncherConfig::Process { .. } => panic!("not the launcher that was asked for"),
    })
}

/// A file of that end and text, for as long as it is held.
fn file(end: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("roadstead.{end}"));
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

#[test]
fn defaults_are_the_contracts() {
    let config = api(&[]).unwrap();
    assert_eq!((config.port, config.host.to_string().as_str()), (8080, "0.0.0.0"));
    assert_eq!(config.executions.timeout, Duration::from_secs(3600));
    assert_eq!((config.executions.max_retries, config.executions.max_concurrent_jobs), (3, 10));
    assert_eq!(config.api_url, "http://127.0.0.1:8080");
    assert_eq!(config.objects.public_endpoint, "http://s3:9000");
}

#[test]
fn every_mistake_is_reported_together_and_no_secret_with_it() {
    let error = api(&[
        ("MAX_CONCURRENT_JOBS", "many"),
        ("JOB_TIMEOUT", "soon"),
        ("API_PORT", "99999"),
        ("METRICS_ENABLED", "perhaps"),
        ("DATABASE_URL", "mysql://u:hush@db/x"),
        ("REDIS_URL", "http://hush"),
    ])
    .unwrap_err()
    .to_string();
    for name in
        ["MAX_CONCURRENT_JOBS", "JOB_TIMEOUT_SECONDS", "API_PORT", "METRICS_ENABLED", "DATABASE_URL", "REDIS_URL"]
    {
        assert!(error.contains(name), "{name} in {error}");
    }
    assert!(!error.contains("hush"), "{error}");
}

#[test]
fn the_kubernetes_launcher_says_all_that_it_misses() {
    let error = worker(&[("LAUNCHER", "kubernetes")]).unwrap_err().to_string();
    assert!(error.contains("API_URL") && error.contains("EXECUTOR_IMAGE"), "{error}");
    let error = worker(&[("KUBERNETES_ENABLED", "true")]).unwrap_err().to_string();
    assert!(error.contains("LAUNCHER is `process`, but KUBERNETES_ENABLED is true"), "{error}");
    assert!(api(&[("LAUNCHER", "kubernetes")]).unwrap().kubernetes.is_some());
    assert!(api(&[]).unwrap().kubernetes.is_none());
}

#[test]
fn kata_is_a_runtime_class_and_a_contradiction_is_refused() {
    assert_eq!(kubernetes(&[("USE_KATA_CONTAINERS", "true")]).unwrap().runtime_class.as_deref(), Some("kata"));
    assert_eq!(kubernetes(&[("EXECUTOR_RUNTIME_CLASS", "gvisor")]).unwrap().runtime_class.as_deref(), Some("gvisor"));
    assert_eq!(kubernetes(&[]).unwrap().runtime_class, None);
    assert!(kubernetes(&[("USE_KATA_CONTAINERS", "true"), ("EXECUTOR_RUNTIME_CLASS", "gvisor")]).is_err());
}

#[test]
fn what_kubernetes_would_refuse_is_refused_at_the_start() {
    for (name, value) in [
        ("KUBERNETES_NAMESPACE", "Sandbox"),
        ("KUBERNETES_NAMESPACE", "%s-%s"),
        ("NAMESPACE_POLICY", "maybe"),
        ("WATCH_NAMESPACE", "a,B"),
        ("EXECUTOR_IMAGE_PULL_POLICY", "Sometimes"),
        ("JOB_MEMORY", "much"),
        ("JOB_CPU", "5"),
    ] {
        let error = kubernetes(&[(name, value)]).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    let config = kubernetes(&[("K8S_NAMESPACE", "sandbox-%s"), ("WATCH_NAMESPACE", "a, b")]).unwrap();
    assert_eq!((config.namespace_template.as_str(), config.watch_namespaces.len()), ("sandbox-%s", 2));
}

#[test]
fn every_default_is_a_value_that_would_be_accepted() {
    for variable in VARIABLES {
        if let Some(default) = variable.default {
            assert_eq!(variable.kind.check(default), Ok(()), "{}", variable.name);
        }
    }
}

#[test]
fn what_is_wrong_is_refused_by_the_program_that_does_not_use_it_too() {
    let wrong = [
        ("KUBERNETES_RECONCILE_INTERVAL", "never"),
        ("JOB_START_TIMEOUT_SECONDS", "soon"),
        ("USE_KATA_CONTAINERS", "perhaps"),
        ("KUBERNETES_NAMESPACE", "%s%s"),
        ("JOB_CPU", "0"),
        ("WORKER_HOST", "here"),
        ("DEV_MODE", "perhaps"),
        ("BASE_URL", "x"),
        ("MIGRATE_ON_START", "maybe"),
        ("SERVER_ADDR", "8080"),
    ];
    for mistakes in mistakes(&wrong) {
        for (name, _) in wrong {
            assert_eq!(mistakes.matches(&format!("- {name} ")).count(), 1, "{name} in {mistakes}");
        }
    }
}

#[test]
fn a_wrong_value_is_one_mistake() {
    for (name, value) in [("DATABASE_URL", "mysql://u:hush@db/x"), ("ATTEMPT_LEASE_SECONDS", "500ms")] {
        for mistakes in mistakes(&[(name, value)]) {
            assert!(mistakes.contains("has 1 mistake(s)") && mistakes.contains(name), "{mistakes}");
        }
    }
}

#[test]
fn a_value_that_is_no_text_is_refused() {
    let mut variables: Vec<(OsString, OsString)> =
        environment(&[]).into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    variables.push(("REDIS_PREFIX".into(), OsString::from_vec(vec![0xff])));
    variables.push(("SOMEBODY_ELSES".into(), OsString::from_vec(vec![0xff])));
    let mistakes = Reader::new(variables).finish(()).unwrap_err().to_string();
    assert!(mistakes.contains("has 1 mistake(s)") && mistakes.contains("REDIS_PREFIX is not UTF-8"), "{mistakes}");
}

#[test]
fn two_names_of_one_variable_may_agree_only() {
    assert!(api(&[("META_BUCKET", "meta")]).is_ok());
    let error = api(&[("META_BUCKET", "other")]).unwrap_err().to_string();
    assert!(error.contains("META_BUCKET and META_BUCKET_NAME"), "{error}");
}

#[test]
fn server_addr_is_both_halves_of_a_listener() {
    let listener = |extra: &[(&str, &str)]| api(extra).map(|config| format!("{} {}", config.host, config.port)).ok();
    for (server_addr, host, port, expected) in [
        ("127.0.0.1:9", "", "", Some("127.0.0.1 9")),
        (":9", "", "", Some("0.0.0.0 9")),
        (":9", "::1", "", Some("::1 9")),
        ("[::1]:9", "0:0:0:0:0:0:0:1", "9", Some("::1 9")),
        ("localhost:9", "localhost", "", Some("127.0.0.1 9")),
        ("127.0.0.1:9", "", "8", None),
        ("127.0.0.1:9", "127.0.0.2", "", None),
    ] {
        let extra = [("SERVER_ADDR", server_addr), ("API_HOST", host), ("API_PORT", port)];
        assert_eq!(listener(&extra).as_deref(), expected, "{extra:?}");
    }
}

#[test]
fn the_environment_wins_over_the_file_by_whichever_name() {
    let (_folder, path) =
        file("toml", "max_concurrent_jobs = 7\njob_timeout = \"2m\"\nserver_addr = \"127.0.0.1:9\"\n");
    let config = |extra: &[(&str, &str)]| api(&[&[("ROADSTEAD_CONFIG", path.as_str())], extra].concat()).unwrap();
    let all = config(&[("JOB_TIMEOUT_SECONDS", "5"), ("API_PORT", "8")]);
    assert_eq!(all.executions.max_concurrent_jobs, 7);
    assert_eq!(all.executions.timeout, Duration::from_secs(5));
    assert_eq!((all.host.to_string().as_str(), all.port), ("127.0.0.1", 8));
    let unset = config(&[("MAX_CONCURRENT_JOBS", " "), ("JOB_TIMEOUT_SECONDS", "")]);
    assert_eq!((unset.executions.max_concurrent_jobs, unset.executions.timeout.as_secs()), (7, 120));

    let (_folder, path) = file("yaml", "api_host: 127.0.0.1\napi_port: 7\n");
    let config = |server_addr| api(&[("ROADSTEAD_CONFIG", &path), ("SERVER_ADDR", server_addr)]).unwrap();
    assert_eq!((config(":9").host.to_string().as_str(), config(":9").port), ("127.0.0.1", 9));
    assert_eq!((config("[::1]:9").host.to_string().as_str(), config("[::1]:9").port), ("::1", 9));
}

#[test]
fn an_unknown_name_is_refused_in_the_file_and_told_in_the_environment() {
    let (_folder, path) = file("toml", "max_jobs = 7\nmax_concurent_jobs = 7\n");
    let error = api(&[("ROADSTEAD_CONFIG", &path)]).unwrap_err().to_string();
    assert!(error.contains("MAX_JOBS is not a known variable"), "{error}");
    assert!(error.contains("is it MAX_CONCURRENT_JOBS?"), "{error}");

    let others =
        [("APP_PORT", "3000"), ("BASE_URI", "x"), ("MAX_CONCURENT_JOBS", "3"), ("PATH", "/bin"), ("JOBS", "3")];
    let reader = Reader::new(environment(&others));
    let slips: Vec<String> = reader.summary().slips.into_iter().map(|slip| slip.name).collect();
    assert_eq!(slips, ["APP_PORT", "BASE_URI", "MAX_CONCURENT_JOBS"]);
    assert!(reader.finish(()).is_ok());

    let mut reader = Reader::new([("DATABASE_URI", "postgres://db")]);
    let config = ApiConfig::read(&mut reader);
    let error = reader.finish(config).unwrap_err().to_string();
    assert!(error.contains("DATABASE_URL is required") && error.contains("did you mean DATABASE_URL?"), "{error}");
}

#[test]
fn an_empty_name_of_a_file_is_none() {
    assert!(api(&[("ROADSTEAD_CONFIG", ""), ("SSL_CERT_FILE", "")]).is_ok());
    for name in ["ROADSTEAD_CONFIG", "SSL_CERT_FILE"] {
        for mistakes in mistakes(&[(name, "/nowhere/there")]) {
            assert!(mistakes.contains(name) && mistakes.contains("/nowhere/there"), "{mistakes}");
        }
    }
    let (_folder, path) = file("pem", "no certificate");
    assert!(api(&[("SSL_CERT_FILE", &path)]).is_err());
}

#[test]
fn without_keys_of_s3_a_web_identity_is_required() {
    let keyless = [("S3_ACCESS_KEY_ID", ""), ("S3_SECRET_ACCESS_KEY", "")];
    for mistakes in mistakes(&keyless) {
        assert!(mistakes.contains("S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY are required"), "{mistakes}");
    }
    let identity = [("AWS_ROLE_ARN", "arn"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token")];
    assert!(api(&[keyless, identity].concat()).unwrap().objects.credentials.is_none());
    assert!(api(&[keyless, [identity[0], ("AWS_WEB_IDENTITY_TOKEN_FILE", "")]].concat()).is_err());
    for mistakes in mistakes(&keyless[1..]) {
        assert!(mistakes.contains("S3_SECRET_ACCESS_KEY is missing"), "{mistakes}");
    }
}

#[test]
fn an_administrator_needs_nothing_of_s3_but_to_make_the_buckets() {
    let admin = |extra: &[(&str, &str)]| {
        let mut reader =
            Reader::new([&[("DATABASE_URL", "postgres://db"), ("S3_ENDPOINT", "http://s3")], extra].concat());
        let config = super::AdminConfig::read(&mut reader);
        reader.finish(config)
    };
    assert!(admin(&[]).unwrap().objects.is_none());
    assert!(admin(&[("S3_CREATE_BUCKETS", "true")]).unwrap_err().to_string().contains("S3_ACCESS_KEY_ID"));
}

#[test]
fn dev_mode_wants_each_program_on_loopback() {
    let everywhere = [("DEV_MODE", "true"), ("API_HOST", "0.0.0.0"), ("WORKER_HOST", "0.0.0.0")];
    let [of_api, of_worker] = mistakes(&everywhere);
    assert!(of_api.contains("API_HOST must be a loopback address"), "{of_api}");
    assert!(of_worker.contains("WORKER_HOST must be a loopback address"), "{of_worker}");
    let loopback = [("DEV_MODE", "true"), ("API_HOST", "127.0.0.1"), ("WORKER_HOST", "localhost")];
    assert!(api(&loopback).is_ok() && worker(&loopback).is_ok());
    assert!(worker(&loopback[..2]).unwrap().host.is_loopback(), "it has no reason to be anywhere else");
}

#[test]
fn both_programs_derive_the_same_address_of_the_api() {
    for (extra, expected) in [
        (("SERVER_ADDR", "10.1.2.3:9"), "http://10.1.2.3:9"),
        (("API_HOST", "::1"), "http://[::1]:8080"),
        (("API_HOST", "::"), "http://127.0.0.1:8080"),
        (("API_URL", "https://api/"), "https://api"),
    ] {
        assert_eq!(api(&[extra]).unwrap().api_url, expected);
        assert_eq!(worker(&[extra]).unwrap().api_url, expected);
    }
}

#[test]
fn metrics_on_the_apis_own_port_are_on_its_one_listener() {
    assert_eq!(api(&[("METRICS_PORT", "8080")]).unwrap().metrics.port, None);
    assert_eq!(api(&[("METRICS_PORT", "9100")]).unwrap().metrics.port, Some(9100));
    assert_eq!(worker(&[("METRICS_PORT", "8080")]).unwrap().port, Some(8080));
    assert_eq!(worker(&[]).unwrap().port, None);
}

#[test]
fn a_namespace_that_may_not_be_looked_at_can_not_be_the_jobs() {
    let error = kubernetes(&[("KUBERNETES_NAMESPACE", "jobs"), ("WATCH_NAMESPACE", "a,b")]).unwrap_err().to_string();
    assert!(error.contains("WATCH_NAMESPACE does not hold `jobs`"), "{error}");
    assert!(kubernetes(&[("KUBERNETES_NAMESPACE", "jobs"), ("WATCH_NAMESPACE", "a,jobs")]).is_ok());
}

#[test]
fn what_is_told_at_the_start_is_what_holds_without_its_secrets() {
    let extra = [
        ("REDIS_ADDR", ":hush@r:1/0"),
        ("API_URL", "http://u:hush@api:1/?key=hush"),
        ("S3_PUBLIC_ENDPOINT", "http://hush@s3"),
    ];
    let mut reader = Reader::new(environment(&extra));
    WorkerConfig::read(&mut reader);
    let shown = reader.summary().values;
    for (name, value) in [
        ("DATABASE_URL", "postgres://db/x"),
        ("REDIS_URL", "redis://r:1/0"),
        ("API_URL", "http://api:1/"),
        ("S3_PUBLIC_ENDPOINT", "http://s3"),
        ("S3_SECRET_ACCESS_KEY", "<redacted>"),
        ("MAX_CONCURRENT_JOBS", "10"),
    ] {
        assert_eq!(shown.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!shown.contains_key("MIGRATE_ON_START"), "it is the API's");
    assert!(!format!("{shown:?}").contains("hush"), "{shown:?}");
}
