//! Every way in which an execution can end other than well, and who may not even ask.

mod cancel;
mod deadlines;
mod failure;
mod keys;
mod tenants;
