//! Waiting without polling: a blocking pop on a connection of its own.
//!
//! A bell is a list of at most one token. Whoever rings finds at most one token there; whoever waits takes it. A ring between a look and the wait is
//! not lost: the token lies there.

use super::{Dispatch, DispatchError};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use std::time::Duration;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    Rung,
    /// Nobody rang in that time.
    Silent,
}

/// One waiter. A connection that failed is thrown away: a pop that was cut off may have taken a token, so the waiter must look again, not wait.
pub struct Bell {
    client: redis::Client,
    key: String,
    connection: Option<MultiplexedConnection>,
}

impl Dispatch {
    /// The bell that new work, and berths given back by somebody else, ring.
    pub fn worker_bell(&self) -> Bell {
        Bell { client: self.client.clone(), key: self.keys.bell(), connection: None }
    }

    pub fn supervisor_bell(&self) -> Bell {
        Bell { client: self.client.clone(), key: self.keys.relay_bell(), connection: None }
    }
}

impl Bell {
    /// Waits for a ring. Dropping the future before it is done closes the connection, and with it the wait.
    pub async fn wait(&mut self, at_most: Duration) -> Result<Rung, DispatchError> {
        let mut connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(Duration::from_secs(2)))
                .set_response_timeout(None);
            self.client.get_multiplexed_async_connection_with_config(&config).await?
        };
        let command = redis::cmd("BLPOP").arg(&self.key).arg(at_most.as_secs_f64().max(0.01)).take();
        let answer = tokio::time::timeout(
            at_most + Duration::from_secs(2),
            command.query_async::<Option<(String, String)>>(&mut connection),
        )
        .await
        .map_err(|_| DispatchError::Unavailable("a blocking read was not answered".to_owned()))??;
        self.connection = Some(connection);
        Ok(if answer.is_some() { Rung::Rung } else { Rung::Silent })
    }
}

impl std::fmt::Debug for Bell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bell").field("key", &self.key).finish_non_exhaustive()
    }
}
