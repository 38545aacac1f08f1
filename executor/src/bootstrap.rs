//! The bootstrap document: which attempt this process is, and how it proves it.
//!
//! The only place that reads standard input. The document carries a credential, so nothing of it is ever printed.

use roadstead_domain::attempt::protocol::Bootstrap;
use std::io::Read;
use std::path::Path;

/// An id, a URL, a credential and a path; a longer document is not one.
const MAX_BYTES: u64 = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("standard input can't be read: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error("standard input is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// Without the parser's own words, which may quote the credential.
    #[error("standard input is not a bootstrap document (line {line}, column {column})")]
    NotADocument { line: usize, column: usize },
    #[error(transparent)]
    BadField(#[from] BadField),
}

#[derive(Debug, thiserror::Error)]
#[error("the attempt's {field} {problem}")]
pub struct BadField {
    field: &'static str,
    problem: &'static str,
}

/// Reads standard input to its end.
pub fn read() -> Result<Bootstrap, BootstrapError> {
    decode(std::io::stdin().lock())
}

fn decode(input: impl Read) -> Result<Bootstrap, BootstrapError> {
    let mut text = Vec::with_capacity(1024);
    input.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(BootstrapError::TooLong);
    }
    let bootstrap: Bootstrap = serde_json::from_slice(&text)
        .map_err(|e| BootstrapError::NotADocument { line: e.line(), column: e.column() })?;
    check(&bootstrap)?;
    Ok(bootstrap)
}

/// What its types don't say, wherever it comes from.
pub fn check(bootstrap: &Bootstrap) -> Result<(), BadField> {
    let bad = |field, problem| Err(BadField { field, problem });
    if !bootstrap.api_url.starts_with("http://") && !bootstrap.api_url.starts_with("https://") {
        return bad("API URL", "is neither http nor https");
    }
    if !Path::new(&bootstrap.workspace_root).is_absolute() {
        return bad("workspace root", "is not an absolute path");
    }
    if bootstrap.attempt < 1 {
        return bad("number", "is less than 1");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(api_url: &str, root: &str, attempt: i32) -> String {
        format!(
            r#"{{"execution_id":"01890a5d-ac96-774b-bcce-b302099a8057","attempt":{attempt},"api_url":"{api_url}",
                "credential":"hush","workspace_root":"{root}"}}"#
        )
    }

    #[test]
    fn a_document_is_read_whole() {
        let bootstrap = decode(document("http://127.0.0.1:1", "/tmp", 3).as_bytes()).unwrap();
        assert_eq!((bootstrap.attempt, bootstrap.credential.as_str()), (3, "hush"));
    }

    #[test]
    fn a_refusal_never_quotes_the_credential() {
        for bad in [
            document("ftp://x", "/tmp", 1),
            document("http://x", "tmp", 1),
            document("http://x", "/tmp", 0),
            document("http://x", "/tmp", 1).replace("\"hush\"", "[\"hush\"]"),
            "hush".to_owned(),
            format!("\"{}\"", "hush".repeat(20_000)),
        ] {
            let error = decode(bad.as_bytes()).unwrap_err().to_string();
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
