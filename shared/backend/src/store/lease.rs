//! Leases as rows, on the database's clock, so that they work behind a transaction-pooling proxy.

use super::statement::statement;
use super::{Connection, StoreResult};
use diesel::sql_types::{Double, Text};
use diesel_async::RunQueryDsl;
use std::time::Duration;

const ACQUIRE: &str = "
INSERT INTO leases (name, holder, expires_at) VALUES ({}, {}, now() + make_interval(secs => {}))
ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at
WHERE leases.holder = EXCLUDED.holder OR leases.expires_at < now()";

/// Takes or renews a lease; `false`: another holder has it.
pub async fn acquire(connection: &mut Connection, name: &str, holder: &str, span: Duration) -> StoreResult<bool> {
    let rows = statement(ACQUIRE)
        .bind::<Text, _>(name.to_owned())
        .bind::<Text, _>(holder.to_owned())
        .bind::<Double, _>(span.as_secs_f64())
        .execute(connection)
        .await?;
    Ok(rows == 1)
}

/// Gives a lease back before it ends.
pub async fn release(connection: &mut Connection, name: &str, holder: &str) -> StoreResult<()> {
    statement("DELETE FROM leases WHERE name = {} AND holder = {}")
        .bind::<Text, _>(name.to_owned())
        .bind::<Text, _>(holder.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}
