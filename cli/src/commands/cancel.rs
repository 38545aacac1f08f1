//! `roadstead cancel`: asks for an execution's end. Asking again gives the same answer.

use super::{Session, execution_id, get};
use crate::client::Call;
use crate::failure::Failure;

pub async fn run(id: &str, session: &Session) -> Result<(), Failure> {
    let id = execution_id(id)?;
    let answer = session.client()?.document(Call::post(&["executions", &id, "cancel"])).await?;
    get::show(session.output, &answer)
}
