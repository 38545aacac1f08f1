//! The init container's errand: lays this program and the pod's token into the folder that the workflow's container sees too, because that
//! container's image is the workflow's own and holds neither.

use crate::token::{self, TokenError};
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

const PROGRAM: &str = "executor";
const TOKEN: &str = "token";

#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("this program can't be read: {0}")]
    Program(#[source] io::Error),
    #[error("{what} can't be laid into the folder: {error}")]
    Place { what: &'static str, error: io::Error },
    #[error(transparent)]
    Token(#[from] TokenError),
}

pub fn install(folder: &Path, token: &Path) -> Result<(), InstallError> {
    let program = File::open("/proc/self/exe").map_err(InstallError::Program)?;
    let token = token::look(token)?;
    let place = |what, mode, content: &mut dyn Read| {
        place(&folder.join(what), mode, content).map_err(|error| InstallError::Place { what, error })
    };
    place(PROGRAM, 0o555, &mut &program)?;
    place(TOKEN, 0o600, &mut token.as_bytes())
}

/// An init container may run twice: what an earlier one laid, be it half a file, is replaced.
fn place(path: &Path, mode: u32, content: &mut dyn Read) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    io::copy(content, &mut file)?;
    file.set_permissions(Permissions::from_mode(mode))
}
