//! The functions that SQL calls: read arguments, one check, one call, return.

mod batch;
mod classify;
mod embed;
pub mod filter;
mod inspect;
