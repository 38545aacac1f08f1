//! Stacks: each its own world on shared servers, with as many processes as a test wants.

use roadstead_testkit::{PATIENCE, Stack};
use serde_json::json;

#[tokio::test]
async fn an_execution_runs_through_real_processes() {
    let stack = Stack::new().await;
    let (first, second) = (stack.api().start().await, stack.api().start().await);
    let workers = (stack.worker().start().await, stack.worker().env("MAX_CONCURRENT_JOBS", "1").start().await);
    assert_ne!(first.url(), second.url());
    let key = stack.key("acme", "admin").await;
    let id = first.client(&key).submit_script("echo '{\"n\": 7}' > \"$ROADSTEAD_RESULT\"").await;
    let execution = second.client(&key).wait_for_state(&id, &["succeeded"], PATIENCE).await;
    assert_eq!(execution["result"], json!({"n": 7}));
    assert_eq!(stack.sql_value(&format!("SELECT state FROM executions WHERE id = '{id}'")).await, "succeeded");
    assert!(stack.s3.keys(&stack.content_bucket).iter().any(|key| key.contains(&id)));
    let ran = stack.cli(&first, &key).run(&["result", &id]).await;
    assert_eq!((ran.status, ran.stdout.trim()), (0, "{\"n\": 7}"), "{}", ran.stderr);
    assert!(workers.0.terminate().await.success());
    assert!(first.log().contains("listening"), "{}", first.log());
}

#[tokio::test]
async fn stacks_do_not_see_each_other() {
    let (one, other) = (Stack::new().await, Stack::new().await);
    let (api, stranger) = (one.api().start().await, other.api().start().await);
    let key = one.key("acme", "submit").await;
    let id = api.client(&key).submit_script("true").await;
    api.client(&key).get(&format!("/v1/executions/{id}")).await.expect(200);
    stranger.client(&key).get(&format!("/v1/executions/{id}")).await.expect(401);
    assert_eq!(other.sql_value("SELECT count(*) FROM executions").await, "0");
}

#[tokio::test]
async fn a_server_that_was_killed_comes_back_under_its_address() {
    let stack = Stack::builder().own_redis().start().await;
    let api = stack.api().start().await;
    let (url, pid) = (api.url().to_owned(), api.pid());
    api.kill();
    stack.redis.process().kill();
    stack.redis.restart().await;
    api.start_again().await;
    assert_eq!(api.url(), url);
    assert_ne!(api.pid(), pid);
}
