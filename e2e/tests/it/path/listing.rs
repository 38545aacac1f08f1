//! Lists: newest first, narrowed, page by page.

use roadstead_e2e::answers::Checked;
use roadstead_e2e::scene::{Executions, Scene, id};
use roadstead_e2e::submission::{With, command};
use roadstead_testkit::Client;
use serde_json::{Value, json};

async fn ids(client: &Client, query: &str) -> Vec<String> {
    client.items(&format!("/v1/executions?{query}")).await.iter().map(id).collect()
}

/// Every page, one after the other.
async fn pages(client: &Client, query: &str, mut between: impl AsyncFnMut()) -> Vec<Vec<String>> {
    let (mut pages, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let after = cursor.as_str().map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
        let page = client.get(&format!("/v1/executions?{query}{after}")).await.ok(200);
        pages.push(page["items"].as_array().unwrap().iter().map(id).collect());
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            return pages;
        }
        assert!(pages.len() < 50, "the list ends");
        between().await;
    }
}

#[tokio::test]
async fn a_list_is_narrowed_by_state_workflow_label_and_time() {
    let scene = Scene::idle(&[]).await;
    let definition = command(&["true"])["spec"].clone();
    scene.put("/v1/workflows/ferry", &definition).await.ok(201);
    let ferry = scene.submit(&json!({ "workflow": "ferry", "labels": { "team": "a", "trip": "one" } })).await;
    let cancelled = scene.submit(&command(&["true"]).with(json!({ "labels": { "team": "a" } }))).await;
    let middle = scene.ask(&format!("/v1/executions/{cancelled}/cancel")).await.ok(202);
    let scheduled = scene
        .submit(&command(&["true"]).with(json!({ "labels": { "team": "b:c" }, "run_at": "2100-01-01T00:00:00Z" })))
        .await;

    assert_eq!(ids(&scene, "").await, [scheduled.as_str(), &cancelled, &ferry]);
    assert_eq!(ids(&scene, "state=queued").await, [ferry.as_str()]);
    assert_eq!(ids(&scene, "state=queued&state=cancelled").await, [cancelled.as_str(), &ferry]);
    assert_eq!(ids(&scene, "state=scheduled,cancelled").await, [scheduled.as_str(), &cancelled]);
    assert_eq!(ids(&scene, "workflow=ferry").await, [ferry.as_str()]);
    assert_eq!(ids(&scene, "workflow=raft").await, Vec::<String>::new());
    assert_eq!(ids(&scene, "label=team:a").await, [cancelled.as_str(), &ferry]);
    assert_eq!(ids(&scene, "label=team:a&label=trip:one").await, [ferry.as_str()]);
    assert_eq!(ids(&scene, "label=team:b:c").await, [scheduled.as_str()]);
    let created = middle["created_at"].as_str().unwrap();
    let after = ids(&scene, &format!("created_after={created}")).await;
    assert!(after.contains(&scheduled) && !after.contains(&cancelled), "{after:?}");

    let item = &scene.items("/v1/executions?state=scheduled").await[0];
    assert_eq!((&item["labels"], &item["run_at"]), (&json!({ "team": "b:c" }), &json!("2100-01-01T00:00:00.000Z")));
}

#[tokio::test]
async fn pages_show_each_once_while_others_come_in() {
    let scene = Scene::idle(&[]).await;
    let batch =
        |count: usize| json!({ "executions": vec![command(&["true"]).with(json!({ "labels": { "n": "1" } })); count] });
    let answer = scene.post("/v1/executions/batch", &batch(10)).await.ok(202);
    let mut expected: Vec<String> = answer["executions"].as_array().unwrap().iter().map(id).collect();
    expected.reverse();
    let found = pages(&scene, "limit=3&label=n:1&state=queued", async || {
        scene.post("/v1/executions/batch", &batch(2)).await.ok(202);
    })
    .await;
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3, 1]);
    assert_eq!(found.concat(), expected);
}

#[tokio::test]
async fn a_cursor_is_good_for_its_own_list_only() {
    let scene = Scene::idle(&[]).await;
    let batch = json!({ "executions": vec![command(&["true"]); 4] });
    scene.post("/v1/executions/batch", &batch).await.ok(202);
    let page = scene.get("/v1/executions?limit=2").await.ok(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    scene.get(&format!("/v1/executions?limit=2&cursor={cursor}")).await.ok(200);
    scene.get(&format!("/v1/executions?limit=2&state=queued&cursor={cursor}")).await.problem(400, "invalid-cursor");
    let other = scene.client_of("other", "read").await;
    other.get(&format!("/v1/executions?limit=2&cursor={cursor}")).await.problem(400, "invalid-cursor");
    // Every single character that is another one is noticed.
    for place in 0..cursor.len() {
        let mut bytes = cursor.as_bytes().to_vec();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        let tampered = String::from_utf8(bytes).unwrap();
        if tampered != cursor {
            scene.get(&format!("/v1/executions?limit=2&cursor={tampered}")).await.problem(400, "invalid-cursor");
        }
    }
}
