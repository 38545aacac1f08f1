//! Opening a TCP connection, more than once if it does not open at once.
//!
//! What a new pod sends first may be dropped, until its cluster's network has heard of it; TCP itself tries again after a second
//! (RFC 6298, section 2). So another connection is tried beside it a moment later, as RFC 8305 does for several addresses.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;

/// Before the second try; before each one after it, twice as long.
const FIRST_STAGGER: Duration = Duration::from_millis(100);
/// A packet may be lost; an API that can take no more must not be asked ever more often.
const MAX_AT_ONCE: usize = 3;

pub async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
    staggered(|| {
        let addresses = addresses.clone();
        async move { TcpStream::connect(&addresses[..]).await }
    })
    .await
}

/// The first that opens; the last one's error when none does.
async fn staggered<T, F>(open: impl Fn() -> F) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let (mut tries, mut stagger) = (JoinSet::new(), FIRST_STAGGER);
    tries.spawn(open());
    let mut made = 1;
    loop {
        tokio::select! {
            Some(opened) = tries.join_next() => match opened.map_err(io::Error::other).flatten() {
                Err(_) if !tries.is_empty() => {}
                decided => return decided,
            },
            () = tokio::time::sleep(stagger), if made < MAX_AT_ONCE => {
                tries.spawn(open());
                made += 1;
                stagger *= 2;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use tokio::time::Instant;

    /// The n-th try ends as `plan` says: after how long, and how.
    async fn run(plan: &'static [(u64, Result<u32, &'static str>)]) -> (Result<u32, String>, u128, u32) {
        let (begun, tries) = (Instant::now(), AtomicU32::new(0));
        let result = staggered(|| {
            let (after, result) = plan[tries.fetch_add(1, Relaxed) as usize];
            async move {
                tokio::time::sleep(Duration::from_millis(after)).await;
                result.map_err(io::Error::other)
            }
        })
        .await;
        (result.map_err(|error| error.to_string()), begun.elapsed().as_millis(), tries.load(Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_opens_at_once_is_the_only_one() {
        assert_eq!(run(&[(1, Ok(1))]).await, (Ok(1), 1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_packet_that_is_lost_costs_a_moment() {
        assert_eq!(run(&[(1_000, Ok(1)), (1, Ok(2))]).await, (Ok(2), 101, 2));
        assert_eq!(run(&[(1_000, Ok(1)), (1_000, Ok(2)), (1, Ok(3))]).await, (Ok(3), 301, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_believed_when_nothing_else_is_tried() {
        assert_eq!(run(&[(1, Err("refused"))]).await, (Err("refused".into()), 1, 1));
        assert_eq!(run(&[(150, Err("reset")), (100, Ok(2))]).await, (Ok(2), 200, 2));
        assert_eq!(run(&[(150, Err("one")), (100, Err("two"))]).await, (Err("two".into()), 200, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_an_end_to_trying() {
        const SLOW: (u64, Result<u32, &str>) = (5_000, Ok(1));
        assert_eq!(run(&[SLOW, SLOW, SLOW]).await, (Ok(1), 5_000, 3));
    }
}
