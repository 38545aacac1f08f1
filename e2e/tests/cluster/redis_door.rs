//! A way to Redis that can be closed in one direction: what is sent after that never arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct RedisDoor {
    url: String,
    is_closed: Arc<AtomicBool>,
}

impl RedisDoor {
    /// `url`: `redis://[user:password@]host:port[/n]`.
    pub async fn open(url: &str) -> Self {
        let (credentials, address) = url
            .trim_start_matches("redis://")
            .rsplit_once('@')
            .map_or(("", url.trim_start_matches("redis://")), |(c, a)| (c, a));
        let address = address.split('/').next().unwrap_or_default().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = if credentials.is_empty() { String::new() } else { format!("{credentials}@") };
        let own = format!("redis://{at}{}", listener.local_addr().unwrap());
        let is_closed = Arc::new(AtomicBool::new(false));
        let closed = Arc::clone(&is_closed);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&address).await else { continue };
                let closed = Arc::clone(&closed);
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(async move {
                    let mut chunk = vec![0; 16 << 10];
                    while let Ok(read @ 1..) = from_client.read(&mut chunk).await {
                        if closed.load(Ordering::SeqCst) || to_server.write_all(&chunk[..read]).await.is_err() {
                            break;
                        }
                    }
                });
                tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            }
        });
        Self { url: own, is_closed }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }

    pub fn reopen(&self) {
        self.is_closed.store(false, Ordering::SeqCst);
    }
}
