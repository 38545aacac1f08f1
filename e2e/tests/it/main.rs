//! The real programs, over real servers, from a client's and an operator's side. One binary, since linking is what tests wait for.

mod bad_input;
mod cli;
mod config;
mod dev;
mod ends;
mod faults;
mod idle;
mod path;
