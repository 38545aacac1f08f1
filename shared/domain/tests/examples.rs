//! The examples that ship with the project, and those in its reference, are workflows that the API would accept.

use roadstead_domain::json::MAX_DEPTH;
use roadstead_domain::workflow::from_text;
use roadstead_domain::workflow::validate::{MAX_DEFINITION_BYTES, MAX_RETRIES, MAX_STEPS, MAX_TIMEOUT_SECONDS};
use std::path::{Path, PathBuf};

fn yaml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
}

#[test]
fn every_example_is_a_valid_workflow() {
    let mut files = Vec::new();
    yaml_files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples")), &mut files);
    assert!(files.len() >= 5, "the examples have moved: {files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        if let Err(mistakes) = from_text(&text) {
            panic!("{}: {mistakes:#?}", file.display());
        }
    }
}

#[test]
fn the_word_count_ships_an_input_that_goes_to_the_object_store() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/word-count/input.json");
    let bytes = std::fs::read(file).unwrap();
    roadstead_domain::json::scan(&bytes).unwrap();
    let input: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let lengths: Vec<usize> =
        input["books"].as_array().unwrap().iter().map(|book| book["text"].as_str().unwrap().len()).collect();
    assert!(lengths.iter().all(|&bytes| bytes > 64 * 1024), "{lengths:?}");
}

#[test]
fn the_reference_shows_valid_workflows_and_the_limits_of_the_code() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/workflows.md");
    let text = std::fs::read_to_string(page).unwrap();
    let shown: Vec<&str> = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!shown.is_empty());
    for workflow in shown {
        assert!(from_text(workflow).is_ok(), "{workflow}\n{:#?}", from_text(workflow));
    }

    let steps = format!("1 to {},{:03} steps", MAX_STEPS / 1_000, MAX_STEPS % 1_000);
    let size = format!("at most {} MiB", MAX_DEFINITION_BYTES / 1024 / 1024);
    let timeout = format!("1 to {MAX_TIMEOUT_SECONDS}");
    let retries = format!("0 to {MAX_RETRIES}");
    let depth = format!("nested {MAX_DEPTH} levels");
    for limit in [steps, size, timeout, retries, depth] {
        assert!(text.contains(&limit), "{page} does not say `{limit}`");
    }
}
