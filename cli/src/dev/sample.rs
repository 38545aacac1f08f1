//! The sample that a newcomer sees: the word count of `examples/`, which is part of this program, run to its result.

use super::stack::Addresses;
use crate::args::Format;
use crate::client::{Call, Client};
use crate::commands::logs::Printer;
use crate::commands::{artifacts, result, watch, workflow};
use crate::failure::Failure;
use crate::follow::{Selection, follow};
use crate::input::{Input, Submission};
use crate::model::{self, Execution};
use crate::output::Output;
use bytes::Bytes;
use roadstead_domain::workflow::from_text;

const NAME: &str = "word-count";
const DEFINITION: &str = include_str!("../../../examples/word-count/workflow.yaml");
const INPUT: &[u8] = include_bytes!("../../../examples/word-count/input.json");

/// Stores the workflow, submits it, follows its log, shows its result and artifacts; answers with the execution's id.
pub async fn run(addresses: &Addresses, output: Output) -> Result<String, Failure> {
    let output = Output { format: Format::Table, ..output };
    let heading = |text: &str| output.line(&format!("\n{}", output.palette.bold(text)));
    let client = Client::new(&addresses.api_url, Some(&addresses.api_key))?;
    let id = submit(&client).await?;
    heading(&format!("The sample `{NAME}` runs as {id}"))?;
    let printer = Printer { output, with_step: true };
    follow(&client, &id, &Selection::default(), |line| printer.print(line)).await?;
    let outcome = watch::wait_for_end(&client, &id).await?;
    outcome.verdict()?;
    heading("Its result")?;
    result::print(&client, &id, output).await?;
    heading("Its artifacts")?;
    artifacts::list(&client, &id, output).await?;
    Ok(id)
}

async fn submit(client: &Client) -> Result<String, Failure> {
    let definition = from_text(DEFINITION)
        .map_err(|errors| Failure::Definition { file: format!("examples/{NAME}/workflow.yaml"), errors })?;
    workflow::put(client, NAME, &definition).await?;
    let fields = [("workflow".to_owned(), NAME.into())].into_iter().collect();
    let submission = Submission::new(&fields, Some(Input::Inline(Bytes::from_static(INPUT))))?;
    let answer = client.document(Call::post(&["executions"]).json(&submission).once()).await?;
    Ok(model::read::<Execution>(&answer)?.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_that_ships_is_valid() {
        from_text(DEFINITION).unwrap();
        serde_json::from_slice::<serde::de::IgnoredAny>(INPUT).unwrap();
    }
}
