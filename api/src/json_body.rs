//! Reading a body: its type, its size, and that it is JSON which may be looked at.

use crate::problem::{Kind, Problem};
use actix_web::HttpRequest;
use actix_web::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use actix_web::web::Payload;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use roadstead_domain::json::{self, MAX_DEPTH, Unacceptable};
use serde::de::DeserializeOwned;

/// The media type of the body, lower case and without parameters, if it is one of `accepted`.
/// A body that is encoded is refused: what a request may cost is bounded by its bytes.
pub fn content_type(request: &HttpRequest, accepted: &[&'static str]) -> Result<&'static str, Problem> {
    if request
        .headers()
        .get(CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(Problem::new(Kind::UnsupportedMediaType, "the body must be sent without a Content-Encoding")
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity")));
    }
    let given = request.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?")).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    accepted.iter().find(|name| essence.eq_ignore_ascii_case(name)).copied().ok_or_else(|| {
        let given: String = if given.is_empty() { "none".into() } else { given.chars().take(80).collect() };
        Problem::new(
            Kind::UnsupportedMediaType,
            format!("the Content-Type must be {}, not {given}", accepted.join(" or ")),
        )
    })
}

/// The length that the request announces.
pub fn announced_length(request: &HttpRequest) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub fn too_large(max_bytes: u64) -> Problem {
    Problem::new(Kind::TooLarge, format!("the body may have {max_bytes} bytes at most"))
}

/// What a client that went away, or sent broken chunks, is told if it still listens.
pub fn broken(error: &actix_web::error::PayloadError) -> Problem {
    Problem::new(Kind::BadRequest, format!("the body did not arrive whole: {error}"))
}

/// The whole body, of `max_bytes` at most.
pub async fn read(request: &HttpRequest, payload: &mut Payload, max_bytes: usize) -> Result<Bytes, Problem> {
    let announced = announced_length(request).unwrap_or(0);
    if announced > max_bytes as u64 {
        return Err(too_large(max_bytes as u64));
    }
    let Some(first) = payload.next().await else { return Ok(Bytes::new()) };
    let first = first.map_err(|error| broken(&error))?;
    if first.len() as u64 == announced {
        return Ok(first);
    }
    let mut body = BytesMut::with_capacity(first.len().max(announced as usize));
    let mut next = Some(Ok(first));
    while let Some(piece) = next {
        let piece = piece.map_err(|error| broken(&error))?;
        if body.len() + piece.len() > max_bytes {
            return Err(too_large(max_bytes as u64));
        }
        body.extend_from_slice(&piece);
        next = payload.next().await;
    }
    Ok(body.freeze())
}

/// The body as a document of a known shape, after the checks that a parser does not make.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_str(text(body)?).map_err(|error| invalid(&error))
}

/// The body as text that may be looked at.
pub fn text(body: &[u8]) -> Result<&str, Problem> {
    json::scan(body).map_err(unacceptable)?;
    std::str::from_utf8(body).map_err(|error| {
        Problem::new(Kind::InvalidJson, format!("the body is not UTF-8: byte {}", error.valid_up_to()))
    })
}

pub fn unacceptable(why: Unacceptable) -> Problem {
    match why {
        Unacceptable::TooDeep { offset } => Problem::new(
            Kind::NestingTooDeep,
            format!("arrays and objects may be nested {MAX_DEPTH} deep; byte {offset} opens one more"),
        ),
        Unacceptable::NulCharacter { offset } => Problem::new(
            Kind::NulCharacter,
            format!(
                "the string that byte {offset} is in holds the character U+0000, which is not accepted in any string"
            ),
        ),
    }
}

pub fn invalid(error: &serde_json::Error) -> Problem {
    if error.is_data() {
        return Problem::field("", error.to_string());
    }
    Problem::new(Kind::InvalidJson, format!("the body is not valid JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn an_encoded_body_is_not_taken_for_what_it_holds() {
        let request = |coding: &'static str| {
            TestRequest::post()
                .insert_header((CONTENT_TYPE, "application/json"))
                .insert_header((CONTENT_ENCODING, coding))
                .to_http_request()
        };
        let kind = |coding| content_type(&request(coding), &["application/json"]).map_err(|problem| problem.kind());
        assert_eq!(kind("gzip"), Err(Kind::UnsupportedMediaType));
        assert_eq!(kind("Identity"), Ok("application/json"));
    }

    #[test]
    fn what_is_wrong_with_a_text_decides_the_kind() {
        let kind = |text: &str| parse::<serde_json::Value>(text.as_bytes()).unwrap_err().kind();
        assert_eq!(kind("{"), Kind::InvalidJson);
        assert_eq!(kind(""), Kind::InvalidJson);
        assert_eq!(kind("{} x"), Kind::InvalidJson);
        assert_eq!(kind(r#"{"a":"\u0000"}"#), Kind::NulCharacter);
        assert_eq!(kind(&"[".repeat(10_000)), Kind::NestingTooDeep);
        assert_eq!(parse::<serde_json::Value>(&[b'"', 0xff, b'"']).unwrap_err().kind(), Kind::InvalidJson);
    }
}
