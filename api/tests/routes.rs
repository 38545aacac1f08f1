//! The OpenAPI document against the routes that are served: each documented operation exists and asks for a key. Nothing behind the routes is running.

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
use actix_web::{App, web};
use roadstead_api::envelope::envelop;
use roadstead_api::{server, state};
use roadstead_backend::config::{ApiConfig, Reader};
use serde_json::Value;
use std::collections::BTreeSet;

const NOWHERE: &[(&str, &str)] = &[
    ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"),
    ("REDIS_URL", "redis://127.0.0.1:1"),
    ("S3_ENDPOINT", "http://127.0.0.1:1"),
    ("S3_REGION", "us-east-1"),
    ("S3_ACCESS_KEY_ID", "nobody"),
    ("S3_SECRET_ACCESS_KEY", "nothing"),
    ("META_BUCKET_NAME", "meta"),
    ("CONTENT_BUCKET_NAME", "content"),
];

fn state(dev_mode: bool) -> web::Data<state::App> {
    let dev_mode = [("API_HOST", "127.0.0.1"), ("DEV_MODE", if dev_mode { "true" } else { "false" })];
    let mut reader =
        Reader::new(NOWHERE.iter().chain(&dev_mode).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let config = ApiConfig::read(&mut reader);
    let config = reader.finish(config).unwrap();
    let app = state::App::new(config, slog::Logger::root(slog::Discard, slog::o!()), None).unwrap();
    app.note_migrated();
    web::Data::new(app)
}

macro_rules! serve {
    (dev_mode: $dev_mode:literal) => {
        init_service(App::new().app_data(state($dev_mode)).wrap(from_fn(envelop)).configure(server::routes)).await
    };
}

#[actix_web::test]
async fn every_documented_operation_is_served_and_asks_for_a_key() {
    let service = serve!(dev_mode: false);
    let document: Value =
        read_body_json(call_service(&service, TestRequest::get().uri("/openapi.json").to_request()).await).await;
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let uri = path.replace("{id}", "01939d3c-7c1e-7000-8000-0000000000aa").replace("{version}", "1");
        let uri = uri.replace(['{', '}'], "");
        for method in item.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let request = TestRequest::with_uri(&uri).method(method.clone());
            let response = call_service(&service, request.to_request()).await;
            assert_eq!(response.status(), 401, "{method} {uri}");
            assert!(response.headers().contains_key("www-authenticate"), "{method} {uri}");
            let problem: Value = read_body_json(response).await;
            assert_eq!(problem["type"], "https://roadstead.dev/problems/unauthenticated", "{method} {uri}");
            operations += 1;
        }
        let response = call_service(&service, TestRequest::delete().uri(&uri).to_request()).await;
        assert_eq!(response.status(), 405, "DELETE {uri}");
        assert!(response.headers().contains_key("allow"), "DELETE {uri}");
    }
    assert!(operations >= 17, "{operations}");
}

#[actix_web::test]
async fn the_documentation_needs_no_key_and_nothing_from_elsewhere() {
    let service = serve!(dev_mode: false);
    for path in ["/docs", "/docs/page.js", "/docs/page.css"] {
        let response = call_service(&service, TestRequest::get().uri(path).to_request()).await;
        assert_eq!(response.status(), 200, "{path}");
        let policy = response.headers().get("content-security-policy").unwrap().to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        let body = actix_web::test::read_body(response).await;
        let text = std::str::from_utf8(&body).unwrap();
        assert!(!text.contains("https://") && !text.contains("http://"), "{path}");
    }
}

#[actix_web::test]
async fn a_documented_submission_has_the_fields_that_are_taken() {
    let service = serve!(dev_mode: true);
    let document = call_service(&service, TestRequest::get().uri("/openapi.json").to_request()).await;
    let document: Value = read_body_json(document).await;
    let documented: BTreeSet<&str> = document["components"]["schemas"]["Submission"]["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let body = serde_json::json!({"zzzzzzzzzzzz": 1});
    let refusal = call_service(&service, TestRequest::post().uri("/v1/executions").set_json(body).to_request()).await;
    assert_eq!(refusal.status(), 400);
    let problem: Value = read_body_json(refusal).await;
    let details = problem["errors"].as_array().unwrap().iter().filter_map(|error| error["detail"].as_str());
    let known: Vec<&str> =
        details.filter_map(|detail| detail.split_once("known fields: ")).map(|(_, known)| known).collect();
    let known: BTreeSet<&str> = known.iter().flat_map(|known| known.split(", ")).collect();
    assert_eq!(documented, known);
}
