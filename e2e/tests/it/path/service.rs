//! What the programs tell of themselves, and how every answer is dressed.

use reqwest::Method;
use roadstead_e2e::answers::Checked;
use roadstead_e2e::scene::{Executions, Scene, TENANT, id};
use roadstead_e2e::submission::{With, command};
use serde_json::json;

#[tokio::test]
async fn an_execution_has_the_contracts_members_in_its_order() {
    let scene = Scene::new().await;
    let execution = scene.run(&command(&["true"]).with(json!({ "labels": { "a": "b" } }))).await;
    let contract = "id tenant workflow version state reason attempt max_attempts priority labels cancel_requested queue created_at run_at \
                    started_at finished_at retry_of result links";
    let text = scene.get(&format!("/v1/executions/{}", id(&execution))).await.text();
    let places: Vec<usize> = contract.split(' ').map(|name| text.find(&format!("\"{name}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
    assert_eq!(places.len(), execution.as_object().unwrap().len(), "{text}");
    let links = execution["links"].as_object().unwrap();
    for (name, path) in links {
        let path = path.as_str().unwrap();
        let method = if name == "cancel" { Method::POST } else { Method::GET };
        let answer = scene.send(scene.request(method, path)).await;
        let expected: &[u16] = match name.as_str() {
            "cancel" => &[409],
            "result" => &[404],
            _ => &[200],
        };
        assert!(expected.contains(&answer.status.as_u16()), "{name}: {}", answer.status);
    }
    for time in ["created_at", "started_at", "finished_at"] {
        let text = execution[time].as_str().unwrap();
        assert!(text.len() == 24 && text.ends_with('Z'), "{time}: {text}");
    }
}

#[tokio::test]
async fn metrics_have_the_contracts_names_on_both_servers() {
    let scene = Scene::new().await;
    for script in ["true", "false"] {
        scene.run(&command(&[script]).with(json!({ "max_retries": 0 }))).await;
    }
    let api = scene.api.anonymous().get("/metrics").await.expect(200);
    assert!(api.value("content-type").starts_with("text/plain"), "{:?}", api.headers);
    let worker = scene.workers[0].anonymous().get("/metrics").await.expect(200).text();
    let both = format!("{}{worker}", api.text());
    for sample in [
        "roadstead_executions_submitted_total 2",
        "roadstead_executions_finished_total{outcome=\"succeeded\"} 1",
        "roadstead_executions_finished_total{outcome=\"failed\"} 1",
        "roadstead_queue_depth{priority=\"normal\"} 0",
        "roadstead_queue_oldest_age_seconds ",
        "roadstead_live_attempts ",
        "roadstead_max_concurrent_jobs 10",
        "roadstead_submit_to_start_seconds_count 2",
        "roadstead_launch_seconds_count{launcher=\"process\"} 2",
        "roadstead_run_seconds_count 2",
        "roadstead_dispatch_lag_seconds_count ",
        "roadstead_reconcile_seconds_count ",
        "roadstead_http_requests_total{",
        "roadstead_pool_connections{",
    ] {
        assert!(both.lines().any(|line| line.starts_with(sample)), "{sample} in\n{both}");
    }
    for labels in both.lines().filter_map(|line| Some(line.split_once('{')?.1.split_once('}')?.0)) {
        let ids = labels.split(['"', '/']).filter(|word| uuid::Uuid::parse_str(word).is_ok() || *word == TENANT);
        assert_eq!(ids.collect::<Vec<_>>(), Vec::<&str>::new(), "an id in {labels}");
    }
}

#[tokio::test]
async fn health_and_documents_need_no_key() {
    let scene = Scene::new().await;
    let anonymous = scene.api.anonymous();
    for path in ["/livez", "/readyz"] {
        anonymous.get(path).await.expect(200);
        scene.workers[0].anonymous().get(path).await.expect(200);
    }
    let document = anonymous.get("/openapi.json").await.ok(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    let paths = document["paths"].as_object().unwrap();
    for path in [
        "/v1/executions",
        "/v1/executions/batch",
        "/v1/executions/{id}",
        "/v1/executions/{id}/cancel",
        "/v1/executions/{id}/retry",
        "/v1/executions/{id}/attempts",
        "/v1/executions/{id}/events",
        "/v1/executions/{id}/logs",
        "/v1/executions/{id}/result",
        "/v1/executions/{id}/artifacts",
        "/v1/executions/{id}/artifacts/{path}",
        "/v1/workflows",
        "/v1/workflows/{name}",
        "/v1/workflows/{name}/versions/{version}",
        "/v1/capacity",
    ] {
        assert!(paths.contains_key(path), "{path} in {:?}", paths.keys());
    }
    let docs = anonymous.get("/docs").await.expect(200);
    assert!(docs.value("content-type").starts_with("text/html"), "{:?}", docs.headers);
    assert!(!docs.text().contains("https://"), "it works without the internet");
}

#[tokio::test]
async fn head_tags_and_request_ids_are_as_http_has_them() {
    let scene = Scene::new().await;
    let execution = scene.run(&command(&["true"])).await;
    let path = format!("/v1/executions/{}", id(&execution));
    let got = scene.get(&path).await.expect(200);
    let head = scene.send(scene.request(Method::HEAD, &path)).await.expect(200);
    assert_eq!((head.body.len(), head.value("content-type")), (0, got.value("content-type")));
    let tag = got.value("etag").to_owned();
    let unchanged = scene.send(scene.request(Method::GET, &path).header("if-none-match", &tag)).await;
    assert_eq!(unchanged.status.as_u16(), 304, "{tag}");
    assert_eq!(got.value("cache-control"), "private, no-cache", "may be kept, and asked about each time");
    assert_eq!(scene.get("/v1/executions").await.value("cache-control"), "no-store");

    let named = scene.send(scene.request(Method::GET, &path).header("x-request-id", "trip-7")).await;
    assert_eq!(named.value("x-request-id"), "trip-7");
    let insane = scene.send(scene.request(Method::GET, &path).header("x-request-id", "a b\"c")).await;
    assert!(!insane.value("x-request-id").contains(' ') && !insane.value("x-request-id").is_empty());
    let other = scene.get(&path).await;
    assert_ne!(other.value("x-request-id"), got.value("x-request-id"));
}

#[tokio::test]
async fn development_mode_needs_no_key_and_nothing_but_loopback() {
    let scene = Scene::idle(&[("DEV_MODE", "true")]).await;
    let anonymous = scene.api.anonymous();
    let id = anonymous.submit(&command(&["true"])).await;
    assert_eq!(anonymous.execution(&id).await["tenant"], "default");
    let open = scene.stack.api().env("DEV_MODE", "true").env("API_HOST", "0.0.0.0").spawn();
    assert_eq!(open.ended().await.code(), Some(2));
    assert!(open.log().contains("DEV_MODE"), "{}", open.log());
}
