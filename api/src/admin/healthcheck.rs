//! `healthcheck`: for containers whose image has no HTTP client.

use anyhow::Context;
use roadstead_backend::config::{Reader, listener};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(3);
/// `HTTP/1.1 200`
const STATUS_LINE_BYTES: usize = 12;

/// Succeeds if the API on this machine answers with 200.
pub async fn run(mut reader: Reader, live: bool) -> anyhow::Result<()> {
    let (host, port) = listener(&mut reader);
    reader.finish(())?;
    let address = SocketAddr::new(reachable(host), port);
    let path = if live { "/livez" } else { "/readyz" };
    let asked = tokio::time::timeout(PATIENCE, status(address, path)).await;
    let status = asked.context("no answer in time").flatten().with_context(|| format!("http://{address}{path}"))?;
    anyhow::ensure!(status == "200", "http://{address}{path} answered {status}");
    Ok(())
}

fn reachable(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    }
}

async fn status(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut line = [0; STATUS_LINE_BYTES];
    stream.read_exact(&mut line).await?;
    let line = std::str::from_utf8(&line)?;
    Ok(line.strip_prefix("HTTP/1.1 ").context("the answer is not HTTP")?.to_owned())
}
