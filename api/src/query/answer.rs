//! JSON answers, with entity tags where a client may ask whether something is new.

use crate::problem::Problem;
use actix_web::http::header::{CACHE_CONTROL, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH};
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

/// The tag that [`tagged`] gives a document.
pub fn tag_of(document: &impl Serialize) -> Result<String, Problem> {
    Ok(tag(&text(document)?))
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

fn knows(request: &HttpRequest, tag: &str) -> bool {
    given(request, IF_NONE_MATCH).any(|given| is_weakly(given, tag))
}

/// Compared weakly, as RFC 9110 has it for `If-None-Match`.
fn is_weakly(given: &str, tag: &str) -> bool {
    given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag
}

fn given(request: &HttpRequest, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = request.headers().get_all(name).filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// What a request that changes something expects to be there (RFC 9110, section 13.1).
#[derive(Debug)]
pub struct Preconditions {
    if_match: Option<Vec<String>>,
    if_none_match: Vec<String>,
}

impl Preconditions {
    pub fn of(request: &HttpRequest) -> Self {
        let all = |name| given(request, name).map(str::to_owned).collect();
        Self {
            if_match: request.headers().contains_key(IF_MATCH).then(|| all(IF_MATCH)),
            if_none_match: all(IF_NONE_MATCH),
        }
    }

    /// Whether they hold for what is there under this tag; `None`: nothing. `is_done`: the change appears to have been made already, by an earlier
    /// try whose answer was lost.
    pub fn hold(&self, current: Option<&str>, is_done: bool) -> bool {
        let is_expected = |tag: &str| self.if_match.iter().flatten().any(|given| given == "*" || given == tag);
        let is_unwanted = |tag: &str| self.if_none_match.iter().any(|given| is_weakly(given, tag));
        (self.if_match.is_none() || is_done || current.is_some_and(is_expected)) && !current.is_some_and(is_unwanted)
    }
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

    #[test]
    fn what_a_change_expects_is_asked_for() {
        let (there, nothing) = (Some("\"a\""), None);
        for (name, given, current, holds) in [
            (IF_MATCH, "\"a\"", there, true),
            (IF_MATCH, "\"b\", \"a\"", there, true),
            (IF_MATCH, "*", there, true),
            (IF_MATCH, "\"b\"", there, false),
            (IF_MATCH, "W/\"a\"", there, false),
            (IF_MATCH, "*", nothing, false),
            (IF_NONE_MATCH, "*", nothing, true),
            (IF_NONE_MATCH, "*", there, false),
            (IF_NONE_MATCH, "\"a\"", there, false),
            (IF_NONE_MATCH, "\"b\"", there, true),
        ] {
            let request = TestRequest::put().insert_header((name.clone(), given)).to_http_request();
            assert_eq!(Preconditions::of(&request).hold(current, false), holds, "{name}: {given}, {current:?}");
        }
        assert!(Preconditions::of(&TestRequest::put().to_http_request()).hold(there, false));
        for (name, holds) in [(IF_MATCH, true), (IF_NONE_MATCH, false)] {
            let request = TestRequest::put().insert_header((name.clone(), "\"b\", *")).to_http_request();
            assert_eq!(Preconditions::of(&request).hold(there, true), holds, "{name}, already done");
        }
    }
}
