//! As whom PostgreSQL runs: it refuses root, so that root lends it another account and a folder that this account can reach.

use super::error::DevError;
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
}

/// The account to lend; nothing for an ordinary user, who runs everything as itself.
pub fn for_postgres() -> Result<Option<Account>, DevError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd").map_err(DevError::io("/etc/passwd"))?;
    let found = ["postgres", "nobody"].iter().find_map(|name| lookup(&accounts, name));
    let missing = || DevError::Missing {
        what: "an account for PostgreSQL, which does not run as root".to_owned(),
        looked_in: vec![PathBuf::from("/etc/passwd")],
        remedy: "useradd --system postgres",
    };
    found.map(Some).ok_or_else(missing)
}

fn lookup(accounts: &str, name: &str) -> Option<Account> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        Some(Account { uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    })
}

/// Where an account can keep its files: `wanted` if it can get there, else a folder of its own under `/var/tmp`.
pub fn reachable(wanted: &Path, account: Option<Account>) -> PathBuf {
    if account.is_none() || wanted.ancestors().skip(1).all(is_open_to_others) {
        return wanted.to_owned();
    }
    let hash = hex::encode(Sha256::digest(wanted.as_os_str().as_encoded_bytes()));
    PathBuf::from(format!("/var/tmp/roadstead-{}", &hash[..16]))
}

/// Whether everybody may pass through this folder.
fn is_open_to_others(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
}

/// Lets others pass through a folder of our own, so that what is inside can belong to another account.
pub fn open_to_others(folder: &Path) -> Result<(), DevError> {
    let metadata = fs::metadata(folder).map_err(DevError::io(folder.display()))?;
    let mode = metadata.permissions().mode();
    if metadata.uid() != rustix::process::geteuid().as_raw() || mode & 0o001 != 0 {
        return Ok(());
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(mode | 0o011)).map_err(DevError::io(folder.display()))
}

/// Makes a folder that belongs to the account alone. One that is there must be exactly that: `/var/tmp` is everybody's.
pub fn own_folder(folder: &Path, account: Option<Account>) -> Result<(), DevError> {
    super::folder::make(folder, 0o700)?;
    let metadata = fs::symlink_metadata(folder).map_err(DevError::io(folder.display()))?;
    let ours = rustix::process::geteuid().as_raw();
    let owner = account.map_or(ours, |account| account.uid);
    if !metadata.is_dir() || !(metadata.uid() == ours || metadata.uid() == owner) {
        return Err(DevError::Unsafe(format!("{} belongs to somebody else or is a link: not used", folder.display())));
    }
    if let Some(Account { uid, gid }) = account {
        std::os::unix::fs::chown(folder, Some(uid), Some(gid)).map_err(DevError::io(folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\npostgresql:x:7:7::/:\npostgres:x:104:111::/:/bin/sh\n";
        assert_eq!(lookup(accounts, "postgres"), Some(Account { uid: 104, gid: 111 }));
        assert_eq!(lookup(accounts, "nobody"), None);
        assert_eq!(lookup("postgres:x\n", "postgres"), None);
    }

    #[test]
    fn another_account_is_given_a_place_that_it_can_reach() {
        let account = Some(Account { uid: 104, gid: 111 });
        let closed = tempfile::tempdir().unwrap();
        fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let wanted = closed.path().join("postgres");
        assert!(reachable(&wanted, account).starts_with("/var/tmp"));
        assert_eq!(reachable(&wanted, account), reachable(&wanted, account));
        assert_eq!(reachable(&wanted, None), wanted);
        open_to_others(closed.path()).unwrap();
        assert_eq!(reachable(&wanted, account), wanted);
    }

    #[test]
    fn a_link_in_the_place_of_a_folder_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink("/var/tmp", &link).unwrap();
        assert!(matches!(own_folder(&link, None), Err(DevError::Unsafe(_))));
    }
}
