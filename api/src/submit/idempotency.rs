//! `Idempotency-Key`: its form, the fingerprint of the body that it stands for, and the keys whose bodies are being streamed.

use crate::problem::{Kind, Problem};
use actix_web::HttpRequest;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

const MAX_KEY_BYTES: usize = 255;

/// The request's key, if it has one.
pub fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let mut given = request.headers().get_all("idempotency-key");
    let Some(key) = given.next() else { return Ok(None) };
    let well_formed = given.next().is_none()
        && (1..=MAX_KEY_BYTES).contains(&key.len())
        && key.as_bytes().iter().all(u8::is_ascii_graphic);
    match key.to_str() {
        Ok(key) if well_formed => Ok(Some(key.to_owned())),
        _ => Err(Problem::new(
            Kind::InvalidRequest,
            format!(
                "the header Idempotency-Key must be given once and be 1 to {MAX_KEY_BYTES} visible ASCII characters"
            ),
        )),
    }
}

/// What tells one body from another.
pub fn fingerprint(body: &[u8]) -> Vec<u8> {
    Sha256::digest(body).to_vec()
}

/// Keys whose bodies are arriving. PostgreSQL tells twins apart when they commit; a large body is worth telling earlier.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<Mutex<HashSet<(String, String)>>>);

/// Held while a body arrives.
#[derive(Debug)]
pub struct Flight {
    keys: InFlight,
    key: (String, String),
}

impl InFlight {
    pub fn begin(&self, tenant: &str, key: &str) -> Result<Flight, Problem> {
        let key = (tenant.to_owned(), key.to_owned());
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
            return Ok(Flight { keys: self.clone(), key });
        }
        let detail = "a request with this Idempotency-Key is still arriving; ask again when it is done";
        Err(Problem::new(Kind::IdempotencyInFlight, detail).retry_after(1))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.keys.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn key(values: &[&str]) -> Result<Option<String>, Kind> {
        let mut request = TestRequest::default();
        for value in values {
            request = request.append_header(("Idempotency-Key", *value));
        }
        idempotency_key(&request.to_http_request()).map_err(|problem| problem.kind())
    }

    #[test]
    fn a_key_is_visible_ascii_and_given_once() {
        assert_eq!(key(&[]), Ok(None));
        assert_eq!(key(&["order-7"]), Ok(Some("order-7".into())));
        for bad in [&["a b"][..], &[""], &["a", "b"], &["é"], &[&"k".repeat(256)]] {
            assert_eq!(key(bad), Err(Kind::InvalidRequest), "{bad:?}");
        }
    }

    #[test]
    fn a_key_is_in_flight_once() {
        let keys = InFlight::default();
        let first = keys.begin("a", "k").unwrap();
        assert_eq!(keys.begin("a", "k").unwrap_err().kind(), Kind::IdempotencyInFlight);
        assert!(keys.begin("b", "k").is_ok(), "another tenant's key is another key");
        drop(first);
        assert!(keys.begin("a", "k").is_ok());
    }
}
