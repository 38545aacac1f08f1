//! `/docs`: the OpenAPI document, readable. One page of this program's own that asks for nothing from elsewhere.

use crate::query;
use actix_web::http::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY};
use actix_web::{HttpRequest, HttpResponse, web};

/// Nothing but the page's own files may be loaded, nothing may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(web::resource(["/docs", "/docs/"]).route(query::reads().to(page)))
        .service(web::resource("/docs/page.js").route(query::reads().to(script)))
        .service(web::resource("/docs/page.css").route(query::reads().to(style)));
}

async fn page(request: HttpRequest) -> HttpResponse {
    file(&request, "text/html; charset=utf-8", include_str!("page.html"))
}

async fn script(request: HttpRequest) -> HttpResponse {
    file(&request, "text/javascript; charset=utf-8", include_str!("page.js"))
}

async fn style(request: HttpRequest) -> HttpResponse {
    file(&request, "text/css; charset=utf-8", include_str!("page.css"))
}

fn file(request: &HttpRequest, content_type: &'static str, text: &'static str) -> HttpResponse {
    let mut response = query::cached(request, content_type, text);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("x-content-type-options".parse().expect("a header's name"), HeaderValue::from_static("nosniff"));
    response
}
