//! Administration of the model directory. Only `pgclip` uses it; server processes do not.

mod add;
mod archive;
mod copy;
mod logit_scale;
mod prepare;
mod probe;
mod quantize;

pub use add::add;
pub use archive::{export, import};
pub use copy::Progress;
pub use prepare::prepare;
pub use quantize::{Weights, quantize};
