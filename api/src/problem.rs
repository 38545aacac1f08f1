//! Every answer that is not a success: RFC 9457 problems with a stable `type`.
//!
//! Invariant: what a client did wrong is named as exactly as it can be, what went wrong inside is not told at all but logged, once, under the request's id.
//! Handlers return a [`Problem`]; the outermost middleware ([`crate::envelope`]) gives it the request's id and writes it.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use roadstead_backend::batch::Overloaded;
use roadstead_backend::objects::ObjectsError;
use roadstead_backend::store::StoreError;
use roadstead_domain::decode::{FieldError, MAX_ERRORS};
use serde::Serialize;
use std::borrow::Cow;
use std::fmt;

/// The `type` of a problem is this followed by its slug.
pub const TYPE_BASE: &str = "https://roadstead.dev/problems/";

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $status:ident, $slug:literal, $title:literal;)+) => {
        /// What kind of problem it is: its status, its `type` and its title.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $kind),+ }

        impl Kind {
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            pub const fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status),+ }
            }

            /// The last part of the `type`.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$kind => $slug),+ }
            }

            pub const fn title(self) -> &'static str {
                match self { $(Self::$kind => $title),+ }
            }
        }
    };
}

kinds! {
    InvalidRequest = BAD_REQUEST, "invalid-request", "The request is not valid";
    UnknownWorkflow = BAD_REQUEST, "unknown-workflow", "There is no such workflow";
    InvalidJson = BAD_REQUEST, "invalid-json", "The body is not valid JSON";
    NestingTooDeep = BAD_REQUEST, "nesting-too-deep", "The JSON is nested too deeply";
    NulCharacter = BAD_REQUEST, "nul-character", "A string holds the character U+0000";
    InvalidCursor = BAD_REQUEST, "invalid-cursor", "The cursor is not one of this listing's";
    Unauthenticated = UNAUTHORIZED, "unauthenticated", "A valid API key is required";
    KeyExpired = UNAUTHORIZED, "key-expired", "The API key has expired";
    KeyRevoked = UNAUTHORIZED, "key-revoked", "The API key was revoked";
    Forbidden = FORBIDDEN, "forbidden", "The API key does not allow this";
    NotFound = NOT_FOUND, "not-found", "There is nothing here";
    NoResult = NOT_FOUND, "no-result", "There is no result";
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed here";
    NotAcceptable = NOT_ACCEPTABLE, "not-acceptable", "None of the accepted content types can be given";
    RequestTimeout = REQUEST_TIMEOUT, "request-timeout", "The body did not arrive in time";
    Conflict = CONFLICT, "conflict", "The execution's state does not allow this";
    IdempotencyInFlight = CONFLICT, "idempotency-in-flight", "A request with this Idempotency-Key is being worked on";
    PreconditionFailed = PRECONDITION_FAILED, "precondition-failed", "It is not as the request expects it";
    Gone = GONE, "attempt-not-current", "The attempt is no longer current";
    TooLarge = PAYLOAD_TOO_LARGE, "too-large", "The body is too large";
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The content type is not supported";
    IdempotencyKeyReused = UNPROCESSABLE_ENTITY, "idempotency-key-reused", "The Idempotency-Key was used for another request";
    QuotaExceeded = TOO_MANY_REQUESTS, "quota-exceeded", "Too many executions are waiting";
    /// A client's mistake that the HTTP layer found and that has no kind of its own.
    BadRequest = BAD_REQUEST, "bad-request", "The request could not be understood";
    Internal = INTERNAL_SERVER_ERROR, "internal", "Something went wrong inside";
    Unavailable = SERVICE_UNAVAILABLE, "unavailable", "The service can't do this right now";
    Overloaded = SERVICE_UNAVAILABLE, "overloaded", "Too much is waiting to be committed";
}

/// An answer that is not a success.
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    kind: Kind,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<String>,
}

/// The problem as it is sent.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts { kind, detail: detail.into(), errors: Vec::new(), headers: Vec::new(), cause: None }))
    }

    /// `invalid-request` with what is wrong in which field.
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] if one.pointer.is_empty() => one.detail.clone(),
            [one] => format!("{}: {}", one.pointer, one.detail),
            many if many.len() >= MAX_ERRORS => format!("{MAX_ERRORS} fields or more are not valid; see `errors`"),
            many => format!("{} fields are not valid; see `errors`", many.len()),
        };
        let mut problem = Self::new(Kind::InvalidRequest, detail);
        problem.0.errors = errors;
        problem
    }

    /// `invalid-request` for one field (or query parameter, by its name without a slash).
    pub fn field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::fields(vec![FieldError { pointer: pointer.into(), detail: detail.into() }])
    }

    /// The one answer for what is not there and for what belongs to another tenant.
    pub fn not_found() -> Self {
        Self::new(Kind::NotFound, "there is no such thing, or it is not yours")
    }

    /// `internal`; only the log is told why.
    pub fn internal(cause: impl fmt::Display) -> Self {
        let mut problem =
            Self::new(Kind::Internal, "the request failed; the server's log says why under this request_id");
        problem.0.cause = Some(cause.to_string());
        problem
    }

    /// `unavailable` with `Retry-After`; only the log is told why.
    pub fn unavailable(what: &'static str, cause: impl fmt::Display) -> Self {
        let mut problem = Self::new(Kind::Unavailable, what).retry_after(1);
        problem.0.cause = Some(cause.to_string());
        problem
    }

    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.0.errors = errors;
        self
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// What the log is to be told and the client is not.
    pub fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// The document and its headers, under a request's id.
    pub fn body(&self, request_id: &str) -> Vec<u8> {
        let document = Document {
            kind: format!("{TYPE_BASE}{}", self.0.kind.slug()),
            title: self.0.kind.title(),
            status: self.0.kind.status().as_u16(),
            detail: &self.0.detail,
            request_id,
            errors: &self.0.errors,
        };
        serde_json::to_vec(&document).expect("strings and numbers serialize")
    }

    pub fn write_headers(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.0.kind.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"roadstead\""));
        }
        for (name, value) in &self.0.headers {
            headers.insert(name.clone(), value.clone());
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.slug(), self.0.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.kind.status()
    }

    /// An empty response that carries the problem to the middleware that writes it.
    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::new(self.0.kind.status());
        response.extensions_mut().insert(self.clone());
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error.is_unavailable() {
            Self::unavailable("the database is not available; try again", error)
        } else {
            Self::internal(error)
        }
    }
}

impl From<ObjectsError> for Problem {
    fn from(error: ObjectsError) -> Self {
        match error {
            ObjectsError::Unavailable(_) => Self::unavailable("the object store is not available; try again", error),
            ObjectsError::TooLarge { .. } | ObjectsError::Refused(_) | ObjectsError::Source(_) => Self::internal(error),
        }
    }
}

impl From<Overloaded> for Problem {
    fn from(error: Overloaded) -> Self {
        Self::new(Kind::Overloaded, error.to_string()).retry_after(1)
    }
}
