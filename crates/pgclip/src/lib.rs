//! What the command `pgclip` is made of, so that tests reach it.

pub mod hub;
