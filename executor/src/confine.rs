//! What the executor does to itself before anything else, so that the submitted code can neither read it nor outlive it.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getpid, set_child_subreaper, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set, set_no_new_privs};
use std::io;

/// What is left to a step that runs as root: a container's usual rights over its own files, users and ports. Not among them is looking into other
/// processes, the platform's for instance.
const LEFT_TO_ROOT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::SETFCAP);

/// Makes this process the one that inherits orphans of its steps (so that a daemon can't slip away), closes its memory,
/// environment and descriptors to processes of the same user, lets neither it nor its children leave core files, keeps what
/// it inherited itself from them (a launcher's launcher may have left descriptors open), and keeps them from more rights than they need.
pub fn confine() -> io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    close_fds::set_fds_cloexec(3, &[]);
    for right in CapabilitySet::all().difference(LEFT_TO_ROOT).iter() {
        // Who may not give a right up has none to give.
        let _ = remove_capability_from_bounding_set(right);
    }
    set_no_new_privs(true)?;
    Ok(())
}
