//! `roadstead retry`: submits an ended execution again, as a new one.

use super::{Session, execution_id, get};
use crate::client::{Call, IDEMPOTENCY_KEY};
use crate::failure::Failure;

pub async fn run(id: &str, session: &Session) -> Result<(), Failure> {
    let id = execution_id(id)?;
    // Under one key, a request whose answer was lost can be sent again without making another execution.
    let key = uuid::Uuid::new_v4().to_string();
    let call = Call::post(&["executions", &id, "retry"]).header(IDEMPOTENCY_KEY, key);
    let answer = session.client()?.document(call).await?;
    get::show(session.output, &answer)
}
