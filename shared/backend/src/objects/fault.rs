//! What went wrong with one request, in our terms, and whether the request may be sent again.
//!
//! Never keeps a URL: its query may hold a signature.

use super::ObjectsError;
use backon::{ExponentialBuilder, Retryable};
use s3::error::S3Error;
use serde::Deserialize;
use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

/// Tries of one operation, the first included.
const TRIES: usize = 3;

/// A request that failed.
#[derive(Debug)]
pub struct Fault {
    pub error: ObjectsError,
    pub status: Option<u16>,
    /// S3's word for it, as in `NoSuchKey`.
    pub code: String,
    again: Again,
}

/// Whether sending the request again may help, and what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// It would end in the same way. A deadline that passed is here too: its time was waited already.
    Pointless,
    /// The request may have been carried out.
    Ambiguous,
    /// The request never left.
    Unsent,
}

/// What an operation does when it is carried out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// The same as once.
    Harmless,
    /// More than once.
    Harmful,
}

/// Tries an operation up to three times, within a second or so, as far as repeating it can do no harm.
pub async fn tried<T, F: Future<Output = Result<T, Fault>>>(
    repeat: Repeat,
    operation: impl FnMut() -> F,
) -> Result<T, Fault> {
    let pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_millis(500))
        .with_max_times(TRIES - 1)
        .with_jitter();
    operation
        .retry(pauses)
        .when(|fault: &Fault| {
            fault.again == Again::Unsent || (fault.again == Again::Ambiguous && repeat == Repeat::Harmless)
        })
        .await
}

impl Fault {
    /// The object is not there; its bucket is.
    pub fn is_missing_object(&self) -> bool {
        self.status == Some(404) && !self.is_missing_bucket()
    }

    pub fn is_missing_bucket(&self) -> bool {
        self.code == "NoSuchBucket"
    }

    pub fn missing_bucket(name: &str) -> Self {
        let error = ObjectsError::Refused(format!("there is no bucket `{name}`"));
        Self { status: Some(404), code: "NoSuchBucket".to_owned(), ..error.into() }
    }

    /// Nothing came for too long.
    pub fn silent() -> Self {
        ObjectsError::Unavailable("it did not answer in time".to_owned()).into()
    }

    fn from_answer(status: u16, body: &str) -> Self {
        let word: Word = quick_xml::de::from_str(body).unwrap_or_default();
        let mut text = format!("it answered {status}");
        for part in [&word.code, &word.message].into_iter().filter(|part| !part.is_empty()) {
            let _ = write!(text, ", {}", part.chars().take(200).collect::<String>());
        }
        // An error may come under a 200, when the server began to answer before it was done.
        let passing = matches!(status, 408 | 429 | 500 | 502..)
            || matches!(
                word.code.as_str(),
                "InternalError" | "SlowDown" | "ServiceUnavailable" | "RequestTimeout" | "OperationAborted"
            );
        let (again, error) = if passing {
            (Again::Ambiguous, ObjectsError::Unavailable(text))
        } else if is_about_the_keys(&word.code) {
            (Again::Pointless, ObjectsError::Unavailable(text))
        } else {
            (Again::Pointless, ObjectsError::Refused(text))
        };
        Self { error, status: Some(status), code: word.code, again }
    }
}

/// Whether the server does not know us for whom we are: the keys were changed or have expired, or a clock is wrong. It says nothing about what was asked
/// for, and is no server's last word: somebody will see to it. (Amazon S3 API Reference, "List of error codes".)
fn is_about_the_keys(code: &str) -> bool {
    matches!(
        code,
        "ExpiredToken"
            | "InvalidAccessKeyId"
            | "InvalidSecurity"
            | "InvalidToken"
            | "NotSignedUp"
            | "RequestExpired"
            | "RequestTimeTooSkewed"
            | "SignatureDoesNotMatch"
            | "TokenRefreshRequired"
    )
}

/// S3's error document.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Word {
    code: String,
    message: String,
}

impl From<ObjectsError> for Fault {
    fn from(error: ObjectsError) -> Self {
        Self { error, status: None, code: String::new(), again: Again::Pointless }
    }
}

impl From<Fault> for ObjectsError {
    fn from(fault: Fault) -> Self {
        fault.error
    }
}

impl From<reqwest::Error> for Fault {
    fn from(error: reqwest::Error) -> Self {
        let again = match (error.is_connect(), error.is_timeout()) {
            (_, true) => Again::Pointless,
            (true, false) => Again::Unsent,
            (false, false) => Again::Ambiguous,
        };
        Self { again, ..ObjectsError::Unavailable(causes(&error.without_url())).into() }
    }
}

impl From<S3Error> for Fault {
    fn from(error: S3Error) -> Self {
        match error {
            S3Error::HttpFailWithBody(status, body) => Self::from_answer(status, &body),
            S3Error::Reqwest(error) => error.into(),
            S3Error::SerdeXml(error) => ObjectsError::Unavailable(format!("its answer is not S3's: {error}")).into(),
            other => ObjectsError::Refused(other.to_string()).into(),
        }
    }
}

/// An error with its causes: reqwest's own text is only "error sending request".
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let _ = write!(text, ": {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const DENIED: &str =
        "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>No.</Message><RequestId>1</RequestId></Error>";

    async fn tries(repeat: Repeat, fault: impl Fn() -> Fault) -> usize {
        let count = AtomicUsize::new(0);
        let fail = || async {
            count.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(fault())
        };
        tried(repeat, fail).await.unwrap_err();
        count.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_be_done_twice_is_tried_again() {
        let busy = || Fault::from_answer(503, "");
        assert_eq!(tries(Repeat::Harmless, busy).await, TRIES);
        assert_eq!(tries(Repeat::Harmful, busy).await, 1);
        let unsent = || Fault { again: Again::Unsent, ..busy() };
        assert_eq!(tries(Repeat::Harmful, unsent).await, TRIES);
        assert_eq!(tries(Repeat::Harmless, || Fault::from_answer(403, DENIED)).await, 1);
        assert_eq!(tries(Repeat::Harmless, Fault::silent).await, 1);
    }

    #[test]
    fn an_answer_is_told_by_its_status_and_code() {
        let denied = Fault::from_answer(403, DENIED);
        assert!(
            matches!(denied.error, ObjectsError::Refused(ref text) if text.contains("403, AccessDenied, No.")),
            "{denied:?}"
        );
        let rotated = Fault::from_answer(403, "<Error><Code>InvalidAccessKeyId</Code></Error>");
        assert!(matches!(rotated.error, ObjectsError::Unavailable(ref text) if text.contains("InvalidAccessKeyId")));
        let late = Fault::from_answer(200, "<Error><Code>InternalError</Code></Error>");
        assert!(matches!(late.error, ObjectsError::Unavailable(_)));
        let html = Fault::from_answer(502, "<html>Bad gateway");
        assert!(matches!(html.error, ObjectsError::Unavailable(ref text) if text == "it answered 502"), "{html:?}");
    }

    #[test]
    fn a_missing_bucket_is_no_missing_object() {
        assert!(Fault::from_answer(404, "").is_missing_object());
        assert!(Fault::from_answer(404, "<Error><Code>NoSuchKey</Code></Error>").is_missing_object());
        assert!(!Fault::from_answer(404, "<Error><Code>NoSuchBucket</Code></Error>").is_missing_object());
    }

    #[tokio::test]
    async fn no_query_string_stands_in_a_message() {
        let error = reqwest::get("http://127.0.0.1:1/x?X-Amz-Signature=hush").await.unwrap_err();
        let fault = Fault::from(error);
        assert!(matches!(fault.error, ObjectsError::Unavailable(ref text) if !text.contains("hush")), "{fault:?}");
        assert_eq!(fault.again, Again::Unsent);
    }
}
