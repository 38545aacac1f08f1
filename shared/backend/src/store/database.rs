//! Connections to PostgreSQL and the schema they expect.

use super::statement::statement;
use super::{StoreError, StoreResult};
use crate::config::{self, PostgresConfig};
use crate::outage::Outage;
use crate::telemetry::metrics::POOL_WAIT_SECONDS;
use bb8::{Pool, PooledConnection, QueueStrategy};
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel::sql_types::{Bool, Text};
use diesel::{ConnectionError, QueryableByName};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod};
use diesel_async::{
    AnsiTransactionManager, AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection,
    TransactionManager,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use futures_util::FutureExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres_rustls::MakeRustlsConnect;

pub type Connection = AsyncPgConnection;
type Manager = AsyncDieselConnectionManager<Connection>;

pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

/// Held while migrations run, so that several starters apply them once ("roadmigr").
const MIGRATION_LOCK: i64 = 0x726f_6164_6d69_6772;

/// A migration that waits for a table makes everybody wait behind it: rather it fails, and is tried again with the next start.
const MIGRATION_LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// From the first packet to a session that is set up.
const ESTABLISH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may leave what it was sent unacknowledged, or a silent connection unconfirmed: after a failover its machine may be gone without a word,
/// and everything that is asked over one connection waits for it.
const SILENCE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_RETRIES: u32 = 3;

/// For an answer that somebody waits for, from a database that neither gives one nor goes away. The kernel of a machine whose PostgreSQL is stuck
/// acknowledges whatever is sent.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a failure to connect speaks for the next ones.
const OUTAGE_BELIEF: Duration = Duration::from_secs(1);

/// A pool of connections. Cloning shares it.
#[derive(Clone)]
pub struct Database {
    pool: Pool<Manager>,
    outage: Arc<Outage>,
    is_impatient: bool,
}

impl Database {
    /// Makes the pool without connecting: PostgreSQL may come later. The connections live on the runtime that this is called on, whoever uses them.
    pub fn new(config: &PostgresConfig) -> Self {
        let runtime = tokio::runtime::Handle::current();
        let mut manager = ManagerConfig::default();
        manager.recycling_method = RecyclingMethod::Fast;
        let statement_timeout = config.statement_timeout;
        let outage = Arc::new(Outage::default());
        let noting = Arc::clone(&outage);
        manager.custom_setup = Box::new(move |url| {
            let (url, outage) = (url.to_owned(), Arc::clone(&noting));
            let connected = runtime.spawn(async move {
                let connected = establish(&url, Some(statement_timeout)).await;
                outage.note(connected.as_ref().err().map(|error| error as &dyn std::fmt::Display));
                connected
            });
            async { connected.await.unwrap_or_else(|error| Err(ConnectionError::BadConnection(error.to_string()))) }
                .boxed()
        });
        let manager = Manager::new_with_config(config.url.expose(), manager);
        let pool = Pool::builder()
            .max_size(config.max_connections)
            .connection_timeout(config.connect_timeout)
            .test_on_check_out(false)
            // The connection used last has its statements and its caches warm.
            .queue_strategy(QueueStrategy::Lifo)
            .build_unchecked(manager);
        Self { pool, outage, is_impatient: false }
    }

    /// For who must answer somebody: while no connection is left and none can be made, [`Database::get`] says so at once, rather than waiting for one.
    /// Whoever tries again in a loop needs a pause of its own then.
    #[must_use]
    pub fn impatient(self) -> Self {
        Self { is_impatient: true, ..self }
    }

    pub async fn get(&self) -> StoreResult<PooledConnection<'_, Manager>> {
        let connection = async {
            let asked = Instant::now();
            let connection = self
                .pool
                .get()
                .await
                .map_err(|_| StoreError::Unavailable(self.outage.why(self.pool.state().connections)));
            metrics::histogram!(POOL_WAIT_SECONDS, "pool" => "postgres").record(asked.elapsed());
            connection
        };
        if !self.is_impatient {
            return connection.await;
        }
        let outage = self.outage.since(OUTAGE_BELIEF, || self.pool.state().connections == 0);
        tokio::select! {
            biased;
            connection = connection => connection,
            error = outage => Err(StoreError::Unavailable(error)),
        }
    }

    /// Does something with a connection, within [`PATIENCE`]. A connection that did not answer is not used again: the machine behind it may be the one that
    /// a failover left behind.
    pub async fn run<T>(&self, work: impl AsyncFnOnce(&mut Connection) -> StoreResult<T>) -> StoreResult<T> {
        let mut connection = self.get().await?;
        if let Ok(answer) = tokio::time::timeout(PATIENCE, work(&mut connection)).await {
            return answer;
        }
        AnsiTransactionManager::transaction_manager_status_mut(&mut *connection).set_in_error();
        Err(StoreError::Unavailable("PostgreSQL does not answer".to_owned()))
    }

    /// Answers whether PostgreSQL does.
    pub async fn ping(&self) -> StoreResult<()> {
        Ok(self.get().await?.batch_execute("SELECT 1").await?)
    }

    /// (connections, idle ones).
    pub fn connections(&self) -> (u32, u32) {
        let state = self.pool.state();
        (state.connections, state.idle_connections)
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

/// Applies what is missing of the schema, all of it or nothing; several at once are safe. Needs a multi-threaded runtime. The lock and its time limit are
/// the transaction's: a session's would stay with a connection of a transaction-pooling proxy.
pub async fn migrate(config: &PostgresConfig) -> anyhow::Result<Vec<String>> {
    let mut connection = establish(config.url.expose(), None).await?;
    AnsiTransactionManager::begin_transaction(&mut connection).await?;
    connection
        .batch_execute(&format!(
            "SELECT pg_advisory_xact_lock({MIGRATION_LOCK}); SET LOCAL lock_timeout = {}",
            MIGRATION_LOCK_TIMEOUT.as_millis()
        ))
        .await?;
    let mut harness = AsyncMigrationHarness::new(connection);
    let (harness, applied) = tokio::task::spawn_blocking(move || {
        let applied =
            harness.run_pending_migrations(MIGRATIONS).map(|applied| applied.iter().map(ToString::to_string).collect());
        (harness, applied.map_err(|error| anyhow::anyhow!("{error}")))
    })
    .await?;
    let applied = applied?;
    AnsiTransactionManager::commit_transaction(&mut harness.into_inner()).await?;
    Ok(applied)
}

/// Whether a migration failed because there was no connection.
pub fn is_unreachable(error: &anyhow::Error) -> bool {
    error.chain().any(<dyn std::error::Error>::is::<diesel::ConnectionError>)
}

/// Whether the schema is this program's. It only looks: the role may be one that can create nothing, and what is not there yet is somebody else's to make.
pub async fn is_migrated(config: &PostgresConfig) -> anyhow::Result<bool> {
    #[derive(QueryableByName)]
    struct Ledger {
        #[diesel(sql_type = Bool)]
        is_there: bool,
    }
    #[derive(QueryableByName)]
    struct Applied {
        #[diesel(sql_type = Text)]
        version: String,
    }
    let connection = &mut establish(config.url.expose(), Some(config.statement_timeout)).await?;
    let ledger = statement("SELECT to_regclass('__diesel_schema_migrations') IS NOT NULL AS is_there");
    if !ledger.get_result::<Ledger>(connection).await?.is_there {
        return Ok(false);
    }
    let applied: Vec<Applied> = statement("SELECT version FROM __diesel_schema_migrations").load(connection).await?;
    let migrations = MigrationSource::<Pg>::migrations(&MIGRATIONS).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(migrations.iter().all(|migration| {
        let version = migration.name().version().to_string();
        applied.iter().any(|applied| applied.version == version)
    }))
}

/// Every statement of the store goes from keys to rows through an index, and is planned once. The planner is told so: what costs is a row that is looked
/// at, and joins are nested loops. Left to itself it reads whole tables as long as its statistics are those of the nearly empty tables that an
/// installation begins with, and keeps such a plan while they grow; and it plans some statements anew at every call.
///
/// A table that was analyzed when it held a row or none it still goes through whole, by a join's other way round, where an index has its rows in an order
/// that the join could use. So where rows are joined by their key, the key's first column is compared by `= ANY(ARRAY[…])`, which is no order: then there
/// is one way left, from what is asked for to its row. A row that is found by what another row says is looked up by a subquery of its own (`OFFSET 0`
/// keeps it one).
const PLANNING: &str =
    "SET jit = off; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off;
    SET enable_mergejoin = off; SET cpu_tuple_cost = 1; SET random_page_cost = 0.01";

/// What the store counts on, whatever the server, the database or the role have as their defaults. Claims take turns by a lock, and whoever has waited for it
/// must see what was committed meanwhile: under `REPEATABLE READ` the snapshot is older than the wait. What is acknowledged is on disk: of a
/// `synchronous_commit` that is `off` nothing is kept; another, which an operator chose for a standby, stays.
const PROMISES: &str = "SET default_transaction_isolation = 'read committed';
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// A process that freezes, or whose machine goes away, within a transaction lets go of its locks after this: whoever claims waits for them.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(5);

/// TLS follows `sslmode` in the URL; a server's certificate is checked against the public roots and those of `SSL_CERT_FILE`.
async fn establish(url: &str, statement_timeout: Option<Duration>) -> diesel::ConnectionResult<Connection> {
    let late = |_| ConnectionError::BadConnection(format!("no session within {} s", ESTABLISH_TIMEOUT.as_secs()));
    tokio::time::timeout(ESTABLISH_TIMEOUT, session(url, statement_timeout)).await.map_err(late)?
}

async fn session(url: &str, statement_timeout: Option<Duration>) -> diesel::ConnectionResult<Connection> {
    // With its causes: by itself an error says no more than that there was one.
    let bad = |error: anyhow::Error| ConnectionError::BadConnection(format!("{error:#}"));
    let mut config: tokio_postgres::Config = url.parse().map_err(|error: tokio_postgres::Error| bad(error.into()))?;
    config
        .connect_timeout(Duration::from_secs(5))
        .tcp_user_timeout(SILENCE)
        .keepalives_idle(SILENCE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES);
    if !url.contains("target_session_attrs") {
        // A former primary that is a standby now answers reads and refuses everything else.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    if config.get_application_name().is_none() {
        config.application_name("roadstead");
    }
    let tls = MakeRustlsConnect::new(tls_config().map_err(bad)?);
    let (client, connection) = config.connect(tls).await.map_err(|error| bad(error.into()))?;
    let mut connection = Connection::try_from_client_and_connection(client, connection).await?;
    let timeout_ms = statement_timeout.map_or(0, |timeout| timeout.as_millis());
    connection
        .batch_execute(&format!(
            "SET statement_timeout = {timeout_ms}; SET idle_in_transaction_session_timeout = {}; SET TIME ZONE 'UTC'; {PROMISES}; {PLANNING}",
            IDLE_IN_TRANSACTION.as_millis()
        ))
        .await
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

fn tls_config() -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(file) = config::extra_roots_file() {
        let extra = config::read_roots(&file);
        roots.extend(extra.map_err(|why| anyhow::anyhow!("SSL_CERT_FILE ({}): {why}", file.display()))?.roots);
    }
    Ok(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn config(url: &str) -> PostgresConfig {
        PostgresConfig {
            url: Secret::new(url),
            max_connections: 2,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn looking_at_the_schema_needs_no_right_to_change_it_and_changes_nothing() {
        let url = roadstead_testkit::servers().await.new_database().await;
        let mut owner = establish(&url, None).await.unwrap();
        let role = format!("reader_{}", uuid::Uuid::new_v4().simple());
        owner
            .batch_execute(&format!(
                "REVOKE CREATE ON SCHEMA public FROM PUBLIC; CREATE ROLE {role} LOGIN PASSWORD 'test'"
            ))
            .await
            .unwrap();
        let mut reader = reqwest::Url::parse(&url).unwrap();
        reader.set_username(&role).unwrap();
        reader.set_password(Some("test")).unwrap();
        let reader = config(reader.as_str());

        assert!(!is_migrated(&reader).await.unwrap());
        let nothing = "DO $$ BEGIN ASSERT NOT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'public'); END $$";
        owner.batch_execute(nothing).await.unwrap();

        migrate(&config(&url)).await.unwrap();
        owner.batch_execute(&format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")).await.unwrap();
        assert!(is_migrated(&reader).await.unwrap());
        owner.batch_execute("DELETE FROM __diesel_schema_migrations WHERE version = (SELECT max(version) FROM __diesel_schema_migrations)").await.unwrap();
        assert!(!is_migrated(&reader).await.unwrap());
        owner.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
    }
}
