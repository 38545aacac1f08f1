//! The installation: one database, one id, which what it launches in a cluster carries.

use super::statement::statement;
use super::{Connection, StoreResult};
use diesel::QueryableByName;
use diesel::sql_types::Uuid as SqlUuid;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

pub async fn id(connection: &mut Connection) -> StoreResult<Uuid> {
    Ok(statement("SELECT id FROM installation").get_result::<Row>(connection).await?.id)
}
