//! The parts of the command `pgclip` that tests use.

pub mod hub;
