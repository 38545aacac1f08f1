//! The operator's commands. They speak with the database, never with a running API.

pub mod healthcheck;
pub mod keys;
mod table;
pub mod tenants;

use anyhow::Context;
use roadstead_backend::config::AdminConfig;
use roadstead_backend::store::{Database, StoreError};
use roadstead_domain::ids::is_name;
use std::io::{self, Write};

fn tenant_name(text: &str) -> Result<String, String> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err("a tenant's name is 1 to 63 of a-z 0-9 -, with a letter or digit at both ends".to_owned())
}

fn database(config: &AdminConfig) -> Database {
    Database::new(&config.database).impatient()
}

/// To whoever reads it to the end.
fn print(mut out: impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Who has seen enough may close the pipe.
fn show(out: impl Write, text: &str) -> io::Result<()> {
    match print(out, text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        shown => shown,
    }
}

/// What to do about a statement that failed.
fn explained<T>(result: Result<T, StoreError>) -> anyhow::Result<T> {
    let unmigrated = matches!(&result, Err(StoreError::Refused(why)) if why.contains("does not exist"));
    let result = result.map_err(anyhow::Error::from);
    if unmigrated { result.context("the schema is missing; run `roadstead-api migrate` first") } else { result }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_list_may_be_left_unread_and_a_key_may_not() {
        assert!(show(Broken(io::ErrorKind::BrokenPipe), "a list\n").is_ok());
        assert!(show(Broken(io::ErrorKind::StorageFull), "a list\n").is_err());
        assert!(print(Broken(io::ErrorKind::BrokenPipe), "a key\n").is_err());
    }
}
