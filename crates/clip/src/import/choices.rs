//! Choices of an administrator for a model that is added.

use crate::recipe::Pooling;
use crate::store::manifest::Source;

/// The learned logit scale and logit bias.
pub(crate) type Logits = (f64, Option<f64>);

/// An administrator's choices. Where one is missing, the files of the model decide.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choices {
    /// One of several exports: `fp16`, `int8`, `quantized`, ….
    pub variant: Option<String>,
    pub text: TowerChoices,
    pub image: TowerChoices,
    /// Images are not rotated according to their EXIF orientation.
    pub ignore_exif_orientation: bool,
    /// The learned logit scale and logit bias, for a model whose files do not have them.
    pub logit_scale: Option<f64>,
    pub logit_bias: Option<f64>,
    pub license: Option<String>,
    pub source: Option<Source>,
}

/// Choices for one tower.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TowerChoices {
    /// Path of the graph within the folder.
    pub graph: Option<String>,
    /// The output that holds embeddings.
    pub output: Option<String>,
    /// The pooling of an output with a row per token or patch.
    pub pooling: Option<Pooling>,
}

impl Choices {
    /// Takes over the values that were found, unless the administrator chose others.
    pub(crate) fn learn(&mut self, found: Option<Logits>) {
        if let Some((scale, bias)) = found {
            self.logit_scale = self.logit_scale.or(Some(scale));
            self.logit_bias = self.logit_bias.or(bias);
        }
    }
}
