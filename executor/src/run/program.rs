//! From a step's `command` to the file that is executed, and from a refusal of the system's to words that help.

use super::plan::End;
use rustix::fs::{Access, access};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// Names, paths and the search path are the step's, and every step's message is kept.
const MAX_MESSAGE_CHARS: usize = 500;
/// Of a search path that is told.
const MAX_TOLD_PATH_BYTES: usize = 100;

/// Finds the file as `execvp` would, but never falls back to a shell. A name with a slash is relative to `work`.
pub fn find(program: &str, work: &Path, search_path: &OsStr) -> Result<PathBuf, End> {
    if program.contains('/') {
        let path = work.join(program);
        return if path.exists() { Ok(path) } else { Err(hopeless(format!("there is no program `{program}`"))) };
    }
    let mut not_executable = None;
    for folder in std::env::split_paths(search_path) {
        let path = work.join(folder).join(program);
        match access(&path, Access::EXEC_OK) {
            Ok(()) if path.is_file() => return Ok(path),
            Err(Errno::ACCESS) if path.is_file() => not_executable = Some(path),
            Ok(()) | Err(_) => {}
        }
    }
    let search_path = search_path.to_string_lossy();
    // An image's is short; that of a person's shell is longer than the rest of the sentence.
    let searched = if search_path.len() <= MAX_TOLD_PATH_BYTES { format!(" ({search_path})") } else { String::new() };
    Err(hopeless(match not_executable {
        Some(path) => {
            format!("`{}` is not executable, and there is no other `{program}` in PATH{searched}", path.display())
        }
        None => format!("there is no program `{program}` in PATH{searched}"),
    }))
}

/// Why `path` could not be started.
pub fn refused(program: &str, path: &Path, work: &Path, error: &io::Error) -> End {
    let reason = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) if !work.is_dir() => "the workspace is gone: a step removed it".to_owned(),
        // The file is there, so it is the interpreter after `#!`, or the loader, that is not.
        Some(Errno::NOENT) if path.exists() => "its interpreter does not exist".to_owned(),
        Some(Errno::NOEXEC) => "it is neither a program for this machine nor a script that begins with `#!`".to_owned(),
        Some(Errno::ACCESS) if path.is_dir() => "it is a folder".to_owned(),
        Some(Errno::ACCESS) => "it is not executable".to_owned(),
        Some(Errno::TOOBIG) => "its arguments and environment are too long".to_owned(),
        Some(Errno::AGAIN | Errno::NOMEM | Errno::NFILE | Errno::MFILE) => {
            let message = format!("`{program}` could not be started now: {error}");
            return End::NotStarted { message: cut(message), hopeless: false };
        }
        _ => error.to_string(),
    };
    hopeless(format!("`{program}` can't be started: {reason}"))
}

fn hopeless(message: String) -> End {
    End::NotStarted { message: cut(message), hopeless: true }
}

fn cut(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE_CHARS) {
        message.truncate(end);
        message.push_str(" …");
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn message(end: End) -> String {
        match end {
            End::NotStarted { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn programs_are_found_as_execvp_finds_them() {
        let work = tempfile::tempdir().unwrap();
        fs::create_dir_all(work.path().join("bin/sh")).unwrap();
        fs::write(work.path().join("run"), "").unwrap();
        let found = |program, path: &str| find(program, work.path(), OsStr::new(path));
        assert_eq!(found("sh", "/nowhere:bin:/bin").unwrap(), Path::new("/bin/sh"), "a folder is passed over");
        assert_eq!(found("./run", "").unwrap(), work.path().join("./run"));
        assert_eq!(found("/bin/sh", "").unwrap(), Path::new("/bin/sh"));
        assert_eq!(message(found("nonesuch", "/bin").unwrap_err()), "there is no program `nonesuch` in PATH (/bin)");
        assert_eq!(message(found("./nonesuch", "/bin").unwrap_err()), "there is no program `./nonesuch`");
        let long = vec!["/nowhere"; 20].join(":");
        assert_eq!(message(found("nonesuch", &long).unwrap_err()), "there is no program `nonesuch` in PATH");
        // For root, too, a file that nobody may execute is not executable.
        let error = message(found("run", work.path().to_str().unwrap()).unwrap_err());
        assert!(error.contains("/run` is not executable"), "{error}");
    }

    #[test]
    fn a_message_is_bounded_whatever_it_quotes() {
        let work = tempfile::tempdir().unwrap();
        let long = "ä".repeat(10_000);
        for end in [
            find("nonesuch", work.path(), OsStr::new(&long)).unwrap_err(),
            find(&format!("./{long}"), work.path(), OsStr::new("")).unwrap_err(),
            refused(&long, Path::new(&long), work.path(), &Errno::AGAIN.into()),
        ] {
            assert!(message(end).chars().count() <= MAX_MESSAGE_CHARS + 2);
        }
    }

    #[test]
    fn a_refusal_says_what_is_wrong_with_the_file() {
        let work = tempfile::tempdir().unwrap();
        for (content, words) in [
            ("#!/no/interpreter\n", "its interpreter does not exist"),
            ("just text", "neither a program for this machine nor a script"),
        ] {
            let script = work.path().join("script");
            fs::write(&script, content).unwrap();
            fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
            let errno = if content.starts_with("#!") { Errno::NOENT } else { Errno::NOEXEC };
            let error = message(refused("script", &script, work.path(), &errno.into()));
            assert!(error.contains(words), "{error}");
        }
        let gone = refused("sh", Path::new("/bin/sh"), &work.path().join("gone"), &Errno::NOENT.into());
        assert!(message(gone).contains("the workspace is gone"));
        let busy = refused("sh", Path::new("/bin/sh"), work.path(), &Errno::AGAIN.into());
        assert!(matches!(busy, End::NotStarted { hopeless: false, .. }));
    }
}
