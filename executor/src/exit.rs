//! How the process ends, for whoever started it: a status and at most one line on standard error.

use std::fmt;

#[derive(Debug, PartialEq, Eq)]
pub enum Exit {
    /// The API or `outcome.json` was told how the attempt ended.
    Reported,
    /// There was no attempt to run: what a later container of the pod needs is in its place.
    Installed,
    /// What the executor was started with can't be used.
    Unusable(String),
    /// The start was refused: another process has this attempt, or nobody has.
    StartRefused(String),
    StartUnanswered(String),
    StoppedBeforeStart,
    /// The attempt stopped being current while it ran.
    Superseded,
    /// Neither the API nor the object store could be told how it ended.
    Unreported,
    /// Processes of the attempt are left that could not be killed, so nobody was told that it ended.
    Undead,
    /// Told to stop while it ran, which is reported. A failure to Kubernetes: of a pod that succeeds it forgets why it ended it.
    Terminated,
}

impl Exit {
    pub const fn status(&self) -> u8 {
        match self {
            Self::Reported | Self::Installed => 0,
            Self::Unusable(_) => 2,
            Self::StartRefused(_) => 3,
            Self::StartUnanswered(_) => 4,
            Self::StoppedBeforeStart => 5,
            Self::Superseded => 6,
            Self::Unreported => 7,
            Self::Undead => 8,
            Self::Terminated => 9,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reported => f.write_str("reported"),
            Self::Installed => f.write_str("installed"),
            Self::Unusable(why) => write!(f, "can't begin: {why}"),
            Self::StartRefused(why) | Self::StartUnanswered(why) => write!(f, "nothing was started: {why}"),
            Self::StoppedBeforeStart => f.write_str("nothing was started: told to stop before the start was granted"),
            Self::Superseded => f.write_str("stopped: this attempt is no longer current"),
            Self::Unreported => f.write_str("neither the API nor the object store could be told how the attempt ended"),
            Self::Undead => f.write_str("processes of this attempt could not be killed"),
            Self::Terminated => f.write_str("reported: told to stop while the attempt ran"),
        }
    }
}
