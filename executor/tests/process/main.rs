//! The built executor as a process, against a peer that plays the API and the object store.
//!
//! Each test is one scenario and waits for what it expects to see; none waits for time to pass.

mod ends;
mod harness;
mod isolation;
mod outage;
mod peer;
mod pod;
mod runs;
mod ships;
mod tls;
