//! A worker dies between two lines of a launch, twenty times at each boundary, and nothing is lost, started twice, or left behind.

use crate::world::{Fate, World};
use roadstead_testkit::{PATIENCE, wait_for};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

const TIMES: usize = 20;
const CAP: usize = TIMES;

/// Lets a worker get as far as its request to create a Job, and kills it there.
async fn killed_at_creation(fate: Fate) {
    let mut world = World::new(CAP, Duration::from_millis(100)).await;
    let most = world.namespace.watch_the_cap();
    for _ in 0..TIMES {
        let (reached, first) = (Arc::new(Notify::new()), AtomicBool::new(true));
        let tell = Arc::clone(&reached);
        let worker = world.worker().await;
        let doomed = Arc::clone(&worker);
        world.door.judge(move |method, path| {
            if method == "POST" && path.ends_with("/jobs") && first.swap(false, Ordering::SeqCst) {
                if fate == Fate::LoseRequest {
                    doomed.kill();
                }
                tell.notify_one();
                return fate;
            }
            Fate::Pass
        });
        world.submit().await;
        tokio::time::timeout(PATIENCE, reached.notified()).await.expect("a launch");
        worker.kill();
    }
    world.door.pass_all();
    world.worker().await;
    world.all_end_well(TIMES).await;
    assert!(most.load(Ordering::SeqCst) <= CAP);
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn killed_after_the_claim_and_before_the_creation() {
    killed_at_creation(Fate::LoseRequest).await;
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn killed_after_the_creation_and_before_its_answer() {
    killed_at_creation(Fate::LoseReply).await;
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn killed_after_the_launch_is_recorded() {
    let mut world = World::new(CAP, Duration::from_secs(2)).await;
    for number in 1..=TIMES {
        let worker = world.worker().await;
        world.submit().await;
        let recorded = format!("SELECT count(*) FILTER (WHERE launched_at IS NOT NULL) >= {number} FROM attempts");
        wait_for("the record of the launch", PATIENCE, async || {
            if world.stack.sql_value(&recorded).await == "t" { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
        worker.kill();
    }
    world.worker().await;
    world.all_end_well(TIMES).await;
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn killed_before_the_acknowledgement() {
    let mut world = World::new(CAP, Duration::from_secs(1)).await;
    for number in 1..=TIMES {
        let worker = world.worker().await;
        let id = world.submit().await;
        let claimed = format!("SELECT count(*) = 1 FROM attempts WHERE execution_id = '{id}'");
        wait_for("the claim", PATIENCE, async || {
            if world.stack.sql_value(&claimed).await == "t" { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
        // From the claim on, nothing that it says to Redis arrives.
        world.redis_door.close();
        let recorded = format!("SELECT count(*) FILTER (WHERE launched_at IS NOT NULL) >= {number} FROM attempts");
        wait_for("the record of the launch", PATIENCE, async || {
            if world.stack.sql_value(&recorded).await == "t" { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
        worker.kill();
        world.redis_door.reopen();
    }
    world.worker().await;
    world.all_end_well(TIMES).await;
}
