//! Bad input: each kind has its own 4xx problem, none a 5xx, and nothing of it is stored.

mod fuzz;
mod submissions;
mod wire;
