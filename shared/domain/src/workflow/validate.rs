//! From a document to a checked [`Workflow`]: every mistake at once, each with its pointer.

use super::dag::Dag;
use super::quantity::Quantity;
use super::spec::{Resources, Step, Workflow};
use crate::decode::{Errors, FieldError, Fields, kind, pointer};
use crate::document;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

pub const MAX_STEPS: usize = 1_000;
/// A definition's size as canonical JSON.
pub const MAX_DEFINITION_BYTES: usize = 1024 * 1024;
const MAX_ARGUMENTS: usize = 1_000;
/// Linux gives a program no argument and no variable (`NAME=value`) that is longer (execve(2), `MAX_ARG_STRLEN` without the final NUL).
const MAX_STRING_BYTES: usize = 128 * 1024 - 1;
const MAX_ENV: usize = 200;
const MAX_FILES: usize = 200;
/// A week.
pub const MAX_TIMEOUT_SECONDS: i64 = 7 * 24 * 3600;
pub const MAX_RETRIES: i64 = 100;
/// Variables of the platform's own that a step may not set.
const RESERVED_ENV_PREFIX: &str = "ROADSTEAD_";

/// Decodes a definition from YAML or JSON text. JSON is tried first where it may be, so that its messages are JSON's.
pub fn from_text(text: &str) -> Result<Workflow, Vec<FieldError>> {
    if text.len() > 2 * MAX_DEFINITION_BYTES {
        return Err(unreadable(format!("is longer than {MAX_DEFINITION_BYTES} bytes")));
    }
    let mut errors = Errors::default();
    let json = text.trim_start().starts_with('{').then(|| document::from_json(text, "", &mut errors));
    if let Some(Ok(value)) = json {
        return decode(value, errors);
    }
    errors = Errors::default();
    match (document::from_yaml(text, "", &mut errors), json) {
        (Ok(value), _) => decode(value, errors),
        (Err(_), Some(Err(error))) => Err(unreadable(format!("is not valid JSON: {error}"))),
        (Err(error), _) => Err(unreadable(format!("is not valid YAML: {error}"))),
    }
}

fn unreadable(detail: String) -> Vec<FieldError> {
    vec![FieldError { pointer: String::new(), detail }]
}

/// Decodes a definition that was read by [`document`], with the mistakes that were found there.
pub fn decode(value: Value, mut errors: Errors) -> Result<Workflow, Vec<FieldError>> {
    let workflow = workflow(value, "", &mut errors);
    match workflow {
        Some(workflow) => errors.into_result(workflow),
        None => errors.into_result(()).and(Err(Vec::new())),
    }
}

fn workflow(value: Value, at: &str, errors: &mut Errors) -> Option<Workflow> {
    let mut fields = Fields::of(value, at, errors)?;
    let image = fields.string("image");
    if image.as_deref().is_some_and(|image| !is_image(image)) {
        fields.error("image", "is not an image reference");
    }
    let steps = fields.take("steps");
    let timeout_seconds = fields.integer("timeout_seconds", 1..=MAX_TIMEOUT_SECONDS).map(|n| n as u32);
    let max_retries = fields.integer("max_retries", 0..=MAX_RETRIES).map(|n| n as u32);
    let resources = match fields.take("resources") {
        Some(value) => {
            let (at, errors) = fields.nested("resources");
            resources(value, &at, errors)
        }
        None => Resources::default(),
    };
    let (steps_at, nested) = fields.nested("steps");
    let steps = if let Some(value) = steps {
        decode_steps(value, &steps_at, nested)
    } else {
        nested.push(&steps_at, "is missing: a workflow has at least one step");
        Vec::new()
    };
    fields.finish();
    let workflow = Workflow { image, steps, timeout_seconds, max_retries, resources };
    let size = serde_json::to_vec(&workflow).map_or(0, |bytes| bytes.len());
    if size > MAX_DEFINITION_BYTES {
        errors.push(at, format!("is {size} bytes; at most {MAX_DEFINITION_BYTES} are accepted"));
    }
    Some(workflow)
}

fn decode_steps(value: Value, at: &str, errors: &mut Errors) -> Vec<Step> {
    let items = match value {
        Value::Array(items) => items,
        other => {
            errors.push(at, format!("must be an array, not {}", kind(&other)));
            return Vec::new();
        }
    };
    if items.is_empty() || items.len() > MAX_STEPS {
        errors.push(at, format!("has {} steps; 1 to {MAX_STEPS} are accepted", items.len()));
        return Vec::new();
    }
    let count = items.len();
    let steps: Vec<Step> = items
        .into_iter()
        .enumerate()
        .filter_map(|(index, item)| step(item, &pointer(at, &index.to_string()), errors))
        .collect();
    if steps.len() == count {
        check_graph(&steps, at, errors);
    }
    steps
}

fn check_graph(steps: &[Step], at: &str, errors: &mut Errors) {
    let place = |index: usize, field: &str| pointer(&pointer(at, &index.to_string()), field);
    let mut first = HashMap::new();
    let mut unique = true;
    for (index, step) in steps.iter().enumerate() {
        if let Some(earlier) = first.insert(step.id.as_str(), index) {
            errors.push(place(index, "id"), format!("`{}` is the id of step {earlier} already", step.id));
            unique = false;
        }
    }
    if !unique {
        return;
    }
    match Dag::of(steps) {
        Err(unknown) => {
            for miss in unknown {
                let need = &steps[miss.step].needs[miss.need];
                errors.push(
                    pointer(&place(miss.step, "needs"), &miss.need.to_string()),
                    format!("no step has the id `{need}`"),
                );
            }
        }
        Ok(dag) => {
            let cycle = dag.cycle();
            if let Some(&index) = cycle.first() {
                let ids: Vec<&str> = cycle.iter().take(10).map(|&i| steps[i].id.as_str()).collect();
                errors.push(place(index, "needs"), format!("forms a cycle among: {}", ids.join(", ")));
            }
        }
    }
}

fn step(value: Value, at: &str, errors: &mut Errors) -> Option<Step> {
    let mut fields = Fields::of(value, at, errors)?;
    let id = fields.string("id");
    match &id {
        None => fields.error("id", "is missing or not a string"),
        Some(id) if !is_step_id(id) => {
            fields.error("id", "must be 1 to 63 of the characters a-z A-Z 0-9 _ - and begin with a letter or digit");
        }
        Some(_) => {}
    }
    let command = fields.strings("command", MAX_ARGUMENTS).unwrap_or_default();
    if command.first().is_none_or(String::is_empty) {
        fields.error("command", "must be a non-empty array of strings: the program and its arguments");
    }
    for (index, argument) in command.iter().enumerate().filter(|(_, argument)| argument.len() > MAX_STRING_BYTES) {
        let (at, errors) = fields.nested("command");
        errors.push(pointer(&at, &index.to_string()), too_long(argument.len()));
    }
    let needs = fields.strings("needs", MAX_STEPS).unwrap_or_default();
    let env = fields.string_map("env", MAX_ENV).unwrap_or_default();
    check_env(&env, &mut fields);
    let timeout_seconds = fields.integer("timeout_seconds", 1..=MAX_TIMEOUT_SECONDS).map(|n| n as u32);
    let retries = fields.integer("retries", 0..=MAX_RETRIES).unwrap_or(0) as u32;
    let files = fields.string_map("files", MAX_FILES).unwrap_or_default();
    let bad_paths: Vec<String> = files.keys().filter(|path| !is_relative_path(path)).cloned().collect();
    for path in bad_paths {
        let (at, errors) = fields.nested("files");
        errors.push(pointer(&at, &path), "must be a relative path without `..`, empty parts or control characters");
    }
    // Of a path that is refused already, and may be as long as the whole definition, nothing more is asked.
    for path in files.keys().filter(|path| is_relative_path(path)) {
        let folder = path.match_indices('/').map(|(end, _)| &path[..end]).find(|folder| files.contains_key(*folder));
        if let Some(folder) = folder {
            let (at, errors) = fields.nested("files");
            errors.push(pointer(&at, path), format!("is below `{folder}`, which is a file itself"));
        }
    }
    fields.finish();
    Some(Step { id: id?, command, needs, env, timeout_seconds, retries, files })
}

fn check_env(env: &BTreeMap<String, String>, fields: &mut Fields<'_>) {
    for (name, value) in env {
        let (at, errors) = fields.nested("env");
        let mut chars = name.bytes();
        let named = chars.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && chars.all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !named {
            errors.push(pointer(&at, name), "must be named by letters, digits and `_`, not beginning with a digit");
        } else if name.starts_with(RESERVED_ENV_PREFIX) {
            errors.push(pointer(&at, name), format!("names beginning with {RESERVED_ENV_PREFIX} are reserved"));
        } else if name.len() + 1 + value.len() > MAX_STRING_BYTES {
            errors.push(pointer(&at, name), too_long(name.len() + 1 + value.len()));
        }
    }
}

fn too_long(bytes: usize) -> String {
    format!(
        "is {bytes} bytes long, and a program is given at most {MAX_STRING_BYTES}; a file of the step's may be longer"
    )
}

fn resources(value: Value, at: &str, errors: &mut Errors) -> Resources {
    let Some(mut fields) = Fields::of(value, at, errors) else { return Resources::default() };
    let mut quantity = |name: &'static str| {
        // `cpu: 2` is a number in YAML, and a quantity all the same.
        let text = match fields.take(name)? {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            other => {
                fields.error(name, format!("must be a Kubernetes quantity, not {}", kind(&other)));
                return None;
            }
        };
        match text.parse::<Quantity>() {
            Err(_) => fields.error(name, "must be a Kubernetes quantity, as in `500m`, `2`, `256Mi`"),
            // A kubelet takes a limit of zero for none.
            Ok(quantity) if quantity.is_zero() => fields.error(name, "must be more than 0"),
            Ok(_) => {}
        }
        Some(text)
    };
    let (cpu, memory, ephemeral_storage) = (quantity("cpu"), quantity("memory"), quantity("ephemeral_storage"));
    fields.finish();
    Resources { cpu, memory, ephemeral_storage }
}

fn is_step_id(id: &str) -> bool {
    (1..=63).contains(&id.len())
        && id.as_bytes()[0].is_ascii_alphanumeric()
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The characters of an OCI reference; whether the image exists is for the registry to say.
fn is_image(image: &str) -> bool {
    (1..=512).contains(&image.len())
        && image.as_bytes()[0].is_ascii_alphanumeric()
        && image.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b))
}

/// A path that stays inside the folder it is joined to.
pub fn is_relative_path(path: &str) -> bool {
    (1..=255).contains(&path.len())
        // The last two can't be said in XML, in which an object store is asked to delete.
        && !path.chars().any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pointers(value: Value) -> Vec<String> {
        decode(value, Errors::default()).unwrap_err().into_iter().map(|e| e.pointer).collect()
    }

    #[test]
    fn what_no_process_could_be_given_is_refused() {
        let long = "x".repeat(MAX_STRING_BYTES);
        let longer = format!("{long}x");
        let step = |command: &str, value: &str| json!({"steps": [{"id": "a", "command": ["sh", command], "env": {"A": value}}]});
        assert!(decode(step(&long, &long[2..]), Errors::default()).is_ok());
        assert_eq!(pointers(step(&longer, &long[1..])), ["/steps/0/command/1", "/steps/0/env/A"]);

        let files = json!({"a": "1", "a/b/c": "2", "ab/c": "3", "d/e": "4", "d/e/f": "5"});
        let step = json!({"steps": [{"id": "a", "command": ["true"], "files": files}]});
        assert_eq!(pointers(step), ["/steps/0/files/a~1b~1c", "/steps/0/files/d~1e~1f"]);
        // Each prefix of which would be looked for.
        let endless = json!({ "a/".repeat(MAX_DEFINITION_BYTES / 4): "1" });
        assert_eq!(pointers(json!({"steps": [{"id": "a", "command": ["true"], "files": endless}]})).len(), 1);
    }

    #[test]
    fn a_mistake_is_told_once() {
        for (step, place) in [
            (json!({"id": 5, "command": ["x"]}), "/steps/0/id"),
            (json!({"id": "a", "command": "x"}), "/steps/0/command"),
            (json!({"id": "a", "command": vec!["x"; MAX_ARGUMENTS + 1]}), "/steps/0/command"),
        ] {
            assert_eq!(pointers(json!({ "steps": [step] })), [place]);
        }
    }

    #[test]
    fn yaml_and_json_of_one_definition_are_equal() {
        let yaml = "steps:\n  - id: a\n    command: [echo, hi]\n    env: {MODE: fast}\nresources: {cpu: \"500m\"}\n";
        let json = r#"{"steps":[{"id":"a","command":["echo","hi"],"env":{"MODE":"fast"}}],"resources":{"cpu":"500m"}}"#;
        assert_eq!(from_text(yaml).unwrap(), from_text(json).unwrap());
        let flow = "{steps: [{id: a, command: [echo, hi], env: {MODE: fast}}], resources: {cpu: 500m}}";
        assert_eq!(from_text(flow).unwrap(), from_text(json).unwrap(), "YAML, too, may begin with a brace");
        assert!(from_text("{\"steps\": [").unwrap_err()[0].detail.contains("valid JSON"));
    }

    #[test]
    fn a_checked_workflow_survives_its_canonical_form() {
        let workflow = decode(
            json!({"image": "python:3.12", "steps": [{"id": "a", "command": ["x"], "retries": 2, "files": {"d/a.sh": "…"}}]}),
            Errors::default(),
        )
        .unwrap();
        let text = serde_json::to_string(&workflow).unwrap();
        assert_eq!(serde_json::from_str::<Workflow>(&text).unwrap(), workflow);
        assert_eq!(from_text(&text).unwrap(), workflow);
    }

    #[test]
    fn mistakes_are_found_together_and_placed() {
        let found = pointers(json!({
            "steps": [
                {"id": "a", "command": [], "needz": []},
                {"id": "b", "command": ["x"], "env": {"ROADSTEAD_X": "1"}, "files": {"../x": ""}, "timeout_seconds": 0},
            ],
            "resources": {"cpu": "lots"},
            "timeout": 3
        }));
        for expected in [
            "/steps/0/command",
            "/steps/0/needz",
            "/steps/1/env/ROADSTEAD_X",
            "/steps/1/files/..~1x",
            "/steps/1/timeout_seconds",
            "/resources/cpu",
            "/timeout",
        ] {
            assert!(found.iter().any(|p| p == expected), "{expected} in {found:?}");
        }
    }

    #[test]
    fn graphs_that_can_not_run_are_refused_with_a_pointer() {
        let step = |id: &str, needs: &[&str]| json!({"id": id, "command": ["true"], "needs": needs});
        assert_eq!(pointers(json!({"steps": [step("a", &["b"]), step("b", &["a"])]})), ["/steps/0/needs"]);
        assert_eq!(pointers(json!({"steps": [step("a", &["z"])]})), ["/steps/0/needs/0"]);
        assert_eq!(pointers(json!({"steps": [step("a", &[]), step("a", &[])]})), ["/steps/1/id"]);
        let many: Vec<_> = (0..5_000).map(|i| step(&format!("s{i}"), &[])).collect();
        assert_eq!(pointers(json!({ "steps": many })), ["/steps"]);
        assert_eq!(pointers(json!({"steps": []})), ["/steps"]);
        assert_eq!(pointers(json!({})), ["/steps"]);
        assert_eq!(pointers(json!([])), [""]);
    }

    #[test]
    fn quantities_have_kubernetes_form() {
        for good in ["1", "500m", "0.5", "256Mi", "1Gi", "2k"] {
            assert!(good.parse::<Quantity>().is_ok(), "{good}");
        }
        for bad in ["", "m", "-1", "1.", ".5", "1 Gi", "1gi", "1e3"] {
            assert!(bad.parse::<Quantity>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_limit_of_zero_which_is_none_is_refused() {
        let mistakes = |resources: Value| {
            let steps = json!([{"id": "a", "command": ["true"]}]);
            decode(json!({"steps": steps, "resources": resources}), Errors::default()).err().unwrap_or_default()
        };
        let found = mistakes(json!({"cpu": 0, "memory": "0Mi", "ephemeral_storage": "0.000"}));
        let expected = ["cpu", "memory", "ephemeral_storage"]
            .map(|name| FieldError { pointer: format!("/resources/{name}"), detail: "must be more than 0".to_owned() });
        assert_eq!(found, expected);
        assert!(mistakes(json!({"cpu": "0.0001", "memory": "1"})).is_empty(), "Kubernetes rounds up, too");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_decoder_panic(text in "\\PC{0,200}") {
            let _ = from_text(&text);
        }
    }
}
