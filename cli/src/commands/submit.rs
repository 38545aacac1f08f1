//! `roadstead submit`: an execution of a stored workflow, or of a definition in a file.

use super::{Session, get, watch, workflow, workflow_reference};
use crate::args::{Format, SubmitArgs};
use crate::client::{Call, IDEMPOTENCY_KEY};
use crate::failure::Failure;
use crate::input::{Input, Submission};
use crate::model::{self, Execution};
use crate::terminal::say;
use serde_json::{Map, Value, json};
use std::path::Path;

pub async fn run(args: SubmitArgs, session: &Session) -> Result<(), Failure> {
    let client = session.client()?;
    let fields = fields(&args)?;
    let input = match (&args.input, &args.input_text) {
        (Some(input), _) => Some(Input::json(input)?),
        (None, Some(text)) => Some(Input::text(text)?),
        (None, None) => None,
    };
    let submission = Submission::new(&fields, input)?;
    // With a key of its own a submission whose answer was lost can be sent again without making a second execution.
    let key = args.idempotency_key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let call = Call::post(&["executions"]).json(&submission).header(IDEMPOTENCY_KEY, key);
    let answer = client.document(call).await?;
    let execution: Execution = model::read(&answer)?;
    if args.watch {
        say(&format!("submitted {}", execution.id));
        return watch::until_end(&client, &execution.id, session).await?.tell(session, true);
    }
    if session.output.format == Format::Table {
        session.output.line(&execution.id)?;
        say(&format!("submitted; `roadstead watch {}` shows its progress", execution.id));
        return Ok(());
    }
    get::show(session.output, &answer)
}

/// Everything of the request but the input.
fn fields(args: &SubmitArgs) -> Result<Map<String, Value>, Failure> {
    let mut fields = Map::new();
    if is_file(&args.workflow) {
        let definition = workflow::read_definition(Path::new(&args.workflow))?;
        fields.insert("spec".to_owned(), json!(definition));
    } else {
        workflow_reference(&args.workflow)?;
        fields.insert("workflow".to_owned(), json!(args.workflow));
    }
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    set("priority", args.priority.map(|priority| json!(priority)));
    set("run_at", args.run_at.as_ref().map(|time| json!(time)));
    set("timeout_seconds", args.timeout_seconds.map(|n| json!(n)));
    set("queue_timeout_seconds", args.queue_timeout_seconds.map(|n| json!(n)));
    set("max_retries", args.max_retries.map(|n| json!(n)));
    let labels: Map<String, Value> = args.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    set("labels", (!labels.is_empty()).then_some(Value::Object(labels)));
    Ok(fields)
}

/// What can be a workflow's name is one: a file that happens to have it must not change what a script submits.
fn is_file(argument: &str) -> bool {
    argument.contains(['/', '.']) || (workflow_reference(argument).is_err() && Path::new(argument).exists())
}
