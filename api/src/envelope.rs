//! The outermost layer of every request: its id, its answer's common headers, its problem written out, its metrics.
//!
//! Invariant: whatever fails inside, the answer is a problem document under the request's id, and what went wrong inside is logged here and nowhere else.

use crate::http_metrics::{self, InFlight};
use crate::problem::{Kind, Problem};
use crate::state::App;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpResponse, ResponseError, web};
use slog::{debug, error, warn};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_REQUEST_ID_BYTES: usize = 128;
/// What lies under it needs the schema.
const VERSIONED: &str = "/v1/";

pub async fn envelop<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let began = Instant::now();
    let in_flight = InFlight::begin();
    let id = request_id(&request);
    let unmigrated = request.path().starts_with(VERSIONED)
        && request.app_data::<web::Data<App>>().is_some_and(|app| !app.is_migrated());
    let response = if unmigrated {
        let problem = Problem::unavailable("the database is not ready yet; try again", "the schema is not there yet");
        request.into_response(problem.error_response())
    } else {
        next.call(request).await?.map_into_boxed_body()
    };
    let response = finish(response, &id);
    http_metrics::record(&response, began);
    Ok(in_flight.until_the_end(response))
}

fn finish(mut response: ServiceResponse<BoxBody>, id: &HeaderValue) -> ServiceResponse<BoxBody> {
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let problem = response.response_mut().extensions_mut().remove::<Problem>();
        // An answer of our own that has a body is no problem document, but what its route promises: `/readyz`.
        if let Some(problem) = problem.or_else(|| foreign(&response)) {
            response = written(response, &problem, id);
        }
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID.clone(), id.clone());
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

fn written(mut response: ServiceResponse<BoxBody>, problem: &Problem, id: &HeaderValue) -> ServiceResponse<BoxBody> {
    report(&response, problem, id);
    problem.write_headers(response.headers_mut());
    *response.response_mut().status_mut() = problem.kind().status();
    response.map_body(|_, _| BoxBody::new(problem.body(id.to_str().unwrap_or_default())))
}

/// A refusal of the HTTP layer's own.
fn foreign(response: &ServiceResponse<BoxBody>) -> Option<Problem> {
    if response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"application/json") {
        return None;
    }
    let request = response.request();
    Some(match response.status() {
        StatusCode::NOT_FOUND => Problem::new(Kind::NotFound, format!("there is no route {}", request.path())),
        StatusCode::METHOD_NOT_ALLOWED => {
            let detail = format!("{} is not one of this route's methods", request.method());
            Problem::new(Kind::MethodNotAllowed, detail)
        }
        status if status.is_client_error() => Problem::new(Kind::BadRequest, status.to_string()),
        status => Problem::internal(status),
    })
}

fn report(response: &ServiceResponse<BoxBody>, problem: &Problem, id: &HeaderValue) {
    let request = response.request();
    let Some(app) = request.app_data::<web::Data<App>>() else { return };
    let id = id.to_str().unwrap_or_default();
    let (method, path) = (request.method().as_str(), request.path());
    match problem.cause() {
        Some(cause) if problem.kind() == Kind::Internal => {
            error!(app.log, "a request failed"; "method" => method, "path" => path, "request_id" => id, "cause" => cause);
        }
        Some(cause) => {
            warn!(app.log, "a request could not be served"; "method" => method, "path" => path, "request_id" => id, "cause" => cause);
        }
        None => {
            debug!(app.log, "a request was refused"; "method" => method, "path" => path, "request_id" => id, "problem" => %problem);
        }
    }
}

/// What nothing is served under.
pub async fn no_such_route() -> HttpResponse {
    HttpResponse::NotFound().finish()
}

/// The client's own, if it is one that may be repeated in a header and a log; otherwise a new one.
fn request_id(request: &ServiceRequest) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        (1..=MAX_REQUEST_ID_BYTES).contains(&value.len())
            && value.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(b))
    };
    request.headers().get(&REQUEST_ID).filter(sane).cloned().unwrap_or_else(new_request_id)
}

/// Random for the process, counted within it: unique at the price of an addition.
fn new_request_id() -> HeaderValue {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let process = *PROCESS.get_or_init(|| uuid::Uuid::new_v4().as_u64_pair().0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    HeaderValue::try_from(format!("{process:016x}-{count:x}")).unwrap_or_else(|_| HeaderValue::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
    use serde_json::Value;

    async fn ask(request: TestRequest) -> (u16, actix_web::http::header::HeaderMap, Value) {
        let refusing = || async { Err::<HttpResponse, Problem>(Problem::field("/a", "is wrong")) };
        let service = init_service(
            actix_web::App::new()
                .wrap(from_fn(envelop))
                .service(web::resource("/refuses").route(web::get().to(refusing)))
                .default_service(web::to(no_such_route)),
        );
        let response = call_service(&service.await, request.to_request()).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (status, headers, read_body_json(response).await)
    }

    #[actix_web::test]
    async fn a_refusal_is_a_problem_under_the_requests_id() {
        let (status, headers, body) =
            ask(TestRequest::get().uri("/refuses").insert_header(("X-Request-Id", "mine-7"))).await;
        assert_eq!(
            (status, headers.get("content-type").unwrap()),
            (400, &HeaderValue::from_static("application/problem+json"))
        );
        assert_eq!(headers.get("x-request-id").unwrap(), "mine-7");
        assert_eq!(body["type"], "https://roadstead.dev/problems/invalid-request");
        assert_eq!((body["status"].as_u64(), body["request_id"].as_str()), (Some(400), Some("mine-7")));
        assert_eq!(body["errors"][0]["pointer"], "/a");
    }

    #[actix_web::test]
    async fn the_http_layers_own_refusals_are_problems_too() {
        let (status, _, body) = ask(TestRequest::get().uri("/nothing")).await;
        assert_eq!((status, body["type"].as_str()), (404, Some("https://roadstead.dev/problems/not-found")));
        let (status, headers, body) = ask(TestRequest::delete().uri("/refuses")).await;
        assert_eq!((status, body["type"].as_str()), (405, Some("https://roadstead.dev/problems/method-not-allowed")));
        assert_eq!(headers.get("allow").unwrap(), "GET");
    }

    #[actix_web::test]
    async fn an_id_that_is_not_fit_for_a_log_is_replaced() {
        let (_, headers, _) = ask(TestRequest::get().uri("/nothing").insert_header(("X-Request-Id", "a b\"c"))).await;
        assert_ne!(headers.get("x-request-id").unwrap(), "a b\"c");
    }
}
