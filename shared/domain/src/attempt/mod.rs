//! An attempt: how its executor and the API speak.

pub mod protocol;
