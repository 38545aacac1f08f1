//! Tenants and what they may use.

use super::statement::statement;
use super::{Connection, StoreResult};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
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

const SET: &str = "
INSERT INTO tenants (name, weight, max_concurrent, max_queued) VALUES ({}, COALESCE({}::int, 1), {}, {})
ON CONFLICT (name) DO UPDATE SET
    weight = COALESCE({}::int, tenants.weight),
    max_concurrent = COALESCE(EXCLUDED.max_concurrent, tenants.max_concurrent),
    max_queued = COALESCE(EXCLUDED.max_queued, tenants.max_queued)
RETURNING name, weight, max_concurrent, max_queued";

/// Makes the tenant if there is none of that name, and changes what is given.
pub async fn set(
    connection: &mut Connection,
    name: &str,
    weight: Option<i32>,
    max_concurrent: Option<i32>,
    max_queued: Option<i64>,
) -> StoreResult<Tenant> {
    Ok(statement(SET)
        .bind::<Text, _>(name.to_owned())
        .bind::<Nullable<Integer>, _>(weight)
        .bind::<Nullable<Integer>, _>(max_concurrent)
        .bind::<Nullable<BigInt>, _>(max_queued)
        .bind::<Nullable<Integer>, _>(weight)
        .get_result(connection)
        .await?)
}
