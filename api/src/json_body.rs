//! Reading a body: its type, its size, its time, and that it is JSON which may be looked at.
//!
//! Invariant: what a client makes this process wait for and hold is bounded, for each body and for all that are read whole. One that arrives in one piece,
//! as most do, is not copied and not counted.

use crate::auth::bearer;
use crate::problem::{Kind, Problem};
use actix_web::HttpRequest;
use actix_web::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use actix_web::web::Payload;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use roadstead_backend::secrets;
use roadstead_domain::json::{self, MAX_DEPTH, Unacceptable};
use serde::de::DeserializeOwned;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// For the next piece of a body.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);
/// What a body's pieces may take together, and a second more for each so many bytes: a byte now and then is not enough.
const BODY_GRACE: Duration = Duration::from_secs(60);
const MIN_BYTES_PER_SECOND: u64 = 64 << 10;
/// Of a body that is refused when anything is in it.
const MAX_SAYING_NOTHING_BYTES: usize = 64 << 10;
const MAX_KNOWN_CALLERS: u64 = 10_000;

/// For bodies sent with an API key.
static KEYS_ROOM: LazyLock<Room> = LazyLock::new(|| Room::new(128 << 20, 64 << 20));
/// For executors' bodies. Apart: they are read before it is known who sends them, so that shares would bound nobody. And those that end an attempt, which
/// may be long, apart from those that keep its lease.
pub static EXECUTORS_ROOM: LazyLock<Room> = LazyLock::new(|| Room::new(32 << 20, 4 << 20));
pub static FINISHES_ROOM: LazyLock<Room> = LazyLock::new(|| Room::new(64 << 20, 64 << 20));

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
fn broken(error: &actix_web::error::PayloadError) -> Problem {
    Problem::new(Kind::BadRequest, format!("the body did not arrive whole: {error}"))
}

/// A body's pieces, each waited for no longer than its client may take.
pub struct Arriving<'a> {
    payload: &'a mut Payload,
    arrived: u64,
    /// For the client only, not for whoever takes the pieces.
    waited: Duration,
}

impl<'a> Arriving<'a> {
    pub fn new(payload: &'a mut Payload) -> Self {
        Self { payload, arrived: 0, waited: Duration::ZERO }
    }

    pub async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let allowed = BODY_GRACE + Duration::from_secs(self.arrived / MIN_BYTES_PER_SECOND);
        let patience = PIECE_TIMEOUT.min(allowed.saturating_sub(self.waited));
        let began = Instant::now();
        let piece = timeout(patience, self.payload.next()).await.map_err(|_| too_slow())?;
        self.waited += began.elapsed();
        let piece = piece.transpose().map_err(|error| broken(&error))?;
        self.arrived += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Ok(piece)
    }
}

fn too_slow() -> Problem {
    Problem::new(Kind::RequestTimeout, "the body arrived too slowly")
}

/// What bodies that are read whole may hold at once, in bytes.
pub struct Room {
    all: Arc<Semaphore>,
    /// By the hash of their token. Of one caller, so that none takes all.
    by_caller: moka::sync::Cache<Vec<u8>, Arc<Semaphore>>,
    bytes_of_caller: usize,
}

impl Room {
    fn new(bytes: usize, bytes_of_caller: usize) -> Self {
        let by_caller = moka::sync::Cache::new(MAX_KNOWN_CALLERS);
        Self { all: Arc::new(Semaphore::new(bytes)), by_caller, bytes_of_caller }
    }

    /// For one body of the request's; there is nothing of it yet. `expected_bytes` are not counted before they come.
    fn enter(&self, request: &HttpRequest, expected_bytes: usize) -> Result<Held, Problem> {
        let caller = secrets::hash(bearer(request).unwrap_or_default());
        let of_caller = self.by_caller.get_with(caller, || Arc::new(Semaphore::new(self.bytes_of_caller)));
        Ok(Held {
            body: BytesMut::with_capacity(expected_bytes),
            of_caller: take(&of_caller, 0)?,
            of_all: take(&self.all, 0)?,
        })
    }
}

/// A body that is counted until the last slice of it is dropped.
struct Held {
    body: BytesMut,
    of_caller: OwnedSemaphorePermit,
    of_all: OwnedSemaphorePermit,
}

impl Held {
    fn push(&mut self, piece: &[u8]) -> Result<(), Problem> {
        self.of_caller.merge(take(self.of_caller.semaphore(), piece.len())?);
        self.of_all.merge(take(self.of_all.semaphore(), piece.len())?);
        self.body.extend_from_slice(piece);
        Ok(())
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

fn take(room: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    Arc::clone(room).try_acquire_many_owned(bytes).map_err(|_| {
        Problem::new(Kind::Overloaded, "as many large bodies are being read already as may be").retry_after(1)
    })
}

/// The whole body, of `max_bytes` at most.
pub async fn read(request: &HttpRequest, payload: &mut Payload, max_bytes: usize) -> Result<Bytes, Problem> {
    read_into(&KEYS_ROOM, request, payload, max_bytes).await
}

pub async fn read_into(
    room: &Room,
    request: &HttpRequest,
    payload: &mut Payload,
    max_bytes: usize,
) -> Result<Bytes, Problem> {
    let announced = announced_length(request).unwrap_or(0);
    if announced > max_bytes as u64 {
        return Err(too_large(max_bytes as u64));
    }
    let mut pieces = Arriving::new(payload);
    let Some(first) = pieces.next().await? else { return Ok(Bytes::new()) };
    if first.len() as u64 == announced {
        return Ok(first);
    }
    let mut held = room.enter(request, announced as usize)?;
    let mut next = Some(first);
    while let Some(piece) = next {
        if held.body.len() + piece.len() > max_bytes {
            return Err(too_large(max_bytes as u64));
        }
        held.push(&piece)?;
        next = pieces.next().await?;
    }
    Ok(Bytes::from_owner(held))
}

/// For a route that is told nothing: what a body says would be taken to be heeded. An empty object says nothing.
pub async fn nothing(request: &HttpRequest, payload: &mut Payload) -> Result<(), Problem> {
    let body = read(request, payload, MAX_SAYING_NOTHING_BYTES).await?;
    let says_nothing = body.trim_ascii().is_empty()
        || serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&body)
            .is_ok_and(|members| members.is_empty());
    if says_nothing { Ok(()) } else { Err(Problem::field("", "this route takes no body")) }
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
pub mod tests {
    use super::*;
    use actix_web::FromRequest;
    use actix_web::error::PayloadError;
    use actix_web::test::TestRequest;
    use futures_util::{Stream, stream};
    use tokio::time::sleep;

    pub async fn payload(pieces: impl Stream<Item = &'static [u8]> + 'static) -> (HttpRequest, Payload) {
        let request = TestRequest::post().to_http_request();
        let pieces: actix_web::dev::Payload = actix_web::dev::Payload::Stream {
            payload: Box::pin(pieces.map(|piece| Ok::<_, PayloadError>(Bytes::from_static(piece)))),
        };
        let payload = Payload::from_request(&request, &mut { pieces }).await.unwrap();
        (request, payload)
    }

    /// Its kind, and after how long.
    async fn refusal(pieces: impl Stream<Item = &'static [u8]> + 'static) -> (Kind, Duration) {
        let (request, mut payload) = payload(pieces).await;
        let began = Instant::now();
        let problem = read(&request, &mut payload, 16 << 20).await.unwrap_err();
        (problem.kind(), began.elapsed())
    }

    fn every(seconds: u64, piece: &'static [u8]) -> impl Stream<Item = &'static [u8]> {
        stream::repeat(piece).then(move |piece| async move {
            sleep(Duration::from_secs(seconds)).await;
            piece
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_falls_silent_is_not_waited_for() {
        let silent = stream::iter([&b"{"[..]]).chain(stream::pending());
        assert_eq!(refusal(silent).await, (Kind::RequestTimeout, PIECE_TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_is_not_enough() {
        assert_eq!(refusal(every(29, b" ")).await, (Kind::RequestTimeout, BODY_GRACE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_line_is_given_its_time() {
        static PIECE: [u8; 1 << 20] = [b' '; 1 << 20];
        let (request, mut payload) = payload(every(15, &PIECE).take(16)).await;
        assert_eq!(read(&request, &mut payload, 16 << 20).await.unwrap().len(), 16 << 20);
    }

    #[tokio::test]
    async fn bodies_in_pieces_share_a_room_until_they_are_dropped() {
        let room = Room::new(10, 7);
        let read = async |token: &str, piece: &'static [u8]| {
            let (_, mut payload) = payload(stream::iter([piece, piece])).await;
            let request =
                TestRequest::post().insert_header(("Authorization", format!("Bearer {token}"))).to_http_request();
            read_into(&room, &request, &mut payload, 100).await.map_err(|problem| problem.kind())
        };
        let first = read("a", b"123").await.unwrap();
        assert_eq!(first, "123123");
        let slice = first.slice(1..2);
        drop(first);
        assert_eq!(read("a", b"1").await, Err(Kind::Overloaded), "a caller has its share");
        assert_eq!(read("b", b"123").await, Err(Kind::Overloaded), "all have the room");
        assert_eq!(read("b", b"12").await.unwrap(), "1212");
        drop(slice);
        assert_eq!(read("a", b"123").await.unwrap(), "123123");
    }

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
