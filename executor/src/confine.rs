//! What the executor does to itself before anything else, so that the submitted code can neither read it nor outlive it.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getpid, set_child_subreaper, set_dumpable_behavior, setrlimit,
};
use std::io;

/// Makes this process the one that inherits orphans of its steps (so that a daemon can't slip away), closes its memory,
/// environment and descriptors to processes of the same user, lets neither it nor its children leave core files, and keeps what
/// it inherited itself from them: a launcher's launcher may have left descriptors open.
pub fn confine() -> io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    close_fds::set_fds_cloexec(3, &[]);
    Ok(())
}
