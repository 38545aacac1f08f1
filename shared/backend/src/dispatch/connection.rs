//! Pooled connections for short commands.
//!
//! bb8-redis takes every connection for a good one unless each checkout is a PING. Here a connection whose command failed for a
//! reason of the wire says so itself, and is thrown away.

use bb8_redis::RedisConnectionManager;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult};

#[derive(Clone, Debug)]
pub(super) struct Manager(RedisConnectionManager);

impl Manager {
    pub(super) fn new(client: &redis::Client) -> RedisResult<Self> {
        RedisConnectionManager::new(client.get_connection_info().clone()).map(Self)
    }
}

pub(super) struct Connection {
    inner: MultiplexedConnection,
    broken: bool,
}

impl Connection {
    pub(super) fn inner(&mut self) -> &mut MultiplexedConnection {
        &mut self.inner
    }

    /// A reply that was not understood, late or never came may still arrive: nobody may read it as the answer to the next command. A server that takes no
    /// writes is a former primary: its name leads to another one by now.
    pub(super) fn note<T>(&mut self, answer: &RedisResult<T>) {
        if let Err(error) = answer {
            self.broken = error.is_io_error()
                || error.is_timeout()
                || error.is_connection_dropped()
                || error.is_unrecoverable_error()
                || error.code() == Some("READONLY");
        }
    }
}

impl bb8::ManageConnection for Manager {
    type Connection = Connection;
    type Error = RedisError;

    async fn connect(&self) -> Result<Connection, RedisError> {
        Ok(Connection { inner: bb8::ManageConnection::connect(&self.0).await?, broken: false })
    }

    async fn is_valid(&self, connection: &mut Connection) -> Result<(), RedisError> {
        redis::cmd("PING").query_async(&mut connection.inner).await
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.broken
    }
}
