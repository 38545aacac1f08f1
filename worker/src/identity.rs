//! Who this worker is: one name per boot, in the rows of its attempts, in leases, and as its Redis consumer.

use roadstead_backend::secrets;

/// `<host>-<pid>-<8 hex>`.
pub fn new() -> String {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    name(&host, std::process::id(), &secrets::random_token())
}

fn name(host: &str, pid: u32, random: &str) -> String {
    let host: String =
        host.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' }).take(64).collect();
    format!("{host}-{pid}-{}", &random[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_of_the_same_host_and_pid_is_another_worker() {
        assert_eq!(name("node 1", 7, "0123456789"), "node_1-7-01234567");
        assert_ne!(new(), new());
    }
}
