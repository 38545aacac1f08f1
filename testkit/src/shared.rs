//! The shared servers alone, for tests of what lies below the programs.

use crate::services::{Postgres, Redis};
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::OnceCell;

/// PostgreSQL and Redis, one of each for the whole test process.
pub struct Servers {
    postgres: &'static Postgres,
    redis_url: String,
    databases: AtomicU32,
}

/// Starts them when the first test asks.
pub async fn servers() -> &'static Servers {
    static SERVERS: OnceCell<Servers> = OnceCell::const_new();
    let start = async || {
        let (postgres, redis) = tokio::try_join!(Postgres::shared(), Redis::shared())?;
        anyhow::Ok(Servers { postgres, redis_url: redis.url(), databases: AtomicU32::new(0) })
    };
    SERVERS.get_or_try_init(start).await.unwrap_or_else(|e| panic!("can't start the servers: {e:#}"))
}

impl Servers {
    /// The URL of a database that nobody else uses, empty.
    pub async fn new_database(&self) -> String {
        let name = format!("alone_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let made = self.postgres.administer(&format!("CREATE DATABASE {name}")).await;
        made.unwrap_or_else(|e| panic!("can't make a database: {e:#}"));
        self.postgres.url(&name)
    }

    pub fn redis_url(&self) -> &str {
        &self.redis_url
    }
}
