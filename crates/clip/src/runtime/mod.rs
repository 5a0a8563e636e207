//! ONNX Runtime, and the processor that it runs on.

pub(crate) mod canceler;
pub(crate) mod cpu;
mod elf;
mod failure;
mod inputs;
pub(crate) mod library;
pub(crate) mod provider;
pub(crate) mod rows;
pub(crate) mod session;
