//! The S3 server process of `roadstead dev`: `s3s-fs` on loopback, buckets as folders.
//!
//! Its credentials come by standard input, a line each: arguments and environment can be read by others. It never listens on
//! anything but loopback.

use crate::args::DevS3Args;
use crate::failure::Failure;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Requests that are under way at the end may take this long.
const DRAIN: Duration = Duration::from_secs(3);

pub async fn run(args: &DevS3Args) -> Result<(), Failure> {
    super::processes::hide_memory()?;
    let lines: Vec<String> = std::io::stdin().lines().take(2).collect::<Result<_, _>>()?;
    let [access_key_id, secret_access_key] = lines.as_slice() else {
        return Err(Failure::Usage(
            "expects the access key's id and its secret on standard input, a line each".to_owned(),
        ));
    };
    let files = FileSystem::new(&args.root).map_err(|e| Failure::local(args.root.display(), format!("{e:?}")))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(access_key_id, secret_access_key.as_str()));
    let service = builder.build();

    let address = (Ipv4Addr::LOCALHOST, args.port);
    let listener =
        TcpListener::bind(address).await.map_err(|e| Failure::local(format_args!("port {}", args.port), e))?;
    let mut terminated = signal(SignalKind::terminate())?;
    let server = Builder::new(TokioExecutor::new());
    let graceful = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.map(|(stream, _)| stream),
            _ = terminated.recv() => break,
        };
        let Ok(stream) = stream else {
            // Out of descriptors, most likely: others are given time to return some.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Small answers must not wait for a full packet.
        let _ = stream.set_nodelay(true);
        let connection = graceful.watch(server.serve_connection(TokioIo::new(stream), service.clone()).into_owned());
        tokio::spawn(async move {
            // What goes wrong with a connection is its client's to tell.
            let _ = connection.await;
        });
    }
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    Ok(())
}
