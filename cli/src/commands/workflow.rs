//! `roadstead workflow`: definitions stored by name. A file is checked here first, so that its mistakes are told at once.

use super::{Session, workflow_reference};
use crate::args::WorkflowCommand;
use crate::client::{Call, Client};
use crate::clock;
use crate::failure::Failure;
use crate::model::{self, Page, WorkflowEntry};
use crate::output::Output;
use crate::table::{Kind, facts, table};
use bytes::Bytes;
use roadstead_domain::ids::is_name;
use roadstead_domain::workflow::{Workflow, from_text};
use serde_yaml_ng::Value;
use std::path::Path;

const PAGE_SIZE: u32 = 100;
const MAX_PAGES: u32 = 1_000;

pub async fn run(command: WorkflowCommand, session: &Session) -> Result<(), Failure> {
    match command {
        WorkflowCommand::Apply { file, name } => apply(&file, name, session).await,
        WorkflowCommand::List => list(session).await,
        WorkflowCommand::Get { name } => get(&name, session).await,
    }
}

/// Reads and checks a definition.
pub fn read_definition(file: &Path) -> Result<Workflow, Failure> {
    let shown = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|e| Failure::Usage(format!("can't read {shown}: {e}")))?;
    from_text(&text).map_err(|errors| Failure::Definition { file: shown, errors })
}

async fn apply(file: &Path, name: Option<String>, session: &Session) -> Result<(), Failure> {
    let definition = read_definition(file)?;
    let name = match name {
        Some(name) => name,
        None => name_of(file)?,
    };
    if !is_name(&name) {
        return Err(Failure::Usage(format!(
            "`{name}` is not a workflow's name (a-z, 0-9 and `-`, at most 63): give one by --name"
        )));
    }
    let answer = put(&session.client()?, &name, &definition).await?;
    show_entry(session.output, &answer)
}

/// Stores a definition. The same definition again makes no new version, so that this may be repeated.
pub async fn put(client: &Client, name: &str, definition: &Workflow) -> Result<Vec<u8>, Failure> {
    let body = serde_json::to_vec(definition).map_err(|e| Failure::local("can't write the definition", e))?;
    let body = Bytes::from(body);
    client.document(Call::put(&["workflows", name]).json(&body)).await
}

/// A definition's name after its file: its stem, or its folder's name when it is called `workflow`.
fn name_of(file: &Path) -> Result<String, Failure> {
    let absolute = std::path::absolute(file).map_err(|e| Failure::local(file.display(), e))?;
    let stem = absolute.file_stem();
    let named =
        if stem.is_some_and(|stem| stem == "workflow") { absolute.parent().and_then(Path::file_name) } else { stem };
    Ok(named.map_or_else(String::new, |name| name.to_string_lossy().into_owned()))
}

async fn list(session: &Session) -> Result<(), Failure> {
    let client = session.client()?;
    let mut items = Vec::new();
    let mut cursor: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let call = Call::get(&["workflows"]).query("cursor", cursor.as_deref()).query("limit", Some(PAGE_SIZE));
        let page: Page = model::read(&client.document(call).await?)?;
        items.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let mut rows = Vec::with_capacity(items.len());
    for item in &items {
        let entry: WorkflowEntry = model::read(item.get().as_bytes())?;
        let created = entry.created_at.as_deref().map(clock::age).unwrap_or_default();
        rows.push(vec![entry.name, entry.version.map_or_else(String::new, |version| version.to_string()), created]);
    }
    let answer = serde_json::to_vec(&serde_json::json!({ "items": items, "next_cursor": cursor }))
        .map_err(|e| Failure::local("can't write the list", e))?;
    let columns = [("NAME", Kind::Text), ("VERSION", Kind::Text), ("AGE", Kind::Text)];
    session.output.document(&answer, |palette| table(&columns, &rows, palette))
}

async fn get(reference: &str, session: &Session) -> Result<(), Failure> {
    let (name, version) = workflow_reference(reference)?;
    let version = version.map(|version| version.to_string());
    let path = match &version {
        Some(version) => vec!["workflows", name, "versions", version.as_str()],
        None => vec!["workflows", name],
    };
    let answer = session.client()?.document(Call::get(&path)).await?;
    show_entry(session.output, &answer)
}

/// For people: the name and version, and the definition as YAML, ready to be edited and applied.
fn show_entry(output: Output, answer: &[u8]) -> Result<(), Failure> {
    let value: Value = model::read(answer)?;
    let entry: WorkflowEntry = model::read(answer)?;
    let definition = value.get("definition").and_then(|definition| serde_yaml_ng::to_string(definition).ok());
    let definition = definition.unwrap_or_default();
    output.document(answer, |palette| {
        let version = entry.version.map_or_else(String::new, |version| version.to_string());
        let head = facts(
            &[("name", entry.name), ("version", version), ("created", entry.created_at.unwrap_or_default())],
            palette,
        );
        format!("{head}\n{}", crate::terminal::harmless_lines(definition.trim_end())).trim_end().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_named_after_its_file_or_folder() {
        assert_eq!(name_of(Path::new("/x/word-count.yaml")).unwrap(), "word-count");
        assert_eq!(name_of(Path::new("/x/word-count/workflow.yaml")).unwrap(), "word-count");
    }

    #[test]
    fn mistakes_in_a_file_are_told_with_their_place() {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        std::fs::write(file.path(), "steps:\n  - {id: a, command: []}\n").unwrap();
        let failure = read_definition(file.path()).unwrap_err();
        assert_eq!(failure.exit_status(), 2);
        assert!(failure.to_string().contains("\n  /steps/0/command: "), "{failure}");
        assert_eq!(read_definition(Path::new("/nonexistent.yaml")).unwrap_err().exit_status(), 2);
    }
}
