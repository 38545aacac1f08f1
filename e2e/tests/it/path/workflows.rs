//! Workflows under a name: immutable versions.

use reqwest::Method;
use roadstead_e2e::answers::Checked;
use roadstead_e2e::scene::{Executions, Scene, TENANT};
use roadstead_e2e::submission::steps;
use serde_json::{Value, json};

fn definition(word: &str) -> Value {
    steps(&json!([{ "id": "say", "command": ["echo", word] }]))["spec"].clone()
}

#[tokio::test]
async fn a_change_makes_a_version_and_the_same_again_makes_none() {
    let scene = Scene::new().await;
    let path = "/v1/workflows/greet";
    let first = scene.put(path, &definition("one")).await;
    assert_eq!(
        (first.ok(201)["version"].clone(), first.value("location")),
        (json!(1), "/v1/workflows/greet/versions/1")
    );
    let yaml = "# the same in other words\nsteps:\n- {command: [echo, one], id: say}\n";
    let same = scene.send_with(Method::PUT, path, &[("content-type", "application/yaml")], yaml).await;
    assert_eq!(same.ok(200)["version"], 1);
    assert_eq!(scene.put(path, &definition("two")).await.ok(201)["version"], 2);
    assert_eq!(scene.put(path, &definition("one")).await.ok(201)["version"], 3, "the latest is what counts");

    let latest = scene.get(path).await.ok(200);
    assert_eq!((&latest["name"], &latest["version"]), (&json!("greet"), &json!(3)));
    let second = scene.get(&format!("{path}/versions/2")).await;
    assert_eq!(second.ok(200)["definition"], definition("two"));
    let kept = scene.stack.s3.object(&scene.stack.meta_bucket, &format!("workflows/{TENANT}/greet/2.json"));
    assert_eq!(serde_json::from_slice::<Value>(&kept.unwrap()).unwrap(), definition("two"));
    let listed = scene.items("/v1/workflows").await;
    assert_eq!((listed.len(), &listed[0]["name"], &listed[0]["version"]), (1, &json!("greet"), &json!(3)));

    for (named, version, said) in [("greet@2", 2, "two\n"), ("greet", 3, "one\n"), ("greet@1", 1, "one\n")] {
        let execution = scene.run(&json!({ "workflow": named })).await;
        assert_eq!((&execution["workflow"], &execution["version"]), (&json!("greet"), &json!(version)), "{execution}");
        assert_eq!(scene.log(execution["id"].as_str().unwrap()).await, said);
    }
}

#[tokio::test]
async fn a_version_never_changes_so_that_it_may_be_kept() {
    let scene = Scene::idle(&[]).await;
    scene.put("/v1/workflows/greet", &definition("one")).await.ok(201);
    let path = "/v1/workflows/greet/versions/1";
    let answer = scene.get(path).await;
    let tag = answer.value("etag").to_owned();
    assert!(!tag.is_empty() && answer.value("cache-control").contains("immutable"), "{:?}", answer.headers);
    let unchanged = scene.send(scene.request(Method::GET, path).header("if-none-match", &tag)).await;
    assert_eq!((unchanged.status.as_u16(), unchanged.body.len(), unchanged.value("etag")), (304, 0, tag.as_str()));
}

#[tokio::test]
async fn what_is_no_workflow_is_refused_with_its_place() {
    let scene = Scene::idle(&[]).await;
    let before = scene.rows().await;
    let yaml = [("content-type", "application/yaml")];
    let put = async |name: &str, text: &str| {
        scene.send_with(Method::PUT, &format!("/v1/workflows/{name}"), &yaml, text).await
    };
    let answer = put("x", "steps:\n- id: a\n  comand: [sh]\n").await;
    answer.problem(400, "invalid-request");
    assert!(answer.error_at("/steps/0/comand").contains("did you mean `command`?"));
    for text in ["", "{", "steps: *nowhere", "a: b: c", "[]", "steps: []", "\u{1}"] {
        let answer = put("x", text).await;
        assert!(answer.status.is_client_error(), "{text:?}: {}", answer.text());
    }
    for name in ["Greet", "-x", "a_b", "a.b", &"a".repeat(64), "%00", "%2e%2e", "a%2fb"] {
        let answer = put(name, "steps: [{id: a, command: [sh]}]").await;
        assert!(answer.status.is_client_error(), "{name:?}: {} {}", answer.status, answer.text());
    }
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: &h [*g,*g,*g,*g,*g,*g,*g,*g,*g]\nsteps: [*h]\n";
    let answer = put("x", bomb).await;
    assert!(answer.status.is_client_error(), "{}", answer.text());
    for missing in ["/v1/workflows/none", "/v1/workflows/none/versions/1", "/v1/workflows/none/versions/x"] {
        scene.get(missing).await.problem(404, "not-found");
    }
    let answer = scene.submit_text(&[], r#"{"workflow":"none"}"#).await;
    answer.problem(400, "unknown-workflow");
    assert!(answer.error_at("/workflow").contains("`none`"));
    let fine = json!({"spec": {"steps": [{"id": "a", "command": ["true"]}]}});
    let unknown = json!({"workflow": "none"});
    let answer = scene.post("/v1/executions/batch", &json!({"executions": [fine, unknown]})).await;
    answer.problem(400, "unknown-workflow");
    assert!(answer.error_at("/executions/1/workflow").contains("`none`"));
    let answer = scene.post("/v1/executions/batch", &json!({"executions": [unknown, {"input": 1}]})).await;
    answer.problem(400, "invalid-request");
    assert!(answer.error_at("/executions/0/workflow").contains("`none`"));
    assert_eq!(scene.rows().await, before);
}

#[tokio::test]
async fn a_new_version_is_stored_only_where_the_newest_is_the_expected_one() {
    let scene = Scene::idle(&[]).await;
    let put = async |word: &str, precondition: (&str, &str)| {
        let headers = [("content-type", "application/yaml"), precondition];
        let text = format!("steps: [{{id: a, command: [{word}]}}]");
        scene.send_with(Method::PUT, "/v1/workflows/greet", &headers, &text).await
    };
    put("one", ("if-match", "*")).await.problem(412, "precondition-failed");
    let first = put("one", ("if-none-match", "*")).await.expect(201);
    put("two", ("if-none-match", "*")).await.problem(412, "precondition-failed");
    let tag = first.value("etag");
    assert_eq!(scene.get("/v1/workflows/greet").await.value("etag"), tag);
    let second = put("two", ("if-match", tag)).await.expect(201);
    put("two", ("if-match", tag)).await.expect(200);
    put("three", ("if-match", tag)).await.problem(412, "precondition-failed");
    put("three", ("if-match", second.value("etag"))).await.expect(201);
    assert_eq!(scene.get("/v1/workflows/greet").await.json()["version"], 3);
}
