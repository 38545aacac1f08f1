//! The OpenAPI document against the routes that are served: each documented operation exists and asks for a key. Nothing behind the routes is running.

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
use actix_web::{App, web};
use roadstead_api::envelope::envelop;
use roadstead_api::{server, state};
use roadstead_backend::config::{ApiConfig, Reader};
use serde_json::Value;

const NOWHERE: &[(&str, &str)] = &[
    ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"),
    ("REDIS_URL", "redis://127.0.0.1:1"),
    ("S3_ENDPOINT", "http://127.0.0.1:1"),
    ("S3_ACCESS_KEY_ID", "nobody"),
    ("S3_SECRET_ACCESS_KEY", "nothing"),
    ("META_BUCKET_NAME", "meta"),
    ("CONTENT_BUCKET_NAME", "content"),
];

fn state() -> web::Data<state::App> {
    let mut reader = Reader::new(NOWHERE.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let config = ApiConfig::read(&mut reader);
    let config = reader.finish(config).unwrap();
    let app = state::App::new(config, slog::Logger::root(slog::Discard, slog::o!()), None).unwrap();
    app.note_migrated();
    web::Data::new(app)
}

macro_rules! serve {
    () => {
        init_service(App::new().app_data(state()).wrap(from_fn(envelop)).configure(server::routes)).await
    };
}

#[actix_web::test]
async fn every_documented_operation_is_served_and_asks_for_a_key() {
    let service = serve!();
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
    let service = serve!();
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
