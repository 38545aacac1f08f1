//! Connections to PostgreSQL: a peer that says nothing, on either side of one, holds nobody up for long; what the store counts on holds whatever a database
//! has as its defaults.

use crate::fixture::*;
use roadstead_backend::config::{PostgresConfig, Secret};
use roadstead_backend::store::{Database, StoreError, StoreResult};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_froze_within_its_claim_stops_nobody_for_long() {
    let database = database().await;
    let (mut frozen, mut other) = (database.get().await.unwrap(), database.get().await.unwrap());
    let id = submitted(&mut other, execution()).await;
    // The lock that claims take, as `claim` does.
    sql(&mut frozen, "BEGIN; SELECT pg_advisory_xact_lock(8245918687350939501)").await;
    let claim = tokio::time::timeout(Duration::from_secs(30), claimed(&mut other, id));
    assert_eq!(claim.await.expect("the lock is let go").attempt, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_of_the_database_loosen_no_promise() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    for setting in ["synchronous_commit = off", "default_transaction_isolation = serializable"] {
        sql(c, &format!("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {setting}', current_database()); END $$"))
            .await;
    }
    let later = &mut database.get().await.unwrap();
    let defaults =
        "DO $$ BEGIN ASSERT (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit') = 'off'; END $$";
    sql(later, defaults).await;
    let kept = "DO $$ BEGIN ASSERT current_setting('synchronous_commit') = 'on'
        AND current_setting('transaction_isolation') = 'read committed'; END $$";
    sql(later, kept).await;
}

#[tokio::test]
async fn a_connection_that_stopped_answering_is_given_up_and_not_used_again() {
    let database = database().await;
    database.ping().await.unwrap();
    assert_eq!(database.connections(), (1, 1));
    tokio::time::pause();
    let silent = database.run(async |_| std::future::pending::<StoreResult<()>>().await).await;
    tokio::time::resume();
    assert!(matches!(silent, Err(StoreError::Unavailable(_))), "{silent:?}");
    assert_eq!(database.connections(), (0, 0));
    database.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_silent_is_used_once_it_speaks() {
    let url = roadstead_testkit::servers().await.new_database().await;
    let server = url.split_once('@').unwrap().1.split('/').next().unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let speaks = Arc::new(AtomicBool::new(false));
    let proxy = tokio::spawn({
        let (speaks, server) = (Arc::clone(&speaks), server.clone());
        async move {
            let mut silent = Vec::new();
            while let Ok((mut client, _)) = listener.accept().await {
                if speaks.load(Ordering::SeqCst) {
                    let mut upstream = TcpStream::connect(&server).await.unwrap();
                    tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut upstream).await });
                } else {
                    silent.push(client);
                }
            }
        }
    });
    let database = Database::new(&PostgresConfig {
        url: Secret::new(url.replace(&server, &address)),
        max_connections: 1,
        connect_timeout: Duration::from_secs(1),
        statement_timeout: Duration::from_secs(30),
    });
    assert!(database.get().await.is_err(), "nobody answers");
    speaks.store(true, Ordering::SeqCst);
    let answered = async { while database.ping().await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(30), answered).await.expect("the pool does not wait for the silent one");
    proxy.abort();
}
