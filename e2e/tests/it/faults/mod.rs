//! Parts that die, and what must hold all the same: nothing is lost, nothing runs twice, the cap is kept.

mod api;
mod postgres;
mod redis;
mod s3;
mod storm;
mod strays;
mod worker;
