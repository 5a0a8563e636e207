//! Functions that SQL calls. Each reads its arguments, makes one call into another module, and returns the result.

mod batch;
mod classify;
mod embed;
pub mod filter;
mod inspect;
