//! From the stream to the launcher, under the cap.

use crate::fixture::*;
use roadstead_backend::dispatch::Share;
use roadstead_backend::store::tenants::{self, Change};
use roadstead_backend::store::{claim, lease, overdue, query};
use roadstead_domain::execution::State;
use roadstead_domain::ids::ExecutionId;
use roadstead_worker::launch::{End, Launcher};
use roadstead_worker::worker::Settings;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_launch_everything_once_and_never_more_than_the_cap() {
    const CAP: usize = 4;
    let world = World::new().await;
    let workers = [world.start("one", settings(CAP)), world.start("two", settings(CAP))];
    let ids = world.submit((0..60).map(|_| execution()).collect()).await;
    let mut seen = HashSet::new();
    while seen.len() < ids.len() {
        let alive: usize = workers.iter().map(|w| *w.launcher.live().borrow()).sum();
        assert!(alive <= CAP, "{alive} are alive");
        for running in &workers {
            for order in running.launcher.all_launched() {
                if seen.insert(order.attempt) {
                    world.start_attempt(&order).await;
                    world.report(order.attempt).await;
                    running.launcher.end(order.attempt, End::Reported);
                }
            }
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(seen.iter().map(|a| a.execution_id).collect::<HashSet<_>>(), ids.iter().copied().collect());
    assert!(seen.iter().all(|attempt| attempt.attempt == 1));
    let launches: usize = workers.iter().map(|w| w.launcher.all_launched().len()).sum();
    assert_eq!(launches, ids.len());
    for running in workers {
        running.stop().await;
    }
    assert_eq!(claim::berths(&mut *world.connection().await).await.unwrap().live, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_berth_stays_taken_until_the_process_is_gone() {
    let world = World::new().await;
    let running = world.start("one", settings(1));
    world.submit(vec![execution(), execution()]).await;
    let first = running.launcher.launched(1).await.remove(0);
    world.start_attempt(&first).await;
    world.report(first.attempt).await;
    world.wait_for_state(first.attempt.execution_id, State::Succeeded).await;
    // The supervisor has looked for forgotten berths several times by then.
    world
        .sql("UPDATE attempts SET finished_at = finished_at - interval '10 seconds' WHERE finished_at IS NOT NULL")
        .await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(running.launcher.all_launched().len(), 1);
    running.launcher.end(first.attempt, End::Reported);
    running.launcher.launched(2).await;
    assert_eq!(running.launcher.most_live.load(Ordering::SeqCst), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_launch_is_tried_again_as_the_next_attempt() {
    let world = World::new().await;
    let running = world.start("one", settings(4));
    running.launcher.refusing.store(true, Ordering::SeqCst);
    let id = world.submit(vec![execution()]).await[0];
    running.launcher.launched(1).await;
    let execution = world.wait_for_state(id, State::Scheduled).await;
    assert_eq!(execution.reason.unwrap().code, "create_rejected");
    running.launcher.refusing.store(false, Ordering::SeqCst);
    let orders = running.launcher.launched(2).await;
    assert_eq!(orders[1].attempt.attempt, 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_lost_its_data_is_filled_again() {
    let world = World::new().await;
    let running = world.start("one", settings(2));
    world.submit((0..10).map(|_| execution()).collect()).await;
    running.launcher.launched(2).await;
    let client = redis::Client::open(world.redis.url.expose()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> =
        redis::cmd("KEYS").arg(format!("{{{}}}:*", world.redis.prefix)).query_async(&mut connection).await.unwrap();
    assert!(!keys.is_empty());
    let _: () = redis::cmd("DEL").arg(&keys).query_async(&mut connection).await.unwrap();
    for count in 0..10 {
        let order = running.launcher.launched(count + 1).await.remove(count);
        world.start_attempt(&order).await;
        world.report(order.attempt).await;
        running.launcher.end(order.attempt, End::Reported);
    }
    assert_eq!(running.launcher.all_launched().len(), 10);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_cancelled_in_the_queue_is_not_launched() {
    let world = World::new().await;
    let ids = world.submit(vec![execution(), execution()]).await;
    roadstead_backend::store::cancel::cancel(&mut *world.connection().await, "t", ids[0]).await.unwrap();
    let running = world.start("one", settings(4));
    let orders = running.launcher.launched(1).await;
    assert_eq!(orders[0].attempt.execution_id, ids[1]);
    running.stop().await;
    assert_eq!(patient(async || world.dispatch().depth(&stream()).await).await, 0, "both entries are acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_cancelled_before_its_start_is_cancelled_when_its_process_ends() {
    let world = World::new().await;
    let running = world.start("one", settings(4));
    let id = world.submit(vec![execution()]).await[0];
    let order = running.launcher.launched(1).await.remove(0);
    roadstead_backend::store::cancel::cancel(&mut *world.connection().await, "t", id).await.unwrap();
    let reason = roadstead_domain::execution::Reason::new("create_rejected", "the start was refused");
    running.launcher.end(order.attempt, End::NotStarted { reason, retryable: true });
    world.wait_for_state(id, State::Cancelled).await;
    running.stop().await;
}

/// Waits until somebody has heard the workers' bell.
async fn answered(world: &World) {
    let client = redis::Client::open(world.redis.url.expose()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let bell = format!("{{{}}}:bell", world.redis.prefix);
    let silent = async {
        while redis::cmd("LLEN").arg(&bell).query_async::<usize>(&mut connection).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), silent).await.expect("a worker hears the bell");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_berth_that_a_leaving_worker_gives_back_is_taken_by_another() {
    let world = World::new().await;
    // Longer than a test waits: nobody looks unasked.
    let hour = Duration::from_secs(3_600);
    let slow = Settings { reconcile_interval: hour, shutdown_timeout: hour, ..settings(1) };
    let leaving = world.start("leaving", slow);
    world.submit(vec![execution()]).await;
    let order = leaving.launcher.launched(1).await.remove(0);
    world.start_attempt(&order).await;
    let launcher = Arc::clone(&leaving.launcher);
    let left = tokio::spawn(leaving.stop());
    let staying = world.start("staying", slow);
    let next = world.submit(vec![execution()]).await[0];
    answered(&world).await;
    world.report(order.attempt).await;
    // Not so long ago that the supervisor would give its berth back.
    world.sql("UPDATE attempts SET finished_at = now() + interval '1 hour'").await;
    launcher.end(order.attempt, End::Reported);
    assert_eq!(staying.launcher.launched(1).await[0].attempt.execution_id, next);
    left.await.unwrap();
    staying.kill().await;
}

/// A worker whose launcher has one, and whose hand holds the other that it took with it: the ring did not know that their tenant may have one only.
async fn with_one_in_hand(world: &World) -> (Running, ExecutionId) {
    let limit = Change { max_concurrent: Some(Some(1)), ..Change::default() };
    tenants::set(&mut *world.connection().await, "t", limit).await.unwrap();
    let running = world.start("one", settings(4));
    let ids = world.submit(vec![execution(), execution()]).await;
    assert_eq!(running.launcher.launched(1).await[0].attempt.execution_id, ids[0]);
    let dispatch = world.dispatch();
    let share = Share { weight: 1, max_concurrent: Some(1) };
    patient(async || dispatch.note_share("t", share).await).await;
    (running, ids[1])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_worker_has_no_berth_for_is_soon_anybodys() {
    let world = World::new().await;
    let (running, waiting) = with_one_in_hand(&world).await;
    let dispatch = world.dispatch();
    let taken = async {
        loop {
            if let Some(taken) = patient(async || dispatch.take("another", 1, &HashMap::new()).await).await.pop() {
                return taken;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let taken = tokio::time::timeout(Duration::from_secs(60), taken).await.expect("it is put back");
    assert_eq!(taken.id, waiting);
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hand_of_a_leaving_worker_is_taken_by_another_at_once() {
    let world = World::new().await;
    let (running, waiting) = with_one_in_hand(&world).await;
    running.stop().await;
    let dispatch = world.dispatch();
    let taken = patient(async || dispatch.take("another", 1, &HashMap::new()).await).await;
    assert_eq!(taken.iter().map(|taken| taken.id).collect::<Vec<_>>(), [waiting]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_worker_leaves_no_lease_and_no_consumer() {
    let world = World::new().await;
    let running = world.start("one", settings(4));
    let id = world.submit(vec![execution()]).await[0];
    running.launcher.launched(1).await;
    running.stop().await;
    let mut connection = world.connection().await;
    assert_eq!(
        query::get(&mut connection, "t", id).await.unwrap().unwrap().state,
        State::Launching,
        "it reports by itself"
    );
    for name in ["supervisor", &overdue::presence("one")] {
        assert!(lease::acquire(&mut connection, name, "another", Duration::from_secs(5)).await.unwrap(), "{name}");
    }
    assert_eq!(patient(async || world.dispatch().depth(&stream()).await).await, 0);
}
