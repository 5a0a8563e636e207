//! ONNX files, examined and rewritten without running them.

pub(crate) mod bf16;
pub(crate) mod facts;
pub(crate) mod file;
mod int8;
mod part;
mod proto;
pub(crate) mod quantize;
#[cfg(test)]
mod tests;
mod weights;
