//! The commands, each as a method of [`session::Session`].

mod add;
mod catalog;
mod list;
mod prepare;
mod pull;
mod quantize;
mod rm;
pub mod session;
mod summary;
mod verify;
