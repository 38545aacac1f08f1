//! Tenants and what they may use.

use super::statement::statement;
use super::{Connection, StoreResult};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
use diesel_async::RunQueryDsl;

#[derive(Clone, Debug, QueryableByName)]
pub struct Tenant {
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Share of the fairness ring: entries taken a turn.
    #[diesel(sql_type = Integer)]
    pub weight: i32,
    /// Live attempts; `None`: only the cap bounds them.
    #[diesel(sql_type = Nullable<Integer>)]
    pub max_concurrent: Option<i32>,
    /// Waiting executions; `None`: the general bound.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub max_queued: Option<i64>,
}

pub async fn list(connection: &mut Connection) -> StoreResult<Vec<Tenant>> {
    Ok(statement("SELECT name, weight, max_concurrent, max_queued FROM tenants ORDER BY name").load(connection).await?)
}

/// What is to change of a tenant; `None` leaves it as it is, `Some(None)` removes a limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    pub weight: Option<i32>,
    pub max_concurrent: Option<Option<i32>>,
    pub max_queued: Option<Option<i64>>,
}

const SET: &str = "
INSERT INTO tenants (name, weight, max_concurrent, max_queued) VALUES ({}, COALESCE({}::int, 1), {}, {})
ON CONFLICT (name) DO UPDATE SET
    weight = COALESCE({}::int, tenants.weight),
    max_concurrent = CASE WHEN {} THEN EXCLUDED.max_concurrent ELSE tenants.max_concurrent END,
    max_queued = CASE WHEN {} THEN EXCLUDED.max_queued ELSE tenants.max_queued END
RETURNING name, weight, max_concurrent, max_queued";

/// Makes the tenant if there is none of that name, and changes what is given.
pub async fn set(connection: &mut Connection, name: &str, change: Change) -> StoreResult<Tenant> {
    Ok(statement(SET)
        .bind::<Text, _>(name.to_owned())
        .bind::<Nullable<Integer>, _>(change.weight)
        .bind::<Nullable<Integer>, _>(change.max_concurrent.flatten())
        .bind::<Nullable<BigInt>, _>(change.max_queued.flatten())
        .bind::<Nullable<Integer>, _>(change.weight)
        .bind::<Bool, _>(change.max_concurrent.is_some())
        .bind::<Bool, _>(change.max_queued.is_some())
        .get_result(connection)
        .await?)
}
