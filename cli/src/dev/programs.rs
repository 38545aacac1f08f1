//! Where the programs are that the stack consists of: installed ones, ones that `scripts/ensure-tools.sh` fetched, and our own.
//!
//! Looks where that script looks and asks for the versions that it asks for.

use super::error::DevError;
use super::launch::version_line;
use crate::environment::Environment;
use std::path::{Path, PathBuf};

const REMEDY: &str = "scripts/ensure-tools.sh, which installs it or fetches it into your cache folder";
const OWN_REMEDY: &str = "make build, which puts all programs into one folder";
const MINIMUM_POSTGRESQL: u32 = 14;
const MINIMUM_REDIS: u32 = 7;
/// Where the script puts what it fetches as root; an ordinary user has it in the cache folder.
const ROOTS_TOOLS: &str = "/var/cache/roadstead/tools";

/// The servers' programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The folder with `initdb` and `postgres`.
    pub postgres_bin: PathBuf,
    pub redis_server: PathBuf,
}

impl Programs {
    /// Those that this process's environment leads to.
    pub fn installed() -> Result<Self, DevError> {
        Self::find(&Environment::read())
    }

    pub(crate) fn find(environment: &Environment) -> Result<Self, DevError> {
        let places = Places::of(environment);
        Ok(Self { postgres_bin: places.postgres_bin()?, redis_server: places.redis_server()? })
    }
}

/// One of our own programs: they are all in one folder.
pub fn own(folder: &Path, name: &str) -> Result<PathBuf, DevError> {
    let program = folder.join(name);
    if is_program(&program) {
        return Ok(program);
    }
    Err(DevError::Missing { what: name.to_owned(), looked_in: vec![folder.to_owned()], remedy: OWN_REMEDY })
}

/// The folder that this program is in.
pub fn own_folder() -> Result<PathBuf, DevError> {
    let program = std::env::current_exe().map_err(DevError::io("can't find out where this program is"))?;
    Ok(program.parent().map(Path::to_owned).unwrap_or_default())
}

struct Places {
    path: Vec<PathBuf>,
    /// Folders of PostgreSQL versions: Debian's.
    versions: PathBuf,
    tools: Option<PathBuf>,
}

impl Places {
    fn of(environment: &Environment) -> Self {
        let path = environment.path.as_ref().map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
        let cache = || environment.cache_home.clone().or_else(|| Some(environment.home.as_ref()?.join(".cache")));
        let is_root = rustix::process::geteuid().is_root();
        let tools =
            if is_root { Some(PathBuf::from(ROOTS_TOOLS)) } else { cache().map(|cache| cache.join("roadstead/tools")) };
        Self { path, versions: PathBuf::from("/usr/lib/postgresql"), tools }
    }

    fn postgres_bin(&self) -> Result<PathBuf, DevError> {
        let mut folders = self.path.clone();
        folders.extend(versions_descending(&self.versions).into_iter().map(|version| version.join("bin")));
        folders.extend(["/usr/local/bin", "/usr/local/pgsql/bin"].map(PathBuf::from));
        folders.extend(self.fetched("postgresql"));
        let fits = |folder: &PathBuf| {
            is_program(&folder.join("initdb")) && is_new_enough(&folder.join("postgres"), MINIMUM_POSTGRESQL)
        };
        let missing = || self.missing(format!("PostgreSQL {MINIMUM_POSTGRESQL} or newer"), "postgresql");
        folders.into_iter().find(fits).ok_or_else(missing)
    }

    fn redis_server(&self) -> Result<PathBuf, DevError> {
        let mut folders = self.path.clone();
        folders.extend(["/usr/bin", "/usr/local/bin"].map(PathBuf::from));
        folders.extend(self.fetched("redis"));
        let programs =
            folders.iter().flat_map(|folder| ["redis-server", "valkey-server"].map(|name| folder.join(name)));
        let missing = || self.missing(format!("Redis {MINIMUM_REDIS} or newer, or Valkey"), "redis");
        programs.into_iter().find(|program| is_new_enough(program, MINIMUM_REDIS)).ok_or_else(missing)
    }

    fn fetched(&self, tool: &str) -> Option<PathBuf> {
        self.tools.as_ref().map(|tools| tools.join(tool).join("bin"))
    }

    fn missing(&self, what: String, tool: &str) -> DevError {
        let mut looked_in = vec![PathBuf::from("PATH")];
        if tool == "postgresql" {
            looked_in.push(self.versions.clone());
        }
        looked_in.extend(self.fetched(tool));
        DevError::Missing { what, looked_in, remedy: REMEDY }
    }
}

fn is_new_enough(program: &Path, minimum: u32) -> bool {
    is_program(program)
        && version_line(program).and_then(|line| major_version(&line)).is_some_and(|major| major >= minimum)
}

/// The first number of `postgres (PostgreSQL) 15.9 (Debian …)`, `Redis server v=7.0.15 sha=…` or `Server v=8.1.4 …`.
fn major_version(line: &str) -> Option<u32> {
    let start = line.find(|c: char| c.is_ascii_digit())?;
    let digits = line[start..].split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Folders that are named by a number, the highest first.
fn versions_descending(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut versions: Vec<(u32, PathBuf)> =
        entries.flatten().filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))).collect();
    versions.sort_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn program(path: &Path, says: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn postgres(bin: &Path, version: &str) {
        program(&bin.join("postgres"), &format!("postgres (PostgreSQL) {version}"));
        program(&bin.join("initdb"), "");
    }

    fn places(root: &Path) -> Places {
        Places { path: vec![root.join("path")], versions: root.join("versions"), tools: Some(root.join("tools")) }
    }

    #[test]
    fn the_highest_installed_version_that_is_new_enough_wins() {
        let root = tempfile::tempdir().unwrap();
        postgres(&root.path().join("path"), "9.6.24");
        postgres(&root.path().join("versions/9/bin"), "9.6.24");
        postgres(&root.path().join("versions/14/bin"), "14.1");
        postgres(&root.path().join("versions/15/bin"), "15.9 (Debian 15.9-0+deb12u1)");
        assert_eq!(places(root.path()).postgres_bin().unwrap(), root.path().join("versions/15/bin"));
    }

    #[test]
    fn a_server_that_is_too_old_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        program(&root.path().join("path/redis-server"), "Redis server v=6.2.14 sha=00000000:0");
        program(&root.path().join("path/valkey-server"), "Server v=8.1.4 sha=00000000:0");
        assert_eq!(places(root.path()).redis_server().unwrap(), root.path().join("path/valkey-server"));
    }

    #[test]
    fn versions_are_read_as_the_programs_tell_them() {
        assert_eq!(major_version("postgres (PostgreSQL) 17beta1"), Some(17));
        assert_eq!(major_version("Redis server v=7.0.15 sha=0"), Some(7));
        assert_eq!(major_version("nothing"), None);
    }

    #[test]
    fn what_is_missing_is_named_with_the_command_that_installs_it() {
        let root = tempfile::tempdir().unwrap();
        let told = places(root.path()).missing("Redis".to_owned(), "redis").to_string();
        assert!(told.contains("Redis") && told.contains("scripts/ensure-tools.sh"), "{told}");
        let own = own(root.path(), "roadstead-api").unwrap_err().to_string();
        assert!(own.contains("roadstead-api") && own.contains("make build"), "{own}");
    }
}
