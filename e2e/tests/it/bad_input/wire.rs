//! What can be wrong before anybody looks into a body: paths, methods, types, queries, and HTTP itself.

use reqwest::Method;
use roadstead_e2e::answers::Checked;
use roadstead_e2e::scene::{Executions, Scene};
use roadstead_e2e::submission::command;
use roadstead_testkit::{PATIENCE, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn types_methods_and_paths_have_their_problems() {
    let scene = Scene::idle(&[]).await;
    let before = scene.rows().await;
    let body = command(&["true"]).to_string();
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/xml",
        "application/jsonx",
        "json",
        "multipart/form-data; boundary=x",
    ] {
        for path in ["/v1/executions", "/v1/executions/batch"] {
            let answer = scene.send_with(Method::POST, path, &[("content-type", kind)], &body).await;
            answer.problem(415, "unsupported-media-type");
        }
        let answer = scene.send_with(Method::PUT, "/v1/workflows/x", &[("content-type", kind)], "steps: []").await;
        answer.problem(415, "unsupported-media-type");
    }
    scene
        .send(scene.request(Method::POST, "/v1/executions").body(body.clone()))
        .await
        .problem(415, "unsupported-media-type");
    let encoded = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let answer = scene.send_with(Method::POST, "/v1/executions", &encoded, &body).await;
    answer.problem(415, "unsupported-media-type");
    assert_eq!(answer.value("accept-encoding"), "identity");
    for path in ["/v1/executions?priority=high", "/v1/executions/batch?x"] {
        let answer = scene.send_with(Method::POST, path, &[("content-type", "application/json")], &body).await;
        answer.problem(400, "invalid-request");
    }

    let any = "01939d3c-7c1e-7000-8000-0000000000aa";
    for (method, path, allowed) in [
        (Method::DELETE, "/v1/executions".to_owned(), "GET"),
        (Method::PUT, "/v1/executions".to_owned(), "POST"),
        (Method::GET, "/v1/executions/batch".to_owned(), ""),
        (Method::DELETE, format!("/v1/executions/{any}"), "GET"),
        (Method::POST, format!("/v1/executions/{any}"), "GET"),
        (Method::GET, format!("/v1/executions/{any}/cancel"), "POST"),
        (Method::PATCH, format!("/v1/executions/{any}/retry"), "POST"),
        (Method::GET, format!("/v1/attempts/{any}/1/start"), "POST"),
        (Method::PUT, format!("/v1/attempts/{any}/1/uploads/parts"), "POST"),
        (Method::POST, format!("/v1/executions/{any}/logs"), "GET"),
        (Method::POST, "/v1/workflows".to_owned(), "GET"),
        (Method::DELETE, "/v1/workflows/x".to_owned(), "PUT"),
        (Method::POST, "/v1/capacity".to_owned(), "GET"),
        (Method::TRACE, "/v1/executions".to_owned(), "GET"),
        (Method::from_bytes(b"BREW").unwrap(), "/v1/executions".to_owned(), "GET"),
    ] {
        let answer = scene.send(scene.request(method.clone(), &path)).await;
        // `batch` in the place of an id is an id that nobody has.
        if path.ends_with("/batch") {
            assert!([404, 405].contains(&answer.status.as_u16()), "{}", answer.text());
            continue;
        }
        answer.problem(405, "method-not-allowed");
        assert!(answer.value("allow").contains(allowed), "{method} {path}: {:?}", answer.headers);
    }
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v2/executions",
        "/v1/executions/",
        "/v1//executions",
        "/v1/executions/x/y/z",
        "/..",
        "/%2e%2e/etc/passwd",
        "/v1/executions/%ff",
        "/v1/%00",
    ] {
        let answer = scene.get(path).await;
        assert!([400, 404].contains(&answer.status.as_u16()), "{path}: {} {}", answer.status, answer.text());
    }
    assert_eq!(scene.rows().await, before);
}

#[tokio::test]
async fn what_a_route_would_not_heed_is_refused() {
    let scene = Scene::idle(&[]).await;
    let any = "01939d3c-7c1e-7000-8000-0000000000aa";
    let json = [("content-type", "application/json")];
    for path in [format!("/v1/executions/{any}/retry"), format!("/v1/executions/{any}/cancel")] {
        for body in [r#"{"max_retries":2}"#, "{not json", "[]", "null"] {
            let answer = scene.send_with(Method::POST, &path, &json, body).await;
            answer.problem(400, "invalid-request");
            assert!(answer.text().contains("takes no body"), "{}", answer.text());
        }
        for body in ["", "{}", " { }\n"] {
            scene.send_with(Method::POST, &path, &json, body).await.problem(404, "not-found");
        }
    }
    let two_keys = scene.request(Method::GET, "/v1/executions").header("authorization", "Bearer x");
    scene.send(two_keys).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn queries_are_checked_as_bodies_are() {
    let scene = Scene::idle(&[]).await;
    let cases = [
        ("/v1/executions?limt=3", "limt", "did you mean `limit`?"),
        ("/v1/executions?limit=0", "limit", "1"),
        ("/v1/executions?limit=501", "limit", "500"),
        ("/v1/executions?limit=-1", "limit", ""),
        ("/v1/executions?limit=1e3", "limit", ""),
        ("/v1/executions?limit=1&limit=2", "limit", ""),
        ("/v1/executions?state=done", "state", ""),
        ("/v1/executions?state=queued,done", "state", ""),
        ("/v1/executions?label=team", "label", ""),
        ("/v1/executions?created_after=yesterday", "created_after", ""),
        ("/v1/executions?workflow=A%20B", "workflow", ""),
        ("/v1/capacity?x=1", "x", ""),
    ];
    for (path, name, words) in cases {
        let answer = scene.get(path).await;
        answer.problem(400, "invalid-request");
        let detail = answer.error_at(name);
        assert!(detail.contains(words), "{path}: {detail}");
    }
    for cursor in ["x", "AAAA", "%F0%9F%98%80", &"A".repeat(5_000), "..", "0", "%00"] {
        let answer = scene.get(&format!("/v1/executions?cursor={cursor}")).await;
        assert_eq!(answer.status, 400, "{cursor}: {}", answer.text());
    }
    let id = scene.submit(&command(&["true"])).await;
    for query in
        ["attempt=0", "attempt=x", "tail=-1", "tail=9999999", "stream=stdin", "follow=perhaps", "step=%00", "stp=a"]
    {
        scene.get(&format!("/v1/executions/{id}/logs?{query}")).await.problem(400, "invalid-request");
    }
    let image = scene.get_as(&format!("/v1/executions/{id}/logs"), "image/png").await;
    image.problem(406, "not-acceptable");
}

/// Sends bytes as they are; answers with what came back until the connection ended.
async fn raw(scene: &Scene, bytes: &[u8]) -> String {
    let address = scene.api.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that has heard enough closes while the rest is still being sent.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection is not left hanging: {}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn broken_http_is_refused_or_dropped_and_harms_nobody() {
    let scene = Scene::idle(&[]).await;
    let before = scene.rows().await;
    let host = "host: x\r\nauthorization: Bearer rsk_0\r\ncontent-type: application/json\r\n";
    let huge = "x".repeat(1 << 20);
    for request in [
        "\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}".to_owned(),
        format!("GET /{huge} HTTP/1.1\r\n{host}\r\n"),
        format!("GET / HTTP/1.1\r\nx: {huge}\r\n{host}\r\n"),
        format!("POST /v1/executions HTTP/1.1\r\n{host}content-length: -1\r\n\r\n{{}}"),
        format!("POST /v1/executions HTTP/1.1\r\n{host}content-length: 99999999999999999999\r\n\r\n{{}}"),
        format!("POST /v1/executions HTTP/1.1\r\n{host}content-length: 5\r\ncontent-length: 6\r\n\r\n{{}}"),
        format!("POST /v1/executions HTTP/1.1\r\n{host}content-length: 500\r\n\r\n{{}}"),
        format!("POST /v1/executions HTTP/1.1\r\n{host}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{{}}"),
        format!("POST /v1/executions HTTP/1.1\r\n{host}transfer-encoding: chunked\r\n\r\nzz\r\n{{}}"),
        format!("POST /v1/executions HTTP/1.1\r\n{host}transfer-encoding: chunked\r\n\r\nffffffffffffffff1\r\n{{}}"),
        format!("POST /v1/executions HTTP/1.1\r\n{host}transfer-encoding: gzip\r\n\r\n{{}}"),
        format!("POST /v1/executions HTTP/1.1\r\n{host}expect: 200-maybe\r\ncontent-length: 2\r\n\r\n{{}}"),
        format!("GET /v1/executions HTTP/1.1\r\n{host}x-bad\u{1}name: 1\r\n\r\n"),
        format!("GET /livez HTTP/1.1\r\n{host}\r\nGARBAGE \u{1}\u{2}\r\n\r\nGET /livez HTTP/1.1\r\n{host}\r\n"),
    ] {
        let answer = raw(&scene, request.as_bytes()).await;
        for line in answer.lines().filter(|line| line.starts_with("HTTP/1")) {
            let status = line.split(' ').nth(1).unwrap_or_default();
            let is_fine = status.starts_with('4') || (request.starts_with("GET /livez") && status == "200");
            assert!(is_fine, "{line} for {:?}", &request[..request.len().min(120)]);
        }
    }
    scene.api.anonymous().get("/readyz").await.expect(200);
    assert!(scene.api.is_running());
    assert_eq!(scene.rows().await, before);
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_leaves_nothing() {
    let scene = Scene::idle(&[]).await;
    let key = scene.stack.key(roadstead_e2e::scene::TENANT, "submit").await;
    let before = scene.rows().await;
    let spec = command(&["true"])["spec"].to_string();
    let head = format!(
        "POST /v1/executions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
    );
    for sent in [10, 200_000, 3_000_000] {
        let begun = format!("{{\"spec\":{spec},\"input\":\"{}", "x".repeat(sent));
        let whole = format!("{head}content-length: {}\r\n\r\n{begun}", begun.len() + 1_000);
        let answer = raw(&scene, whole.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{begun}\r\n", begun.len());
        let answer = raw(&scene, chunked.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    wait_for("what was begun to be removed", PATIENCE, async || {
        let keys = scene.stack.s3.keys(&scene.stack.content_bucket);
        if keys.is_empty() { Ok(()) } else { Err(format!("{keys:?}")) }
    })
    .await;
    assert_eq!(scene.rows().await, before);
}

#[tokio::test]
async fn a_client_may_ask_before_it_sends() {
    let scene = Scene::idle(&[]).await;
    let key = scene.stack.key(roadstead_e2e::scene::TENANT, "submit").await;
    let body = command(&["true"]).to_string();
    let mut stream = TcpStream::connect(scene.api.url().strip_prefix("http://").unwrap()).await.unwrap();
    let head = format!(
        "POST /v1/executions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 202");
}
