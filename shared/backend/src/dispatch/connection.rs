//! Pooled connections for short commands.
//!
//! bb8-redis takes every connection for a good one unless each checkout is a PING. Here a connection whose command failed for a
//! reason of the wire says so itself, and is thrown away.

use crate::outage::Outage;
use bb8_redis::RedisConnectionManager;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult};
use std::fmt::Display;
use std::sync::Arc;
use tokio::runtime::Handle;

#[derive(Clone, Debug)]
pub(super) struct Manager {
    redis: RedisConnectionManager,
    runtime: Handle,
    outage: Arc<Outage>,
}

impl Manager {
    /// The connections live on the runtime that this is called on, whoever is the first to use them: that of an HTTP worker ends before what is on its way
    /// to Redis has arrived.
    pub(super) fn new(client: &redis::Client, outage: Arc<Outage>) -> RedisResult<Self> {
        let redis = RedisConnectionManager::new(client.get_connection_info().clone())?;
        Ok(Self { redis, runtime: Handle::current(), outage })
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
        let redis = self.redis.clone();
        let connected = self.runtime.spawn(async move { bb8::ManageConnection::connect(&redis).await });
        let connected = connected.await.map_err(std::io::Error::other)?;
        self.outage.note(connected.as_ref().err().map(|error| error as &dyn Display));
        Ok(Connection { inner: connected?, broken: false })
    }

    async fn is_valid(&self, connection: &mut Connection) -> Result<(), RedisError> {
        redis::cmd("PING").query_async(&mut connection.inner).await
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.broken
    }
}
