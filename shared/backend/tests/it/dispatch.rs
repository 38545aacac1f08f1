//! The stream protocol against a real Redis.

use crate::fixture::*;
use roadstead_backend::config::{RedisConfig, Secret};
use roadstead_backend::dispatch::{
    Dispatch, DispatchError, Group, Health, NOTHING, Rung, Share, Stream, Taken, WINDOW,
};
use roadstead_domain::execution::Priority;
use roadstead_domain::ids::ExecutionId;
use roadstead_testkit::Redis;
use std::collections::HashMap;
use std::time::Duration;

fn ids(count: usize) -> Vec<ExecutionId> {
    (0..count).map(|_| ExecutionId::new()).collect()
}

async fn enqueue(dispatch: &Dispatch, tenant: &str, priority: Priority, ids: &[ExecutionId]) {
    assert_eq!(enqueue_some(dispatch, group(stream(tenant, priority), SHARE, ids)).await, ids.len());
}

fn group(stream: Stream, share: Share, ids: &[ExecutionId]) -> Group {
    Group { stream, share, ids: ids.to_vec() }
}

/// Appends one group; answers how many were taken in.
async fn enqueue_some(dispatch: &Dispatch, group: Group) -> usize {
    dispatch.enqueue(&[group]).await.unwrap()[0]
}

async fn take(dispatch: &Dispatch, count: usize) -> Vec<Taken> {
    dispatch.take("me", count, &HashMap::new()).await.unwrap()
}

fn tenants(taken: &[Taken]) -> String {
    taken.iter().map(|t| t.stream.tenant.as_str()).collect()
}

#[tokio::test]
async fn entries_come_in_order_and_are_gone_when_done() {
    let dispatch = dispatch().await;
    let all = ids(5);
    enqueue(&dispatch, "a", Priority::Normal, &all).await;
    let taken = take(&dispatch, 3).await;
    assert_eq!(taken.iter().map(|t| t.id).collect::<Vec<_>>(), all[..3]);
    assert_eq!(dispatch.oldest(&stream("a", Priority::Normal)).await.unwrap(), Some(all[0]), "taken, but not done");
    assert_eq!(dispatch.depth(&stream("a", Priority::Normal)).await.unwrap(), 5);
    let rest = take(&dispatch, 10).await;
    assert_eq!(rest.len(), 2);
    assert!(take(&dispatch, 10).await.is_empty());
    dispatch.done(&taken).await.unwrap();
    assert_eq!(dispatch.oldest(&stream("a", Priority::Normal)).await.unwrap(), Some(all[3]));
    dispatch.done(&rest).await.unwrap();
    assert_eq!(dispatch.oldest(&stream("a", Priority::Normal)).await.unwrap(), None);
    assert!(dispatch.reclaim("other", Duration::ZERO, 10).await.unwrap().is_empty(), "nothing is pending");
}

#[tokio::test]
async fn a_redis_that_is_full_is_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let redis = Redis::start(&folder.path().join("redis")).await.unwrap();
    let dispatch = Dispatch::new(&RedisConfig { url: Secret::new(redis.url()), prefix: "full".to_owned() }).unwrap();
    dispatch.begin_epoch().await.unwrap();
    enqueue(&dispatch, "a", Priority::Normal, &ids(3)).await;
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = dispatch.enqueue(&[group(stream("a", Priority::Normal), SHARE, &ids(1))]).await;
    assert!(refused.is_err(), "the relay appends it later: {refused:?}");
    dispatch.put_back(&take(&dispatch, 1).await).await.unwrap();
    dispatch.ring_workers().await.unwrap();
    let taken = take(&dispatch, 2).await;
    assert_eq!(taken.len(), 2);
    dispatch.leave("me").await.unwrap();
    dispatch.done(&take(&dispatch, 3).await).await.unwrap();
    assert_eq!(dispatch.depth(&stream("a", Priority::Normal)).await.unwrap(), 0);
}

#[tokio::test]
async fn tenants_take_turns_by_weight_whatever_their_backlog() {
    let dispatch = dispatch().await;
    enqueue(&dispatch, "a", Priority::Normal, &ids(1_000)).await;
    enqueue_some(&dispatch, group(stream("b", Priority::Normal), Share { weight: 2, max_concurrent: None }, &ids(6)))
        .await;
    enqueue(&dispatch, "c", Priority::Normal, &ids(1)).await;
    assert_eq!(tenants(&take(&dispatch, 8).await), "abbcabba");
}

#[tokio::test]
async fn high_priority_goes_first_within_a_tenant() {
    let dispatch = dispatch().await;
    let (low, normal, high) = (ids(1), ids(1), ids(1));
    enqueue(&dispatch, "a", Priority::Low, &low).await;
    enqueue(&dispatch, "a", Priority::Normal, &normal).await;
    enqueue(&dispatch, "a", Priority::High, &high).await;
    let order: Vec<_> = take(&dispatch, 3).await.into_iter().map(|t| t.id).collect();
    assert_eq!(order, [high[0], normal[0], low[0]]);
}

#[tokio::test]
async fn a_tenant_at_its_limit_is_passed_over_and_not_forgotten() {
    let dispatch = dispatch().await;
    let limited = Share { weight: 1, max_concurrent: Some(2) };
    enqueue_some(&dispatch, group(stream("a", Priority::Normal), limited, &ids(5))).await;
    enqueue(&dispatch, "b", Priority::Normal, &ids(2)).await;
    let live = HashMap::from([("a".to_owned(), 1)]);
    assert_eq!(tenants(&dispatch.take("me", 10, &live).await.unwrap()), "abb");
    let live = HashMap::from([("a".to_owned(), 2)]);
    assert_eq!(tenants(&dispatch.take("me", 10, &live).await.unwrap()), "");
    let live = HashMap::from([("a".to_owned(), 0)]);
    assert_eq!(tenants(&dispatch.take("me", 10, &live).await.unwrap()), "aa");
}

#[tokio::test]
async fn a_tenant_of_whom_nothing_may_be_taken_holds_up_nobody_and_comes_back() {
    let dispatch = dispatch().await;
    for tenant in ["a", "b"] {
        enqueue(&dispatch, tenant, Priority::Normal, &ids(2)).await;
    }
    let live = HashMap::from([("a".to_owned(), NOTHING)]);
    assert_eq!(tenants(&dispatch.take("me", 10, &live).await.unwrap()), "bb");
    assert_eq!(tenants(&dispatch.take("me", 10, &live).await.unwrap()), "");
    assert_eq!(tenants(&take(&dispatch, 10).await), "aa");
}

#[tokio::test]
async fn a_share_that_changed_wakes_a_worker_and_one_that_did_not_lets_it_sleep() {
    let dispatch = dispatch().await;
    let mut bell = dispatch.worker_bell();
    let limited = |max_concurrent| Share { weight: 1, max_concurrent: Some(max_concurrent) };
    enqueue_some(&dispatch, group(stream("a", Priority::Normal), limited(0), &ids(1))).await;
    assert_eq!(bell.wait(Duration::from_secs(5)).await.unwrap(), Rung::Rung, "there is something to take");
    assert_eq!(tenants(&take(&dispatch, 10).await), "");
    dispatch.note_share("a", limited(0)).await.unwrap();
    assert_eq!(bell.wait(Duration::ZERO).await.unwrap(), Rung::Silent);
    dispatch.note_share("a", limited(1)).await.unwrap();
    assert_eq!(bell.wait(Duration::from_secs(5)).await.unwrap(), Rung::Rung);
    assert_eq!(tenants(&take(&dispatch, 10).await), "a");
}

#[tokio::test]
async fn a_stream_holds_its_window_and_only_the_relay_appends_behind_it() {
    let dispatch = dispatch().await;
    let a = stream("a", Priority::Normal);
    let (first, second) = (ids(WINDOW - 1), ids(3));
    assert_eq!(enqueue_some(&dispatch, group(a.clone(), SHARE, &first)).await, WINDOW - 1);
    assert_eq!(enqueue_some(&dispatch, group(a.clone(), SHARE, &second)).await, 1);
    let mut bell = dispatch.supervisor_bell();
    assert_eq!(bell.wait(Duration::from_secs(5)).await.unwrap(), Rung::Rung, "the relay is called");
    let taken = take(&dispatch, 256).await;
    dispatch.done(&taken).await.unwrap();
    assert_eq!(
        enqueue_some(&dispatch, group(a.clone(), SHARE, &ids(1))).await,
        0,
        "rows wait in PostgreSQL and go first"
    );
    assert_eq!(dispatch.refill(&group(a.clone(), SHARE, &second[1..])).await.unwrap(), 2);
    dispatch.caught_up(&a).await.unwrap();
    assert_eq!(enqueue_some(&dispatch, group(a.clone(), SHARE, &ids(1))).await, 1);
}

#[tokio::test]
async fn groups_of_many_streams_go_in_one_call_and_each_is_answered() {
    let dispatch = dispatch().await;
    let full = stream("full", Priority::Normal);
    enqueue(&dispatch, "full", Priority::Normal, &ids(WINDOW - 1)).await;
    let (high, low) = (ids(2), ids(1));
    let groups = [
        group(stream("a", Priority::High), SHARE, &high),
        group(full.clone(), SHARE, &ids(3)),
        group(stream("a", Priority::Low), SHARE, &low),
    ];
    assert_eq!(dispatch.enqueue(&groups).await.unwrap(), [2, 1, 1]);
    assert_eq!(dispatch.oldest(&groups[0].stream).await.unwrap(), Some(high[0]));
    assert_eq!(dispatch.oldest(&groups[2].stream).await.unwrap(), Some(low[0]));
    assert_eq!(dispatch.depth(&full).await.unwrap(), WINDOW);
}

#[tokio::test]
async fn a_drained_stream_with_rows_waiting_calls_the_relay() {
    let dispatch = dispatch().await;
    let a = stream("a", Priority::Normal);
    enqueue_some(&dispatch, group(a.clone(), SHARE, &ids(WINDOW + 1))).await;
    let mut bell = dispatch.supervisor_bell();
    assert_eq!(bell.wait(Duration::from_secs(5)).await.unwrap(), Rung::Rung);
    while let taken = take(&dispatch, 1_000).await
        && !taken.is_empty()
    {
        dispatch.done(&taken).await.unwrap();
    }
    assert_eq!(bell.wait(Duration::from_secs(5)).await.unwrap(), Rung::Rung);
}

#[tokio::test]
async fn what_a_dead_worker_took_comes_again() {
    let dispatch = dispatch().await;
    let all = ids(3);
    enqueue(&dispatch, "a", Priority::Normal, &all).await;
    assert_eq!(dispatch.take("dead", 2, &HashMap::new()).await.unwrap().len(), 2);
    assert!(dispatch.reclaim("me", Duration::from_secs(60), 10).await.unwrap().is_empty(), "it may be alive");
    let first = dispatch.reclaim("me", Duration::ZERO, 1).await.unwrap();
    assert_eq!(first.iter().map(|t| t.id).collect::<Vec<_>>(), all[..1]);
    dispatch.done(&first).await.unwrap();
    let second = dispatch.reclaim("me", Duration::ZERO, 10).await.unwrap();
    assert_eq!(
        second.iter().map(|t| t.id).collect::<Vec<_>>(),
        all[1..2],
        "in its place, and not what nobody was given"
    );
    assert_eq!(take(&dispatch, 10).await.len(), 1);
}

#[tokio::test]
async fn what_is_put_back_comes_first_and_wakes_a_worker() {
    let dispatch = dispatch().await;
    let all = ids(4);
    enqueue(&dispatch, "a", Priority::Normal, &all).await;
    let taken = dispatch.take("one", 3, &HashMap::new()).await.unwrap();
    let mut bell = dispatch.worker_bell();
    assert_eq!(bell.wait(Duration::from_secs(5)).await.unwrap(), Rung::Rung, "the submission's");
    // The last of the stream, so that its tenant has left the ring.
    let last = dispatch.take("two", 10, &HashMap::new()).await.unwrap();
    assert!(dispatch.take("two", 10, &HashMap::new()).await.unwrap().is_empty());

    dispatch.put_back(&taken[..2]).await.unwrap();
    assert_eq!(bell.wait(Duration::from_secs(5)).await.unwrap(), Rung::Rung);
    assert!(
        dispatch.reclaim("two", Duration::ZERO, 10).await.unwrap().iter().all(|t| t.id == all[2] || t.id == all[3])
    );
    dispatch.put_back(&last).await.unwrap();
    let more = ids(1);
    enqueue(&dispatch, "a", Priority::Normal, &more).await;
    let again: Vec<_> = [&all[..2], &all[3..], &more].concat();
    let took = |taken: Vec<Taken>| taken.iter().map(|t| t.id).collect::<Vec<_>>();
    assert_eq!(took(dispatch.take("two", 1, &HashMap::new()).await.unwrap()), again[..1]);
    assert_eq!(took(dispatch.take("three", 10, &HashMap::new()).await.unwrap()), again[1..]);
    assert!(dispatch.take("three", 10, &HashMap::new()).await.unwrap().is_empty(), "each once");
}

#[tokio::test]
async fn what_a_leaving_worker_holds_is_anybodys() {
    let dispatch = dispatch().await;
    let all = ids(3);
    enqueue(&dispatch, "a", Priority::High, &all[..1]).await;
    enqueue(&dispatch, "a", Priority::Normal, &all[1..]).await;
    let taken = dispatch.take("leaver", 10, &HashMap::new()).await.unwrap();
    dispatch.done(&taken[1..2]).await.unwrap();
    dispatch.leave("leaver").await.unwrap();
    dispatch.leave("leaver").await.unwrap();
    let next = dispatch.take("next", 10, &HashMap::new()).await.unwrap();
    assert_eq!(next.iter().map(|t| t.id).collect::<Vec<_>>(), [all[0], all[2]]);
    dispatch.done(&next).await.unwrap();
    assert_eq!(dispatch.depth(&next[0].stream).await.unwrap(), 0);
    dispatch.leave("next").await.unwrap();
}

#[tokio::test]
async fn a_wiped_redis_is_noticed_and_an_epoch_begins_anew() {
    let dispatch = unborn_dispatch().await;
    enqueue(&dispatch, "a", Priority::Normal, &ids(1)).await;
    assert!(matches!(dispatch.take("me", 1, &HashMap::new()).await, Err(DispatchError::Wiped)));
    assert_eq!(dispatch.health().await.unwrap(), Health::Lost);
    dispatch.begin_epoch().await.unwrap();
    assert_eq!(dispatch.health().await.unwrap(), Health::Same);
    assert_eq!(take(&dispatch, 1).await.len(), 1);
}

#[tokio::test]
async fn the_bell_wakes_a_waiter_and_keeps_a_ring_that_nobody_heard() {
    let dispatch = dispatch().await;
    let mut bell = dispatch.worker_bell();
    assert_eq!(bell.wait(Duration::from_millis(20)).await.unwrap(), Rung::Silent);
    for _ in 0..3 {
        dispatch.ring_workers().await.unwrap();
    }
    assert_eq!(bell.wait(Duration::from_secs(5)).await.unwrap(), Rung::Rung);
    assert_eq!(bell.wait(Duration::from_millis(20)).await.unwrap(), Rung::Silent, "three rings are one token");
    let waiting = tokio::spawn(async move { bell.wait(Duration::from_secs(10)).await.unwrap() });
    enqueue(&dispatch, "a", Priority::Normal, &ids(1)).await;
    assert_eq!(waiting.await.unwrap(), Rung::Rung);
}

#[tokio::test]
async fn a_redis_that_is_away_is_an_answer_not_a_hang() {
    let config = roadstead_backend::config::RedisConfig {
        url: roadstead_backend::config::Secret::new("redis://127.0.0.1:1"),
        prefix: "x".into(),
    };
    let dispatch = Dispatch::new(&config).unwrap();
    assert!(matches!(dispatch.ping().await, Err(DispatchError::Unavailable(_))));
    assert!(matches!(dispatch.worker_bell().wait(Duration::from_secs(1)).await, Err(DispatchError::Unavailable(_))));
}
