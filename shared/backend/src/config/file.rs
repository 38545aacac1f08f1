//! The file that `ROADSTEAD_CONFIG` names: variables by their names in lower case, in TOML, JSON or YAML by the end of its name.
//!
//! Invariant: nothing that stands in it is shown when it can't be read: it may be a secret.

use config::{Config, ConfigError, File, FileFormat, Value, ValueKind};
use std::collections::BTreeMap;
use std::path::Path;

/// By names in capitals; `None`: not a plain value.
pub fn read(path: &Path) -> Result<BTreeMap<String, Option<String>>, String> {
    let format = match path.extension().and_then(|e| e.to_str()) {
        Some("toml") => FileFormat::Toml,
        Some("json") => FileFormat::Json,
        _ => FileFormat::Yaml,
    };
    let table = Config::builder()
        .add_source(File::from(path.to_path_buf()).format(format))
        .build()
        .and_then(Config::try_deserialize::<BTreeMap<String, Value>>)
        .map_err(|error| without_excerpt(&error))?;
    let plain = |value: Value| match value.kind {
        ValueKind::Nil => Some(String::new()),
        _ => value.into_string().ok(),
    };
    Ok(table.into_iter().map(|(key, value)| (key.to_ascii_uppercase(), plain(value))).collect())
}

/// Where something is wrong, and what.
fn without_excerpt(error: &ConfigError) -> String {
    let cause = match error {
        ConfigError::Foreign(cause) => cause,
        // Within it another one shows what stands where names and values should.
        ConfigError::FileParse { cause, .. } if !cause.is::<Box<ConfigError>>() => cause,
        _ => return "must hold variables with their values".to_owned(),
    };
    // In TOML's own words, lines of the file are behind a rule: `3 | database_url = …`.
    let is_excerpt = |line: &&str| line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit()).starts_with('|');
    let told: Vec<String> = cause.to_string().lines().filter(|line| !is_excerpt(line)).map(str::to_owned).collect();
    told.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(name: &str, text: &str) -> Result<BTreeMap<String, Option<String>>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn every_format_holds_the_same() {
        for (name, text) in [
            ("a.toml", "api_port = 7\nbase_url = \"b\"\nlabels = [1]\napi_url = \"\""),
            ("a.json", r#"{"api_port": 7, "base_url": "b", "labels": [1], "api_url": null}"#),
            ("a.yaml", "api_port: 7\nbase_url: b\nlabels: [1]\napi_url:\n"),
        ] {
            let expected = [("API_PORT", Some("7")), ("BASE_URL", Some("b")), ("LABELS", None), ("API_URL", Some(""))];
            let expected = expected.map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned)));
            assert_eq!(read_as(name, text), Ok(expected.into()), "{name}");
        }
    }

    #[test]
    fn a_mistake_is_told_by_its_place_and_not_by_what_stands_there() {
        for (name, text) in [
            ("a.toml", "api_port = 7\ns3_secret_access_key = hush \"hush\"\n"),
            ("a.toml", "api_port = 7\ns3_secret_access_key = \"hush\n"),
            ("a.json", "{\"api_port\": 7,\n\"s3_secret_access_key\": \"hush\" hush}"),
            ("a.json", "{\"api_port\": 7,\n\"s3_secret_access_key\": hush}"),
            ("a.yaml", "api_port: 7\ns3_secret_access_key: \"hush\" hush\n"),
            ("a.yaml", "api_port: 7\ns3_secret_access_key: [\"hush\"\n"),
        ] {
            let mistake = read_as(name, text).unwrap_err();
            assert!(mistake.contains("line ") && !mistake.contains("hush"), "{name}: {mistake}");
        }
        for (name, text) in [("a.json", "\"hush\""), ("a.yaml", "DATABASE_URL=hush\n"), ("a.yaml", "- hush")] {
            let mistake = read_as(name, text).unwrap_err();
            assert!(!mistake.contains("hush"), "{name}: {mistake}");
        }
        assert!(read(Path::new("/nowhere/a.toml")).unwrap_err().contains("not found"));
    }
}
