//! Where the programs under test are: in the target folder that the test itself was built into.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// The folder of `roadstead-api` and its siblings.
pub fn programs_folder() -> Result<PathBuf> {
    let test = std::env::current_exe().context("can't find out where this test is")?;
    let folder = test.parent().context("this test is nowhere")?;
    // cargo puts tests into `deps` and examples into `examples`, below the programs.
    let is_below = folder.file_name().is_some_and(|name| name == "deps" || name == "examples");
    Ok(if is_below { folder.parent().unwrap_or(folder).to_owned() } else { folder.to_owned() })
}

/// One of them.
pub fn program(name: &str) -> Result<PathBuf> {
    let program = programs_folder()?.join(name);
    if !program.is_file() {
        bail!("{} is not built: run `make test`, or `cargo build --bins` before `cargo test`", program.display());
    }
    Ok(program)
}

/// Where the logs of failed tests are kept.
pub fn kept_logs(stack: &str) -> Result<PathBuf> {
    let programs = programs_folder()?;
    Ok(programs.parent().map_or_else(|| Path::new("target").to_owned(), Path::to_owned).join("test-logs").join(stack))
}
