//! The servers that stacks stand on: shared, owned, ended.

use roadstead_cli::dev::processes::Process;
use roadstead_testkit::{PATIENCE, Postgres, Redis, wait_for};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

#[tokio::test]
async fn a_shared_server_is_the_same_for_everybody() {
    let (first, second) = (Redis::shared().await.unwrap(), Redis::shared().await.unwrap());
    assert_eq!(first.process().pid(), second.process().pid());
    let _: () = first.command(&["SET", "greeting", "hello"]).await;
    assert_eq!(second.command::<String>(&["GET", "greeting"]).await, "hello");
}

#[tokio::test]
async fn a_server_of_ones_own_can_be_killed_and_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let redis = Redis::start(&folder.path().join("redis")).await.unwrap();
    let before = redis.process().pid();
    redis.process().kill();
    assert!(!redis.process().is_running());
    redis.restart().await;
    assert_ne!(redis.process().pid(), before);
    assert_eq!(redis.command::<String>(&["PING"]).await, "PONG");
}

#[tokio::test]
async fn a_database_survives_a_crash_of_its_server() {
    let folder = tempfile::tempdir().unwrap();
    // PostgreSQL's account has to get through when root runs the tests.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let postgres = Postgres::start(&folder.path().join("postgres")).await.unwrap();
    postgres.administer("CREATE TABLE kept AS SELECT 7 AS n").await.unwrap();
    postgres.crash().await;
    assert!(postgres.administer("SELECT 1").await.is_err());
    postgres.restart().await;
    postgres.administer("SELECT 1 / (n - 6) FROM kept").await.unwrap();
    let base = postgres.process().pid();
    drop(postgres);
    assert!(Process::of(base).is_none_or(|process| !process.is_alive()));
}

/// Not a test of its own: what [`nothing_outlives_a_killed_test`] kills.
#[tokio::test]
#[ignore = "runs as a child of another test"]
async fn a_test_that_never_ends() {
    let (postgres, redis) = (Postgres::shared().await.unwrap(), Redis::shared().await.unwrap());
    std::fs::write(
        std::env::var_os("PIDS").unwrap(),
        format!("{} {}.", postgres.process().pid(), redis.process().pid()),
    )
    .unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn nothing_outlives_a_killed_test() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let mut test = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "a_test_that_never_ends"])
        .env("PIDS", &file)
        .env("TMPDIR", "/tmp")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let servers = wait_for("the servers", PATIENCE, async || {
        let text = std::fs::read_to_string(&file).map_err(|e| e.to_string())?;
        let text = text.strip_suffix('.').ok_or("cut off")?;
        let servers: Option<Vec<Process>> = text.split(' ').map(|pid| Process::of(pid.parse().ok()?)).collect();
        servers.ok_or_else(|| "gone already".to_owned())
    })
    .await;
    test.kill().unwrap();
    test.wait().unwrap();
    wait_for("the servers' end", PATIENCE, async || match servers.iter().filter(|server| server.is_alive()).count() {
        0 => Ok(()),
        alive => Err(format!("{alive} alive")),
    })
    .await;
}
