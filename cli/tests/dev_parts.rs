//! The servers that `roadstead dev` and the tests are built from, as real processes.

use roadstead_cli::dev::launch::Launch;
use roadstead_cli::dev::postgres::{self, Cluster};
use roadstead_cli::dev::programs::Programs;
use roadstead_cli::dev::{ports, redis, s3};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_mins(1);

/// A process that does not outlive its test.
struct Server(Child);

impl Server {
    fn start(launch: &Launch) -> Self {
        let mut child = launch.command().unwrap().spawn().unwrap();
        if let (Some(text), Some(mut stdin)) = (&launch.stdin, child.stdin.take()) {
            std::io::Write::write_all(&mut stdin, text.as_bytes()).unwrap();
        }
        Self(child)
    }

    fn end(&mut self, signal: Signal) -> std::process::ExitStatus {
        kill_process(Pid::from_raw(self.0.id() as i32).unwrap(), signal).unwrap();
        self.0.wait().unwrap()
    }

    async fn ready(&mut self, log: &Path, check: impl AsyncFn() -> Result<(), String>) {
        let began = Instant::now();
        while let Err(why) = check().await {
            let log = || std::fs::read_to_string(log).unwrap_or_default();
            assert!(self.0.try_wait().unwrap().is_none(), "it ended: {}", log());
            assert!(began.elapsed() < DEADLINE, "{why}: {}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn free_port() -> u16 {
    ports::free(&mut Vec::new()).unwrap()
}

#[tokio::test]
async fn postgres_keeps_what_was_committed_and_wants_its_password() {
    let folder = folder();
    let log = folder.path().join("log");
    let programs = Programs::installed().unwrap();
    let cluster = |password: &str| {
        Cluster::new(programs.postgres_bin.clone(), &folder.path().join("pg"), free_port(), password.into(), true)
    };
    let first = cluster("secret").unwrap();
    assert!(!first.is_initialised());
    let status = first.initialisation(log.clone()).unwrap().command().unwrap().status().unwrap();
    assert!(status.success(), "{}", std::fs::read_to_string(&log).unwrap());
    first.initialised().unwrap();

    let mut server = Server::start(&first.server(log.clone()).unwrap());
    server.ready(&log, async || first.accepts().await).await;
    first.ensure_database("roadstead").await.unwrap();
    first.ensure_database("roadstead").await.unwrap();
    let client = first.connect("roadstead").await.unwrap();
    client.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").await.unwrap();
    for (setting, expected) in [("fsync", "on"), ("synchronous_commit", "on"), ("full_page_writes", "on")] {
        let row = client.query_one("SELECT current_setting($1)", &[&setting]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), expected, "{setting}");
    }
    assert!(server.end(postgres::ENDING.signal).success(), "a client that stays does not hold the end up");

    let second = cluster("secret").unwrap();
    assert!(second.is_initialised());
    let mut server = Server::start(&second.server(log.clone()).unwrap());
    server.ready(&log, async || second.accepts().await).await;
    let row = second.connect("roadstead").await.unwrap().query_one("SELECT n FROM kept", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 7);
    let wrong = second.url("roadstead").replace("secret", "wrong");
    assert!(postgres::connect(&wrong).await.is_err());
    server.end(postgres::ENDING.signal);
}

#[tokio::test]
async fn redis_keeps_what_was_written_never_evicts_and_wants_its_password() {
    let folder = folder();
    let log = folder.path().join("log");
    let program = Programs::installed().unwrap().redis_server;
    for run in 0..2 {
        let redis = redis::Server::new(program.clone(), folder.path(), free_port(), "secret".to_owned());
        let mut server = Server::start(&redis.launch(log.clone()).unwrap());
        server.ready(&log, async || redis.answers().await).await;
        let client = ::redis::Client::open(redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let counted: i64 = ::redis::cmd("INCR").arg("runs").query_async(&mut connection).await.unwrap();
        assert_eq!(counted, run + 1);
        for (setting, expected) in
            [("appendonly", "yes"), ("appendfsync", "everysec"), ("maxmemory-policy", "noeviction")]
        {
            let found: Vec<String> =
                ::redis::cmd("CONFIG").arg("GET").arg(setting).query_async(&mut connection).await.unwrap();
            assert_eq!(found, [setting, expected]);
        }
        let stranger = ::redis::Client::open(redis.url().replace("secret", "wrong")).unwrap();
        assert!(stranger.get_multiplexed_async_connection().await.is_err());
        assert!(server.end(redis::ENDING.signal).success());
    }
}

#[tokio::test]
async fn s3_refuses_who_has_no_key_and_ends_when_asked() {
    let folder = folder();
    let log = folder.path().join("log");
    let program = env!("CARGO_BIN_EXE_roadstead").into();
    let s3 = s3::Server::new(program, folder.path(), free_port(), "id".to_owned(), "secret".to_owned());
    s3.make_bucket("bucket").unwrap();
    let launch = s3.launch(log.clone());
    assert!(launch.arguments.iter().all(|argument| argument != "secret") && launch.environment.is_empty());
    let mut server = Server::start(&launch);
    server.ready(&log, async || s3.answers().await).await;
    let answer = reqwest::get(format!("{}/bucket/key", s3.endpoint())).await.unwrap();
    assert_eq!(answer.status(), 403);
    assert!(server.end(s3::ENDING.signal).success());
}
