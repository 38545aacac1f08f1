//! An HTTP/1.1 client for two peers, the API and the object store: connections are kept while they are good for more.
//!
//! It never retries (whoever calls knows what may be sent twice), never follows a redirect, and never puts a URL's query
//! string, which is a credential, into an error.

mod body;
mod connect;
mod dial;
mod progress;

pub use body::Body;
pub use progress::Progress;

use bytes::Bytes;
use connect::{Connector, Transport};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// Connections kept for another request, over all peers.
const MAX_IDLE_CONNECTIONS: usize = 4;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    BadUrl(&'static str),
}

/// Who a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    tls: bool,
    host: String,
    port: u16,
}

impl Origin {
    pub fn of(uri: &Uri) -> Result<Self, Failure> {
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(Failure::BadUrl("a URL is neither http nor https")),
        };
        let host = uri.host().ok_or(Failure::BadUrl("a URL has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { tls, host, port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }) })
    }

    fn unreachable(&self, why: impl fmt::Display) -> Failure {
        Failure::Unreachable(format!("{}:{}: {why}", self.host, self.port))
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Debug)]
pub struct Client {
    connector: Connector,
    idle: Mutex<Vec<(Origin, Connection)>>,
}

impl Client {
    pub fn new(certificates: Option<PathBuf>) -> Self {
        Self { connector: Connector::new(certificates), idle: Mutex::new(Vec::new()) }
    }

    /// Sends a request and reads its answer, of at most `max_answer_bytes`; gives up when nothing moves for `idle`.
    pub async fn send(
        &self,
        request: Request<Body>,
        progress: &Progress,
        idle: Duration,
        max_answer_bytes: usize,
    ) -> Result<Answer, Failure> {
        let exchange = async {
            let Exchange { origin, connection, response } = self.open(request).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, max_answer_bytes).collect().await.map_err(|e| origin.unreachable(e))?;
            self.keep(origin, connection);
            Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        progress.unless_idle(idle, exchange).await
    }

    /// Sends a request whose answer is handed over piece by piece; `sink` may refuse one.
    pub async fn receive(
        &self,
        request: Request<Body>,
        idle: Duration,
        mut sink: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<StatusCode, Failure> {
        let progress = Progress::start();
        let exchange = async {
            let Exchange { origin, connection, mut response } = self.open(request).await?;
            while let Some(frame) = response.body_mut().frame().await {
                progress.made();
                if let Ok(piece) = frame.map_err(|e| origin.unreachable(e))?.into_data()
                    && response.status().is_success()
                {
                    sink(&piece)?;
                }
            }
            self.keep(origin, connection);
            Ok(response.status())
        };
        progress.unless_idle(idle, exchange).await
    }

    /// Over a kept connection when there is one. A peer may close a kept connection at the very moment it is used: when
    /// the request has not left, it goes over a new one.
    async fn open(&self, mut request: Request<Body>) -> Result<Exchange, Failure> {
        let origin = address(&mut request)?;
        if let Some(mut connection) = self.kept(&origin)
            && connection.sender.ready().await.is_ok()
        {
            match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok(Exchange { origin, connection, response }),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(origin.unreachable(error.error())),
                },
            }
        }
        let transport = self.connector.open(&origin).await?;
        let mut connection = handshake(transport).await.map_err(|e| origin.unreachable(e))?;
        let response = connection.sender.send_request(request).await.map_err(|e| origin.unreachable(describe(&e)))?;
        Ok(Exchange { origin, connection, response })
    }

    fn kept(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, connection)| !connection.sender.is_closed());
        let place = idle.iter().position(|(of, _)| of == origin)?;
        Some(idle.swap_remove(place).1)
    }

    fn keep(&self, origin: Origin, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE_CONNECTIONS {
            idle.push((origin, connection));
        }
    }
}

/// Ends when it is dropped: what was given up must not be sent on, nor wait for a silent peer to take it.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Body>,
    _driver: JoinSet<()>,
}

struct Exchange {
    origin: Origin,
    connection: Connection,
    response: Response<Incoming>,
}

async fn handshake(transport: Box<dyn Transport>) -> hyper::Result<Connection> {
    let (sender, connection) = http1::handshake(transport).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // Whoever waits for an answer on this connection is told of its end there.
        let _ = connection.await;
    });
    Ok(Connection { sender, _driver: driver })
}

/// Turns an absolute URL into the origin and what stands in the request line.
fn address(request: &mut Request<Body>) -> Result<Origin, Failure> {
    let origin = Origin::of(request.uri())?;
    let authority = request.uri().authority().map(|a| a.as_str().to_owned()).unwrap_or_default();
    if !request.headers().contains_key(HOST) {
        let host = HeaderValue::from_str(&authority).map_err(|_| Failure::BadUrl("a URL's host is not one"))?;
        request.headers_mut().insert(HOST, host);
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(|_| Failure::BadUrl("a URL's path is not one"))?;
    Ok(origin)
}

/// hyper's own words leave out the cause, which is what a reader needs.
fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_into_origin_and_request_line() {
        let mut request = Request::put("https://[::1]/a/b?X-Amz-Signature=s").body(Body::empty()).unwrap();
        let origin = address(&mut request).unwrap();
        assert_eq!(origin, Origin { tls: true, host: "::1".into(), port: 443 });
        assert_eq!(request.uri(), "/a/b?X-Amz-Signature=s");
        assert_eq!(request.headers()[HOST], "[::1]");
    }

    #[test]
    fn an_error_names_the_peer_and_never_the_query() {
        let origin = Origin::of(&"http://s3:9000/a?X-Amz-Signature=s".parse().unwrap()).unwrap();
        assert_eq!(origin.unreachable("refused").to_string(), "s3:9000: refused");
    }
}
