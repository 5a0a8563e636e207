//! The commands, each as a method of [`session::Session`].

mod add;
mod catalog;
mod check;
mod export;
mod list;
mod prepare;
mod pull;
mod quantize;
mod rm;
mod serve;
pub mod session;
mod summary;
mod verify;
