//! What the worker does to itself before it starts any executor.

use rustix::process::{DumpableBehavior, getpid, set_child_subreaper, set_dumpable_behavior};

/// Makes this process the one that inherits what a killed executor leaves behind, so that it can be ended; and closes its memory and
/// environment, which hold the platform's credentials, to the steps, which run as the same user.
pub fn confine() -> std::io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
