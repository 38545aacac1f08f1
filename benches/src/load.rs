//! A load generator that costs little: raw HTTP/1.1 over kept-alive connections, so that the server's CPU is not spent on the client.

use crate::rounds::Work;
use anyhow::{anyhow, bail};
use memchr::memmem;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What one run gave.
#[derive(Debug)]
pub struct Load {
    pub answered: u64,
    pub elapsed: Duration,
    /// Of each answered request.
    pub latencies_ms: Vec<f64>,
}

impl Load {
    pub fn per_second(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64()
    }

    pub fn work(&self) -> Work {
        Work { operations: self.answered as f64, per_second: self.per_second() }
    }
}

/// Runs `connections` closed loops for `span`; `request` writes the whole request of connection `c`, number `n`. Every answer must be a 202.
pub fn run(
    address: &str,
    connections: usize,
    span: Duration,
    request: impl Fn(usize, u64, &mut Vec<u8>) + Send + Sync + 'static,
) -> anyhow::Result<Load> {
    let address = address.to_owned();
    // A thread and a runtime of its own: one core's worth of client at most.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(closed_loops(address, connections, span, std::sync::Arc::new(request)))
    })
    .join()
    .map_err(|_| anyhow!("the load generator panicked"))?
}

async fn closed_loops(
    address: String,
    connections: usize,
    span: Duration,
    request: std::sync::Arc<impl Fn(usize, u64, &mut Vec<u8>) + Send + Sync + 'static>,
) -> anyhow::Result<Load> {
    let mut sockets = Vec::new();
    for _ in 0..connections {
        let socket = TcpStream::connect(&address).await?;
        socket.set_nodelay(true)?;
        sockets.push(socket);
    }
    let begin = Instant::now();
    let mut loops = tokio::task::JoinSet::new();
    for (c, mut socket) in sockets.into_iter().enumerate() {
        let request = std::sync::Arc::clone(&request);
        loops.spawn(async move {
            let mut latencies = Vec::new();
            let (mut asked, mut answer) = (Vec::with_capacity(4096), Vec::with_capacity(4096));
            let mut now = Instant::now();
            while now - begin < span {
                asked.clear();
                request(c, latencies.len() as u64, &mut asked);
                socket.write_all(&asked).await?;
                expect_accepted(&mut socket, &mut answer).await?;
                let sent = std::mem::replace(&mut now, Instant::now());
                latencies.push((now - sent).as_secs_f64() * 1e3);
            }
            anyhow::Ok(latencies)
        });
    }
    let mut latencies_ms = Vec::new();
    while let Some(joined) = loops.join_next().await {
        latencies_ms.extend(joined??);
    }
    Ok(Load { answered: latencies_ms.len() as u64, elapsed: begin.elapsed(), latencies_ms })
}

async fn expect_accepted(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<()> {
    const LENGTH: &[u8] = b"\r\ncontent-length: ";
    buffer.clear();
    loop {
        if socket.read_buf(buffer).await? == 0 {
            bail!("the server closed the connection");
        }
        let Some(end) = memmem::find(buffer, b"\r\n\r\n") else { continue };
        let head = &buffer[..end];
        if !head.starts_with(b"HTTP/1.1 202") {
            bail!("{}", String::from_utf8_lossy(buffer));
        }
        let at = memmem::find(head, LENGTH).ok_or_else(|| anyhow!("no content-length"))? + LENGTH.len();
        let digits = head[at..].split(|byte| *byte == b'\r').next().unwrap_or_default();
        let length: usize = std::str::from_utf8(digits)?.parse()?;
        while buffer.len() < end + 4 + length {
            if socket.read_buf(buffer).await? == 0 {
                bail!("the server closed the connection");
            }
        }
        return Ok(());
    }
}

/// A POST of a JSON body: what goes before one more header, and what after it.
pub fn post(path: &str, key: &str, body: &str) -> (String, String) {
    let before = format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    (before, format!("\r\n{body}"))
}
