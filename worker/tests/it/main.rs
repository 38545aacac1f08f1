//! Workers against a real PostgreSQL and Redis, with a launcher that starts nothing and ends what a test tells it to.

#![recursion_limit = "256"]

mod dispatching;
mod fixture;
mod supervising;
