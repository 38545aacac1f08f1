//! Against real servers: one binary, since linking is what tests wait for.

#![recursion_limit = "256"]

mod cluster;
mod connections;
mod dispatch;
mod fixture;
mod objects;
mod reads;
mod store;
