//! `/livez`, `/readyz` and `/metrics` on a small HTTP listener of the worker's own.
//!
//! Alive is who still turns round: a process may be there and do nothing. Ready is who takes work: who found the schema, reaches PostgreSQL and Redis,
//! and was not told to stop; S3 is not needed for dispatch.

pub mod check;
mod probe;
mod standing;

pub use standing::Standing;

use crate::worker::Worker;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use probe::Probe;
use roadstead_backend::telemetry::MetricsHandle;
use slog::debug;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

const MAX_CONNECTIONS: usize = 32;
/// A client that is slower than this in asking is not waited for.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection is for some questions, not for ever.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

struct Desk {
    probe: Probe,
    metrics: Option<MetricsHandle>,
}

/// Answers until `stop`. Without `metrics`, `/metrics` is not there.
pub async fn serve(
    listener: TcpListener,
    worker: Arc<Worker>,
    standing: Arc<Standing>,
    metrics: Option<MetricsHandle>,
    stop: CancellationToken,
) {
    let log = worker.log.clone();
    let desk = Arc::new(Desk { probe: Probe::new(worker, standing), metrics });
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    debug!(log, "a connection was not accepted"; "error" => %error);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let desk = Arc::clone(&desk);
        tokio::spawn(async move {
            let _ = tokio::time::timeout(CONNECTION_LIFE, talk(stream, desk)).await;
            drop(place);
        });
    }
}

async fn talk(stream: TcpStream, desk: Arc<Desk>) {
    let service = service_fn(|request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(&request).await) }
    });
    // A client that went away is nobody's trouble.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Desk {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n".to_owned());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match (request.uri().path(), &self.metrics) {
            ("/livez", _) => self.probe.liveness(),
            ("/readyz", _) => self.probe.readiness().await,
            ("/metrics", Some(metrics)) => with_type(StatusCode::OK, PROMETHEUS_TEXT, metrics.render()),
            _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n".to_owned()),
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", body)
}

fn with_type(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
