//! The real programs, over real servers, from a client's and an operator's side. One binary, since linking is what tests wait for.

mod bad_input;
mod ends;
mod faults;
mod path;
