//! Keys that are missing, wrong, too old or taken back.

use roadstead_e2e::answers::Checked;
use roadstead_e2e::scene::{Executions, Scene, TENANT};
use roadstead_e2e::submission::command;
use roadstead_testkit::{Answer, PATIENCE, wait_for};

#[track_caller]
fn refused(answer: &Answer, slug: &str) {
    answer.problem(401, slug);
    assert!(answer.value("www-authenticate").starts_with("Bearer"), "{:?}", answer.headers);
}

#[tokio::test]
async fn each_wrong_key_has_its_own_problem_and_stores_nothing() {
    let scene = Scene::idle(&[]).await;
    let before = scene.rows().await;
    let body = command(&["true"]);
    let unknown = format!("rsk_{}", "0".repeat(64));
    for key in [unknown.as_str(), "rsk_", "nonsense", "rsk_zz", &"x".repeat(5_000)] {
        refused(&scene.api.client(key).post("/v1/executions", &body).await, "unauthenticated");
    }
    let anonymous = scene.api.anonymous();
    refused(&anonymous.post("/v1/executions", &body).await, "unauthenticated");
    for header in ["Basic dTpw", "Bearer", "Bearer  ", "bearer", "", "Bearer a b"] {
        let answer =
            anonymous.send_with(reqwest::Method::GET, "/v1/executions", &[("authorization", header)], "").await;
        refused(&answer, "unauthenticated");
    }
    assert_eq!(scene.rows().await, before);
}

#[tokio::test]
async fn a_revoked_key_is_refused_from_the_moment_that_revoking_is_done() {
    let scene = Scene::idle(&[]).await;
    let key = scene.stack.key(TENANT, "submit").await;
    let client = scene.api.client(&key);
    client.post("/v1/executions", &command(&["true"])).await.ok(202);
    let prefix = scene.stack.sql_value("SELECT prefix FROM api_keys ORDER BY created_at DESC LIMIT 1").await;
    assert!(key.starts_with(&prefix) && prefix.len() < 20, "{prefix}");
    let listed = scene.stack.admin(&["keys", "list"]).await;
    assert!(listed.contains(&prefix) && !listed.contains(&key), "{listed}");
    scene.stack.admin(&["keys", "revoke", &prefix]).await;
    refused(&client.post("/v1/executions", &command(&["true"])).await, "key-revoked");
    assert_eq!(scene.stack.sql_value("SELECT count(*) FROM executions").await, "1");
    scene.get("/v1/executions").await.ok(200);

    let again = scene.run_api(&["keys", "revoke", &key]).await;
    assert!(again.status > 0 && !again.stderr.contains(&key), "it is revoked already, and a secret: {again:?}");
    let another = scene.stack.key(TENANT, "submit").await;
    scene.stack.admin(&["keys", "revoke", &another]).await;
    refused(&scene.api.client(&another).get("/v1/executions").await, "key-revoked");
}

#[tokio::test]
async fn an_expired_key_is_refused_and_its_life_can_not_be_outlived_in_a_cache() {
    let scene = Scene::idle(&[]).await;
    let key = scene.stack.admin(&["keys", "create", "--tenant", TENANT, "--expires-in", "2s"]).await;
    let client = scene.api.client(key.trim());
    client.get("/v1/executions").await.ok(200);
    let expiry = wait_for("the key to expire", PATIENCE, async || {
        let answer = client.post("/v1/executions", &command(&["true"])).await;
        if answer.status == 401 { Ok(answer) } else { Err(answer.text()) }
    })
    .await;
    refused(&expiry, "key-expired");
    let left = "SELECT count(*) FROM executions e JOIN api_keys k ON e.created_at > k.expires_at + interval '100 ms'";
    assert_eq!(scene.stack.sql_value(left).await, "0", "nothing was accepted after its end");
}

#[tokio::test]
async fn a_role_that_is_none_is_refused_before_anything_is_made() {
    let scene = Scene::idle(&[]).await;
    let count = "SELECT count(*) FROM api_keys";
    let before = scene.stack.sql_value(count).await;
    for arguments in [
        &["keys", "create", "--tenant", "Not A Name"][..],
        &["keys", "create", "--tenant", "x", "--role", "root"],
        &["keys", "create"],
        &["keys", "revoke", "nobody"],
        &["tenants", "set", "x", "--weight", "0"],
    ] {
        let ran = scene.run_api(arguments).await;
        assert!(ran.status > 0, "{arguments:?}: {ran:?}");
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{arguments:?}: {ran:?}");
    }
    assert_eq!(scene.stack.sql_value(count).await, before);
}
