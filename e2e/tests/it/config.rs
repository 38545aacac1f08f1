//! Configuration: what is wrong is refused as a whole, and what is written about it is true.

use roadstead_backend::config::{VARIABLES, Variable};
use roadstead_e2e::programs::{self, with};
use roadstead_testkit::Stack;
use std::collections::BTreeMap;

const SERVERS: &[&str] = &["roadstead-api", "roadstead-worker"];

#[tokio::test]
async fn every_mistake_is_told_at_once_and_no_secret_with_it() {
    let stack = Stack::new().await;
    let mut environment = stack.environment();
    for (name, value) in [
        ("DATABASE_URL", "mysql://user:hush@x/y"),
        ("MAX_CONCURRENT_JOBS", "many"),
        ("JOB_TIMEOUT", "soon"),
        ("META_BUCKET", "another"),
        ("METRICS_ENABLED", "perhaps"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "loud"),
        ("S3_ENDPOINT", "nowhere"),
        ("KILL_GRACE_SECONDS", "100"),
        ("SHUTDOWN_TIMEOUT", "0"),
        ("MAX_CONCURENT_JOBS", "3"),
    ] {
        environment = with(&environment, name, Some(value));
    }
    for server in SERVERS {
        let ended = programs::run(server, &[], &environment).await;
        assert_eq!(ended.status, 2, "{server}: {ended:?}");
        for name in [
            "DATABASE_URL",
            "MAX_CONCURRENT_JOBS",
            "JOB_TIMEOUT_SECONDS",
            "META_BUCKET",
            "METRICS_ENABLED",
            "LOG_FORMAT",
            "RUST_LOG",
            "S3_ENDPOINT",
            "ATTEMPT_LEASE_SECONDS",
            "SHUTDOWN_TIMEOUT",
            "did you mean MAX_CONCURRENT_JOBS?",
        ] {
            assert!(ended.stderr.contains(name), "{server}: {name} in {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("hush"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn what_is_required_is_named() {
    for server in SERVERS {
        let ended = programs::run(server, &[], &[]).await;
        assert_eq!(ended.status, 2, "{server}: {ended:?}");
        for name in ["DATABASE_URL", "S3_ENDPOINT", "S3_REGION", "META_BUCKET_NAME", "CONTENT_BUCKET_NAME"] {
            assert!(ended.stderr.contains(name), "{server}: {name} in {}", ended.stderr);
        }
    }
    let ended = programs::run("roadstead-api", &["migrate"], &[]).await;
    assert!(ended.status == 2 && ended.stderr.contains("DATABASE_URL"), "{ended:?}");
    assert_eq!(programs::run("roadstead-api", &["nonsense"], &[]).await.status, 2);
}

#[tokio::test]
async fn the_configuration_is_printed_once_without_its_secrets() {
    let stack = Stack::new().await;
    let api = stack.api().env("LOG_FORMAT", "json").start().await;
    let worker = stack.worker().env("LOG_FORMAT", "json").start().await;
    for (server, log) in [("api", api.log()), ("worker", worker.log())] {
        let lines: Vec<&str> =
            log.lines().filter(|line| line.contains("MAX_CONCURRENT_JOBS") || line.contains("REDIS_PREFIX")).collect();
        assert_eq!(lines.len(), 1, "{server}: {log}");
        assert!(
            log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
            "{server}: JSON lines: {log}"
        );
        for secret in [stack.s3.server().secret_access_key.as_str(), ":test@"] {
            assert!(!log.contains(secret), "{server}: {secret} in {log}");
        }
    }
}

#[tokio::test]
async fn several_may_migrate_at_once() {
    let stack = Stack::new().await;
    stack.postgres.administer("CREATE DATABASE migrated_by_many").await.unwrap();
    let environment = vec![("DATABASE_URL".to_owned(), stack.postgres.url("migrated_by_many"))];
    let all = tokio::join!(
        programs::run("roadstead-api", &["migrate"], &environment),
        programs::run("roadstead-api", &["migrate"], &environment),
        programs::run("roadstead-api", &["migrate"], &environment),
        programs::run("roadstead-api", &["migrate"], &environment),
    );
    for ended in [all.0, all.1, all.2, all.3] {
        assert_eq!(ended.status, 0, "{ended:?}");
    }
    let key = programs::run("roadstead-api", &["keys", "create", "--tenant", "acme"], &environment).await;
    assert!(key.status == 0 && key.stdout.starts_with("rsk_") && key.stdout.lines().count() == 1, "{key:?}");
    let tenants = programs::run("roadstead-api", &["tenants", "list"], &environment).await;
    assert!(tenants.status == 0 && tenants.stdout.contains("acme"), "{tenants:?}");
}

#[tokio::test]
async fn a_file_may_hold_what_the_environment_does_not() {
    let stack = Stack::new().await;
    let file = stack.folder().join("roadstead.toml");
    std::fs::write(&file, "max_concurrent_jobs = 7\nmeta_bucket_name = \"of-the-file\"\n").unwrap();
    let api = stack.api().env("ROADSTEAD_CONFIG", file.display().to_string()).start().await;
    let client = api.client(&stack.key("acme", "read").await);
    assert_eq!(client.get("/v1/capacity").await.json()["cap"], 7);
    std::fs::write(&file, "max_jobs = 7\n").unwrap();
    let refused = stack.api().env("ROADSTEAD_CONFIG", file.display().to_string()).spawn();
    assert_eq!(refused.ended().await.code(), Some(2));
    assert!(refused.log().contains("MAX_JOBS"), "{}", refused.log());
}

fn page(path: &str) -> String {
    std::fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// A row of the page's tables.
fn row(variable: &Variable) -> String {
    let aliases = variable.aliases.iter().map(|alias| format!("`{alias}`")).collect::<Vec<_>>().join(", ");
    let default = variable.default.map_or_else(String::new, |default| format!("`{default}`"));
    format!("| `{}` | {aliases} | {default} |", variable.name)
}

#[test]
fn the_page_about_configuration_names_every_variable_and_no_other() {
    let page = page("docs/configuration.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    for variable in VARIABLES {
        let expected = row(variable);
        let found: Vec<&&str> =
            rows.iter().filter(|row| row.starts_with(&format!("| `{}` |", variable.name))).collect();
        assert_eq!(found.len(), 1, "{expected}");
        assert!(found[0].starts_with(&expected), "should begin with {expected}: {}", found[0]);
        let meaning = found[0][expected.len()..].trim_end_matches('|').trim();
        assert!(meaning.len() > 10, "what {} means is said: {}", variable.name, found[0]);
    }
    assert_eq!(rows.len(), VARIABLES.len(), "no row is of a variable that there is not");
}

#[test]
fn the_example_of_an_environment_names_every_variable_with_its_default() {
    let example = page(".env.example");
    let set: BTreeMap<&str, (&str, bool)> = example
        .lines()
        .filter_map(|line| {
            let (text, is_commented) = line.strip_prefix("# ").map_or((line, false), |text| (text, true));
            let (name, value) = text.split_once('=')?;
            name.bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
                .then_some((name, (value, is_commented)))
        })
        .collect();
    for variable in VARIABLES {
        let Some((value, is_commented)) = set.get(variable.name) else { panic!("{} is missing", variable.name) };
        match variable.default {
            Some(default) => assert_eq!((*value, *is_commented), (default, false), "{}", variable.name),
            // Required, and then there is an example of it; or derived, or off.
            None => assert!(*is_commented == value.is_empty(), "{}={value}", variable.name),
        }
        for alias in variable.aliases {
            assert!(example.contains(alias), "{alias}");
        }
    }
}

#[tokio::test]
async fn metrics_can_be_elsewhere_or_nowhere_and_health_can_be_asked_by_a_command() {
    let stack = Stack::new().await;
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let api = stack.api().env("METRICS_PORT", elsewhere.to_string()).start().await;
    assert_eq!(api.anonymous().get("/metrics").await.status, 404);
    let metrics = roadstead_testkit::Client::new(&format!("http://127.0.0.1:{elsewhere}"), None);
    assert!(metrics.get("/metrics").await.expect(200).text().contains("roadstead_"));
    assert_eq!(metrics.get("/v1/executions").await.status, 404, "nothing else is there");
    let environment = with(&stack.environment(), "API_PORT", api.url().rsplit(':').next());
    assert_eq!(programs::run("roadstead-api", &["healthcheck"], &environment).await.status, 0);
    api.terminate().await;
    assert_ne!(programs::run("roadstead-api", &["healthcheck"], &environment).await.status, 0);
    let none = stack.api().env("METRICS_ENABLED", "false").start().await;
    assert_eq!(none.anonymous().get("/metrics").await.status, 404);
}
