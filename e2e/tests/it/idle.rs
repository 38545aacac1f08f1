//! A system that has nothing to do does nothing.

use roadstead_e2e::scene::{Executions, Scene};
use roadstead_testkit::{PATIENCE, Stack, wait_for};
use std::time::Duration;

/// Long enough for what is done once an interval to count as what it is.
const WATCHED: Duration = Duration::from_secs(16);

#[tokio::test]
async fn an_idle_system_leaves_redis_and_postgresql_alone() {
    let mut scene = Scene::on(Stack::builder().own_redis().start().await, &[]).await;
    for _ in 0..2 {
        scene.add_worker(&[]).await;
    }
    scene.succeed("true").await;
    // What follows an execution's end has an end, too.
    wait_for("the system to be quiet", PATIENCE, async || {
        let (commands, _) = spent(&scene, Duration::from_secs(2)).await;
        if commands < 4 { Ok(()) } else { Err(format!("{commands} commands in 2 s")) }
    })
    .await;
    // PostgreSQL tells of a transaction up to ten seconds late: what ended before may be counted once, what goes on is counted every time.
    let mut looks = Vec::new();
    for _ in 0..4 {
        let look @ (commands, transactions) = spent(&scene, WATCHED).await;
        // Three processes, each at most once in its reconcile interval of 30 s, and the supervisor's lease.
        if commands < WATCHED.as_secs() as i64 && transactions <= 10 {
            return;
        }
        looks.push(look);
    }
    panic!("(Redis commands, PostgreSQL transactions) in {WATCHED:?}, again and again: {looks:?}");
}

/// Redis commands and PostgreSQL transactions that others than this test made in that time.
async fn spent(scene: &Scene, time: Duration) -> (i64, i64) {
    let before = count(scene).await;
    tokio::time::sleep(time).await;
    let after = count(scene).await;
    // Asking costs, too: an INFO and a connection's greeting, which differs between versions of Redis, and a query.
    let asking = after.commands[1] - after.commands[0];
    (after.commands[0] - before.commands[1] - asking, after.transactions - before.transactions - 1)
}

struct Count {
    /// As it was told to one who asked, and to one who asked again.
    commands: [i64; 2],
    transactions: i64,
}

async fn count(scene: &Scene) -> Count {
    let commands = async || {
        let info: String = scene.stack.redis.command(&["INFO", "stats"]).await;
        let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:")).unwrap().to_owned();
        line.trim().parse::<i64>().unwrap()
    };
    let commands = [commands().await, commands().await];
    let sql = "SELECT pg_stat_force_next_flush(), xact_commit + xact_rollback AS n FROM pg_stat_database WHERE datname = current_database()";
    let rows = scene.stack.sql(sql).await;
    let transactions = rows[0][1].as_deref().unwrap().parse().unwrap();
    Count { commands, transactions }
}
