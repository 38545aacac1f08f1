//! The cluster's API is away, loses answers, or refuses for a while; workers come and go under load.

use crate::world::{Fate, World};
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CAP: usize = 8;
const EXECUTIONS: usize = 60;

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn workers_that_are_killed_under_load_lose_nothing_and_keep_the_cap() {
    let mut world = World::new(CAP, Duration::from_millis(300)).await;
    let most = world.namespace.watch_the_cap();
    for _ in 0..2 {
        world.worker().await;
    }
    for _ in 0..EXECUTIONS {
        world.submit().await;
    }
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(100..900))).await;
        world.workers.remove(0).kill();
        world.worker().await;
    }
    world.all_end_well(EXECUTIONS).await;
    assert!(most.load(Ordering::SeqCst) <= CAP, "{} Jobs at once", most.load(Ordering::SeqCst));
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn a_cluster_that_is_away_for_a_minute_is_waited_for() {
    let mut world = World::new(CAP, Duration::from_millis(200)).await;
    let most = world.namespace.watch_the_cap();
    world.worker().await;
    let is_away = Arc::new(AtomicBool::new(false));
    let away = Arc::clone(&is_away);
    world.door.judge(move |_, _| if away.load(Ordering::SeqCst) { Fate::LoseRequest } else { Fate::Pass });
    for _ in 0..EXECUTIONS / 2 {
        world.submit().await;
    }
    is_away.store(true, Ordering::SeqCst);
    for _ in 0..EXECUTIONS / 2 {
        world.submit().await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    is_away.store(false, Ordering::SeqCst);
    world.all_end_well(EXECUTIONS).await;
    assert!(most.load(Ordering::SeqCst) <= CAP, "{} Jobs at once", most.load(Ordering::SeqCst));
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn answers_that_are_lost_at_random_change_nothing() {
    let mut world = World::new(CAP, Duration::from_millis(200)).await;
    let most = world.namespace.watch_the_cap();
    world.door.judge(|method, _| match (method, rand::rng().random_range(0..10)) {
        ("POST" | "DELETE", 0..2) => Fate::LoseReply,
        ("POST" | "DELETE", 2) => Fate::LoseRequest,
        _ => Fate::Pass,
    });
    for _ in 0..2 {
        world.worker().await;
    }
    for _ in 0..EXECUTIONS {
        world.submit().await;
    }
    world.all_end_well(EXECUTIONS).await;
    assert!(most.load(Ordering::SeqCst) <= CAP, "{} Jobs at once", most.load(Ordering::SeqCst));
}
