//! `roadstead list`: executions, newest first, as many pages as were asked for.

use super::Session;
use crate::args::ListArgs;
use crate::client::{Call, Client};
use crate::clock;
use crate::failure::Failure;
use crate::model::{self, Execution, Page};
use crate::table::{Kind, table};
use crate::terminal::Palette;
use serde_json::value::RawValue;

const PAGE_SIZE: u32 = 100;
/// `--all` ends here: a list that long is not read, and must not grow without bound.
const MAX_ITEMS: u32 = 1_000_000;

pub async fn run(args: &ListArgs, session: &Session) -> Result<(), Failure> {
    let client = session.client()?;
    let limit = if args.all { MAX_ITEMS } else { args.limit };
    let (items, next_cursor) = collect(&client, args, limit).await?;
    let mut executions = Vec::with_capacity(items.len());
    for item in &items {
        executions.push(model::read::<Execution>(item.get().as_bytes())?);
    }
    let answer = join(&items, next_cursor.as_deref()).map_err(|e| Failure::local("can't write the list", e))?;
    session.output.document(&answer, |palette| rows(&executions, palette))
}

async fn collect(
    client: &Client,
    args: &ListArgs,
    limit: u32,
) -> Result<(Vec<Box<RawValue>>, Option<String>), Failure> {
    let mut items: Vec<Box<RawValue>> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let wanted = (limit - items.len() as u32).min(PAGE_SIZE);
        let mut call = Call::get(&["executions"])
            .query("state", args.state)
            .query("workflow", args.workflow.as_deref())
            .query("cursor", cursor.as_deref())
            .query("limit", Some(wanted));
        for (key, value) in &args.labels {
            call = call.query("label", Some(format!("{key}:{value}")));
        }
        let page: Page = model::read(&client.document(call).await?)?;
        let is_empty = page.items.is_empty();
        items.extend(page.items.into_iter().take(wanted as usize));
        cursor = page.next_cursor;
        if is_empty || cursor.is_none() || items.len() >= limit as usize {
            return Ok((items, cursor));
        }
    }
}

/// One page of all items, which keep their bytes.
fn join(items: &[Box<RawValue>], next_cursor: Option<&str>) -> serde_json::Result<Vec<u8>> {
    #[derive(serde::Serialize)]
    struct Joined<'a> {
        items: &'a [Box<RawValue>],
        next_cursor: Option<&'a str>,
    }
    serde_json::to_vec(&Joined { items, next_cursor })
}

fn rows(executions: &[Execution], palette: Palette) -> String {
    let columns = [
        ("ID", Kind::Text),
        ("WORKFLOW", Kind::Text),
        ("STATE", Kind::State),
        ("ATTEMPT", Kind::Text),
        ("AGE", Kind::Text),
        ("RAN", Kind::Text),
        ("NOTE", Kind::Text),
    ];
    let rows: Vec<Vec<String>> = executions
        .iter()
        .map(|execution| {
            let ran = match (&execution.started_at, &execution.finished_at) {
                (Some(started), Some(finished)) => clock::between(started, finished),
                (Some(started), None) => clock::age(started),
                (None, _) => String::new(),
            };
            let reason = execution.reason.as_ref().map(|reason| reason.code.clone());
            vec![
                execution.id.clone(),
                execution.workflow_shown(),
                execution.state.clone(),
                format!("{}/{}", execution.attempt, execution.max_attempts),
                execution.created_at.as_deref().map(clock::age).unwrap_or_default(),
                ran,
                reason.unwrap_or_else(|| execution.waiting_shown()),
            ]
        })
        .collect();
    table(&columns, &rows, palette)
}
