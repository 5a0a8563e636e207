//! The files of a model as publishers lay them out.

pub(crate) mod config;
pub(crate) mod layout;
