//! `roadstead-worker healthcheck`: asks this machine's worker whether it is ready. For containers that hold no other HTTP client.

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(3);
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// An error says why it is not ready.
pub async fn healthcheck(host: IpAddr, port: u16) -> anyhow::Result<()> {
    let address = SocketAddr::new(reachable(host), port);
    tokio::time::timeout(PATIENCE, ask(address)).await.with_context(|| format!("no answer from {address}"))?
}

async fn ask(address: SocketAddr) -> anyhow::Result<()> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("nobody listens at {address}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/readyz").header("host", address.to_string()).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    connection.abort();
    if status != StatusCode::OK {
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        bail!("{status}: {}", String::from_utf8_lossy(&body).trim());
    }
    Ok(())
}

/// Who listens on all addresses is asked on loopback.
fn reachable(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn the_check_passes_on_200_only() {
        let ready = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
        healthcheck("0.0.0.0".parse().unwrap(), ready.port()).await.unwrap();
        let away = answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nredi").await;
        let error = healthcheck(away.ip(), away.port()).await.unwrap_err().to_string();
        assert!(error.contains("503") && error.contains("redi"), "{error}");
    }

    #[tokio::test]
    async fn the_check_fails_when_nobody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert!(healthcheck("127.0.0.1".parse().unwrap(), port).await.is_err());
    }
}
