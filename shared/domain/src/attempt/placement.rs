//! Where an attempt is in a cluster: what its Job, its pod and its tenant's namespace are called, and what labels they carry.
//!
//! The worker makes these names and the API checks them, so both take them from here. A name tells which attempt it belongs to, and a name that is
//! not exactly one of ours belongs to none.

use crate::ids::{AttemptId, ExecutionId};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The audience of an attempt's projected ServiceAccount token: the cluster's own API refuses it, Roadstead's takes no other.
pub const TOKEN_AUDIENCE: &str = "roadstead";

/// Labels of an attempt's Job and of its pods.
pub mod labels {
    /// Network policies select pods by this label and [`NAME_OF_ATTEMPTS`].
    pub const NAME: &str = "app.kubernetes.io/name";
    pub const NAME_OF_ATTEMPTS: &str = "roadstead-attempt";
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    pub const MANAGED_BY_ROADSTEAD: &str = "roadstead";
    /// The UUID of the database that the attempt is a row of.
    pub const INSTALLATION: &str = "roadstead.dev/installation";
    pub const TENANT: &str = "roadstead.dev/tenant";
    pub const EXECUTION: &str = "roadstead.dev/execution";
    pub const ATTEMPT: &str = "roadstead.dev/attempt";
}

const JOB_PREFIX: &str = "rs-";
/// What Kubernetes adds to a generated name.
const POD_SUFFIX_CHARACTERS: usize = 5;
/// Where the tenant's name goes in a namespace template.
const TENANT_PLACE: &str = "%s";
const MAX_LABEL_CHARACTERS: usize = 63;
/// 64 bits: with half of them a second tenant of the same namespace is found in an hour.
const DIGEST_BYTES: usize = 8;

/// The name of the attempt's Job, never used for anything else, and at most 50 characters: Kubernetes cuts the names of pods of longer ones.
pub fn job_name(id: AttemptId) -> String {
    format!("{JOB_PREFIX}{id}")
}

/// The attempt whose Job is called this; none for any name that [`job_name`] does not make.
pub fn attempt_of_job(name: &str) -> Option<AttemptId> {
    let (execution, attempt) = name.strip_prefix(JOB_PREFIX)?.rsplit_once('-')?;
    let execution_id: ExecutionId = execution.parse().ok()?;
    let id = AttemptId { execution_id, attempt: attempt.parse().ok().filter(|attempt| *attempt > 0)? };
    (job_name(id) == name).then_some(id)
}

/// The attempt whose Job's controller named a pod this: the Job's name, a hyphen and five random characters.
pub fn attempt_of_pod(name: &str) -> Option<AttemptId> {
    let (job, suffix) = name.rsplit_once('-')?;
    let random =
        suffix.len() == POD_SUFFIX_CHARACTERS && suffix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if random { attempt_of_job(job) } else { None }
}

/// Whether each tenant has a namespace of its own.
pub fn is_per_tenant(template: &str) -> bool {
    template.contains(TENANT_PLACE)
}

/// Whether namespaces can be made of it: a DNS label, in which `%s` may stand once for the tenant.
pub fn is_namespace_template(template: &str) -> bool {
    template.matches(TENANT_PLACE).count() <= 1 && crate::ids::is_name(&template.replacen(TENANT_PLACE, "t", 1))
}

/// The namespace of a tenant's attempts: the template itself, or with the tenant's name in place of `%s`.
///
/// It is a DNS label and no other tenant's: where a name grows too long it is cut and ends with a digest, and only such names have all 63
/// characters, so that no tenant can be named to meet one.
pub fn namespace(template: &str, tenant: &str) -> String {
    if !is_per_tenant(template) {
        return template.to_owned();
    }
    let mut name = template.replacen(TENANT_PLACE, tenant, 1);
    if name.len() < MAX_LABEL_CHARACTERS {
        return name;
    }
    let digest = Sha256::digest(&name);
    name.truncate(MAX_LABEL_CHARACTERS - 1 - 2 * DIGEST_BYTES);
    name.push('-');
    for byte in &digest[..DIGEST_BYTES] {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// The tenant whose attempts are in that namespace, where each has one of its own; none for a name that was cut, of which it can't be told.
pub fn tenant_of<'a>(template: &str, name: &'a str) -> Option<&'a str> {
    let (before, after) = template.split_once(TENANT_PLACE)?;
    let tenant = name.strip_prefix(before)?.strip_suffix(after)?;
    (namespace(template, tenant) == name).then_some(tenant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::is_name;
    use proptest::prelude::*;

    const EXECUTION: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn id(attempt: i32) -> AttemptId {
        AttemptId { execution_id: EXECUTION.parse().unwrap(), attempt }
    }

    #[test]
    fn a_jobs_name_tells_its_attempt() {
        assert_eq!(job_name(id(3)), format!("rs-{EXECUTION}-3"));
        for attempt in [1, 11, i32::MAX] {
            assert_eq!(attempt_of_job(&job_name(id(attempt))), Some(id(attempt)));
            assert!(is_name(&job_name(id(attempt))) && job_name(id(attempt)).len() <= 50);
        }
    }

    #[test]
    fn a_name_that_is_not_exactly_ours_belongs_to_none() {
        for bad in [
            String::new(),
            "rs-".to_owned(),
            format!("rs-{EXECUTION}"),
            format!("rs-{EXECUTION}-"),
            format!("rs-{EXECUTION}-0"),
            format!("rs-{EXECUTION}-01"),
            format!("rs-{EXECUTION}-+1"),
            format!("rs-{EXECUTION}--1"),
            format!("rs-{EXECUTION}-1 "),
            format!("rs-{EXECUTION}-99999999999"),
            format!("rs-{}-1", EXECUTION.to_uppercase()),
            format!("rs-{}-1", EXECUTION.replace('-', "")),
            format!("rs-{{{EXECUTION}}}-1"),
            format!("rs-urn:uuid:{EXECUTION}-1"),
            format!("xrs-{EXECUTION}-1"),
        ] {
            assert_eq!(attempt_of_job(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pod_belongs_to_one_attempt() {
        assert_eq!(attempt_of_pod(&format!("rs-{EXECUTION}-1-x7k2p")), Some(id(1)));
        assert_eq!(attempt_of_pod(&format!("rs-{EXECUTION}-11-x7k2p")), Some(id(11)));
        for bad in [
            format!("rs-{EXECUTION}-1"),
            format!("rs-{EXECUTION}-12345"),
            format!("rs-{EXECUTION}-1-"),
            format!("rs-{EXECUTION}-1-x7k2"),
            format!("rs-{EXECUTION}-1-x7k2pp"),
            format!("rs-{EXECUTION}-1-X7K2P"),
            format!("rs-{EXECUTION}-1-0-x7k2p"),
            format!("rs-{EXECUTION}-1-x7k2p-x7k2p"),
            format!("rs-{EXECUTION}-1x7k2p"),
        ] {
            assert_eq!(attempt_of_pod(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_template_makes_dns_labels() {
        for good in ["roadstead", "sandbox-%s", "%s-jobs", "%s"] {
            assert!(is_namespace_template(good), "{good}");
        }
        for bad in ["", "Sandbox-%s", "%s-", "-%s", "a-%s-%s", "a-%d", "a.%s", &"a".repeat(64)] {
            assert!(!is_namespace_template(bad), "{bad}");
        }
    }

    #[test]
    fn a_fixed_namespace_is_nobodys_own() {
        let longest = "n".repeat(63);
        assert_eq!(namespace(&longest, "a"), longest);
        assert_eq!((is_per_tenant("roadstead"), is_per_tenant("sandbox-%s")), (false, true));
    }

    #[test]
    fn a_long_name_is_cut_and_no_tenant_can_be_named_to_meet_it() {
        assert_eq!(namespace("sandbox-%s", "acme"), "sandbox-acme");
        let cut = namespace("sandbox-%s", &"a".repeat(63));
        assert_eq!(cut, format!("sandbox-{}-cb44e415c9c58a93", "a".repeat(38)));
        let imitator = cut.strip_prefix("sandbox-").unwrap();
        assert!(is_name(imitator));
        assert_ne!(namespace("sandbox-%s", imitator), cut);
    }

    proptest! {
        #[test]
        fn no_two_tenants_share_a_namespace(
            one in "[a-z0-9][a-z0-9-]{0,61}[a-z0-9]",
            tail in "[a-z0-9]{1,3}",
            template in prop::sample::select(vec!["%s", "sandbox-%s", "%s-jobs", "a-prefix-of-exactly-fifty-characters-that-is-long-%s"]),
        ) {
            let other = format!("{}{tail}", &one[..one.len().min(60)]);
            let (a, b) = (namespace(template, &one), namespace(template, &other));
            prop_assert!(is_name(&a) && is_name(&b));
            prop_assert_eq!(a == b, one == other);
        }
    }

    #[test]
    fn a_namespace_leads_back_to_its_tenant_unless_its_name_was_cut() {
        for tenant in ["a", "a-b", "x-jobs"] {
            assert_eq!(tenant_of("jobs-%s-x", &namespace("jobs-%s-x", tenant)), Some(tenant));
        }
        assert_eq!(tenant_of("jobs-%s", &namespace("jobs-%s", &"t".repeat(63))), None);
        for (template, name) in [("jobs", "jobs"), ("jobs-%s", "job-a"), ("jobs-%s-x", "jobs-a-y"), ("a%sa", "a")] {
            assert_eq!(tenant_of(template, name), None, "{template} {name}");
        }
    }
}
