//! JSON answers, with entity tags where a client may ask whether something is new.

use crate::problem::Problem;
use actix_web::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use sha2::{Digest, Sha256};

const JSON: &str = "application/json";

/// `200` with the document.
pub fn json(document: &impl Serialize) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().content_type(JSON).body(text(document)?))
}

/// The document under a tag of its bytes, or `304` when the client has it.
pub fn tagged(request: &HttpRequest, document: &impl Serialize) -> Result<HttpResponse, Problem> {
    let body = text(document)?;
    Ok(conditional(request, &tag(&body), "private, no-cache", JSON, body))
}

/// A document that never changes, under its own digest.
pub fn immutable(request: &HttpRequest, digest: &[u8], document: &impl Serialize) -> Result<HttpResponse, Problem> {
    let tag = format!("\"{}\"", hex::encode(digest));
    Ok(conditional(request, &tag, "private, max-age=31536000, immutable", JSON, text(document)?))
}

/// A text of this program's own, which changes with its version only.
pub fn cached(request: &HttpRequest, content_type: &'static str, text: &'static str) -> HttpResponse {
    conditional(request, &tag(text.as_bytes()), "no-cache", content_type, text.into())
}

fn tag(body: &[u8]) -> String {
    format!("\"{}\"", hex::encode(&Sha256::digest(body)[..16]))
}

fn text(document: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(document).map_err(Problem::internal)
}

fn conditional(
    request: &HttpRequest,
    tag: &str,
    caching: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
) -> HttpResponse {
    let mut response = if knows(request, tag) { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((ETAG, tag)).insert_header((CACHE_CONTROL, caching));
    if knows(request, tag) { response.finish() } else { response.content_type(content_type).body(body) }
}

/// Compared weakly, as RFC 9110 has it for `If-None-Match`.
fn knows(request: &HttpRequest, tag: &str) -> bool {
    let given = request.headers().get_all(IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
    given
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn a_client_that_has_it_is_told_so() {
        let first = tagged(&TestRequest::get().to_http_request(), &"x").unwrap();
        let tag = first.headers().get(ETAG).unwrap().to_str().unwrap().to_owned();
        for (given, status) in [
            (tag.clone(), 304),
            (format!("\"other\", W/{tag}"), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
            (tag.trim_matches('"').to_owned(), 200),
        ] {
            let request = TestRequest::get().insert_header((IF_NONE_MATCH, given.as_str())).to_http_request();
            assert_eq!(tagged(&request, &"x").unwrap().status().as_u16(), status, "{given}");
        }
    }
}
