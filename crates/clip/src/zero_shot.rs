//! Zero-shot classification: labels as vectors, and the head that turns cosines into probabilities.

use crate::embedding::{self, Embedding};
use crate::error::Error;
use crate::memory::{headroom, reserve};
use crate::options::TEXT_WINDOW;
use crate::recipe::Loss;
use crate::store::manifest::Manifest;
use crate::tokenizer::MAX_TEXT_BYTES;

/// The place of the label in a template.
const PLACE: &str = "{}";

/// Largest number of templates. Published ensembles have eighty.
pub const MAX_TEMPLATES: usize = 1000;

/// Largest logit scale. Training limits CLIP's to 100, and SigLIP's ends near 120.
pub const MAX_LOGIT_SCALE: f64 = 10_000.0;

/// The logit scale and logit bias that turn cosines into probabilities: a model's own, or those of a caller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Head {
    scale: f64,
    /// Only with the sigmoid loss: then each label is judged independently.
    bias: Option<f64>,
}

impl Head {
    /// Returns None unless the scale is above 0 and at most [`MAX_LOGIT_SCALE`], and the bias is finite.
    pub fn new(scale: f64, bias: Option<f64>) -> Option<Self> {
        let usable = scale > 0.0 && scale <= MAX_LOGIT_SCALE && bias.is_none_or(f64::is_finite);
        usable.then_some(Self { scale, bias })
    }

    /// Returns the head of a model.
    fn of(manifest: &Manifest) -> Result<Self, Error> {
        let lacking = |what| Error::NoHead { model: manifest.name.clone(), lacking: what };
        let scale = manifest.logit_scale.ok_or_else(|| lacking("logit scale"))?;
        if Loss::of_family(&manifest.family) == Loss::Sigmoid && manifest.logit_bias.is_none() {
            return Err(lacking("logit bias"));
        }
        Self::new(scale, manifest.logit_bias).ok_or_else(|| lacking("logit scale"))
    }

    /// Replaces the cosines with probabilities: softmax over all, or the sigmoid of each.
    pub fn apply(&self, cosines: &mut [f32]) {
        let logit = |cosine: f32| self.scale * f64::from(cosine) + self.bias.unwrap_or(0.0);
        if self.bias.is_some() {
            cosines.iter_mut().for_each(|value| *value = (1.0 / (1.0 + (-logit(*value)).exp())) as f32);
            return;
        }
        let largest = cosines.iter().copied().map(logit).fold(f64::MIN, f64::max);
        let sum: f64 = cosines.iter().map(|&cosine| (logit(cosine) - largest).exp()).sum();
        cosines.iter_mut().for_each(|value| *value = ((logit(*value) - largest).exp() / sum) as f32);
    }
}

/// Labels as vectors of one model, and the head of that model.
pub struct Classifier {
    vectors: Vec<f32>,
    dimensions: usize,
    head: Head,
}

impl Classifier {
    /// Embeds each label in all templates with `embed`, and takes the direction of their mean, as the paper does (Radford
    /// et al. 2021, 3.1.4). `embed` drops the index of a text from an error, because the caller passed labels, not texts.
    pub fn new<E: From<Error>>(
        manifest: &Manifest,
        labels: &[&str],
        templates: &[&str],
        mut embed: impl FnMut(&[&str]) -> Result<Vec<Embedding>, E>,
    ) -> Result<Self, E> {
        let head = Head::of(manifest)?;
        let dimensions = manifest.dimensions;
        if let Some(index) = templates.iter().position(|template| !template.contains(PLACE)) {
            return Err(Error::TemplateWithoutPlace { index }.into());
        }
        let mut vectors = reserve(labels.len().saturating_mul(dimensions))?;
        let at_once = (TEXT_WINDOW / templates.len().max(1)).max(1);
        for labels in labels.chunks(at_once) {
            // A template may have several places for the label, so the length is computed before the text is written.
            let mut bytes = 0;
            for (label, template) in
                labels.iter().flat_map(|label| templates.iter().map(move |template| (label, template)))
            {
                let places = template.matches(PLACE).count();
                let length = (template.len() - places * PLACE.len()).saturating_add(places.saturating_mul(label.len()));
                if length > MAX_TEXT_BYTES {
                    let error = Error::TextBytesExceeded { bytes: length as u64, limit: MAX_TEXT_BYTES as u64 };
                    return Err(error.into());
                }
                bytes += length as u64;
            }
            headroom(2 * bytes)?;
            let texts: Vec<String> = labels
                .iter()
                .flat_map(|label| templates.iter().map(move |template| template.replace(PLACE, label)))
                .collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let embedded = embed(&texts)?;
            for prompts in embedded.chunks(templates.len()) {
                let prompts: Vec<&[f32]> = prompts.iter().map(Embedding::as_slice).collect();
                let mean = Embedding::blend(&prompts, &vec![1.0; prompts.len()])?;
                vectors.extend_from_slice(mean.as_slice());
            }
        }
        Ok(Self { vectors, dimensions, head })
    }

    /// Returns the probability of each label, in their order.
    pub fn probabilities(&self, embedding: &[f32]) -> Result<Vec<f32>, Error> {
        let mut found = reserve(self.vectors.len() / self.dimensions)?;
        let length = embedding::length(embedding)?;
        embedding::same_dimensions(self.dimensions, embedding.len())?;
        let labels = self.vectors.chunks_exact(self.dimensions);
        found.extend(labels.map(|label| (f64::from(embedding::dot(embedding, label)) / length) as f32));
        self.head.apply(&mut found);
        Ok(found)
    }

    /// Returns the size of the vectors in bytes.
    pub fn size(&self) -> usize {
        size_of_val(self.vectors.as_slice())
    }
}

/// Returns the cosines of one vector with others.
pub fn cosines(vector: &[f32], others: &[&[f32]]) -> Result<Vec<f32>, Error> {
    let mut found = reserve(others.len())?;
    let length = embedding::length(vector)?;
    for other in others {
        embedding::same_dimensions(vector.len(), other.len())?;
        let lengths = length * embedding::length(other)?;
        found.push((f64::from(embedding::dot(vector, other)) / lengths) as f32);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(head: Head, cosines: &[f32]) -> Vec<f32> {
        let mut values = cosines.to_vec();
        head.apply(&mut values);
        values
    }

    #[test]
    fn softmax_sums_to_one_and_does_not_overflow() {
        let head = Head::new(MAX_LOGIT_SCALE, None).unwrap();
        assert_eq!(apply(head, &[1.0, -1.0]), [1.0, 0.0]);
        let found = apply(Head::new(100.0, None).unwrap(), &[0.30, 0.29, 0.20]);
        assert!((found.iter().sum::<f32>() - 1.0).abs() < 1e-6 && (found[0] / found[1] - 1f32.exp()).abs() < 1e-4);
        assert_eq!(apply(head, &[]), Vec::<f32>::new());
    }

    #[test]
    fn the_sigmoid_judges_each_label_alone() {
        let head = Head::new(100.0, Some(-10.0)).unwrap();
        let found = apply(head, &[0.1, 0.2, -1.0]);
        assert!((found[0] - 0.5).abs() < 1e-5 && found[1] > 0.9999 && found[2] < 1e-40);
        assert_eq!(apply(head, &[0.2]), [found[1]]);
    }

    #[test]
    fn numbers_that_make_no_head_are_refused() {
        for (scale, bias) in [(0.0, None), (-1.0, None), (f64::NAN, None), (2e4, None), (1.0, Some(f64::INFINITY))] {
            assert_eq!(Head::new(scale, bias), None);
        }
    }

    #[test]
    fn cosines_need_no_unit_vectors() {
        assert_eq!(cosines(&[0.0, 2.0], &[&[0.0, 9.0], &[3.0, 4.0]]), Ok(vec![1.0, 0.8]));
        assert_eq!(cosines(&[0.0, 2.0], &[&[1.0]]), Err(Error::Dimensions { one: 2, other: 1 }));
        assert_eq!(cosines(&[0.0, 0.0], &[&[1.0, 0.0]]), Err(Error::NoDirection));
    }
}
