//! An attempt: how its executor and the API speak, and where it is in a cluster.

pub mod check;
pub mod placement;
pub mod protocol;
