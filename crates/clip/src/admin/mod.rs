//! Administration of the model directory. Only `pgclip` enters here: a server process never does.

pub(crate) mod logit_scale;
pub(crate) mod probe;
