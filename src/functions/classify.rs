//! Functions of existing embeddings: probabilities of labels or candidates, weighted sums, and rotations.

use std::rc::Rc;

use clip::{Embedding, Head, MAX_LOGIT_SCALE, MAX_TEMPLATES, cosines};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::model_cache;
use crate::model_cache::labels::{self, Arguments, LabelSet};
use crate::model_choice::{model_or_default, warn_of_other_models};
use crate::pg::error::report;
use crate::pg::messages::{invalid_argument, null_argument, null_element, wrong_length};
use crate::pg::settings;
use crate::pg::text::Text;
use crate::pg::values::reserve;
use crate::pg::varlena::{Varlena, VarlenaArray};
use crate::pg::vector::{MAX_DIMENSIONS, Vector};

type Labelled = TableIterator<'static, (name!(label, Text), name!(probability, f32))>;

#[pg_extern(sql = false)]
fn clip_classify(
    embedding: Option<Varlena<'_>>,
    labels: Option<VarlenaArray<'_>>,
    templates: Option<VarlenaArray<'_>>,
    model: Option<Varlena<'_>>,
) -> Result<Labelled, ErrorReport> {
    let Some(embedding) = embedding else { return Ok(TableIterator::empty()) };
    let set = label_set(&model_or_default(model)?, model.is_none(), labels, templates)?;
    labelled(set, embedding.vector()?)
}

#[pg_extern(sql = false)]
fn clip_classify_image(
    input: Option<Varlena<'_>>,
    labels: Option<VarlenaArray<'_>>,
    templates: Option<VarlenaArray<'_>>,
    model: Option<Varlena<'_>>,
) -> Result<Labelled, ErrorReport> {
    let Some(input) = input else { return Ok(TableIterator::empty()) };
    let is_default = model.is_none();
    let model = model_or_default(model)?;
    let set = label_set(&model, is_default, labels, templates)?;
    let image = input.image(settings::limits().bytes)?;
    labelled(set, model_cache::embed_image(&model, image)?.as_slice())
}

#[pg_extern(sql = false)]
fn clip_probabilities(
    embedding: Option<Varlena<'_>>,
    candidates: Option<VarlenaArray<'_>>,
    logit_scale: Option<f64>,
    logit_bias: Option<f64>,
) -> Result<Option<Vec<f32>>, ErrorReport> {
    let (Some(embedding), Some(candidates)) = (embedding, candidates) else { return Ok(None) };
    let scale = logit_scale.ok_or_else(|| null_argument("logit_scale"))?;
    let wrong = |name, value: f64, valid: &str| invalid_argument(name, &value.to_string(), valid);
    let head = Head::new(scale, logit_bias).ok_or_else(|| match logit_bias.filter(|bias| !bias.is_finite()) {
        Some(bias) => wrong("logit_bias", bias, "finite numbers"),
        None => wrong("logit_scale", scale, &format!("numbers above 0, up to {MAX_LOGIT_SCALE}")),
    })?;
    let candidates = vectors(candidates, "candidates")?;
    let mut found = cosines(embedding.vector()?, &candidates).map_err(report)?;
    head.apply(&mut found);
    Ok(Some(found))
}

#[pg_extern(sql = false)]
fn clip_blend(among: Option<VarlenaArray<'_>>, weights: Option<Array<'_, f32>>) -> Result<Option<Vector>, ErrorReport> {
    let Some(given) = among else { return Ok(None) };
    let given = vectors(given, "vectors")?;
    if given.is_empty() {
        return Err(wrong_length("vectors", 0, "an element or more"));
    }
    let mut factors = reserve(given.len())?;
    match weights {
        None => factors.resize(given.len(), 1.0),
        Some(weights) if weights.len() != given.len() => {
            let expected = format!("as many elements as vectors, {}", given.len());
            return Err(wrong_length("weights", weights.len(), &expected));
        }
        Some(weights) => {
            for weight in weights.iter() {
                factors.push(weight.ok_or_else(|| null_element("weights"))?);
            }
        }
    }
    if let Some(weight) = factors.iter().find(|weight| !weight.is_finite()) {
        return Err(invalid_argument("weight", &weight.to_string(), "finite numbers"));
    }
    Vector::new(&Embedding::blend(&given, &factors).map_err(report)?).map(Some)
}

#[pg_extern(sql = false)]
fn clip_rotate(embedding: Varlena<'_>, mean: Varlena<'_>, count: i32) -> Result<Vector, ErrorReport> {
    let wanted = usize::try_from(count).ok().filter(|wanted| (1..=MAX_DIMENSIONS).contains(wanted));
    let wanted =
        wanted.ok_or_else(|| invalid_argument("count", &count.to_string(), &format!("1 to {MAX_DIMENSIONS}")))?;
    Vector::of(&clip::rotate(embedding.vector()?, mean.vector()?, wanted).map_err(report)?)
}

/// The labels as vectors: remembered, or embedded now.
fn label_set(
    model: &str,
    is_default: bool,
    labels: Option<VarlenaArray<'_>>,
    templates: Option<VarlenaArray<'_>>,
) -> Result<Rc<LabelSet>, ErrorReport> {
    let labels = labels.ok_or_else(|| null_argument("labels"))?;
    let templates = templates.ok_or_else(|| null_argument("templates"))?;
    let arguments = Arguments { labels: labels.bytes(), templates: templates.bytes() };
    if let Some(known) = labels::known_labels(model, arguments).map_err(report)? {
        return Ok(known);
    }
    let (words, templates) = (texts(labels, "labels")?, texts(templates, "templates")?);
    if templates.is_empty() || templates.len() > MAX_TEMPLATES {
        return Err(wrong_length("templates", templates.len(), &format!("1 to {MAX_TEMPLATES} elements")));
    }
    let templates: Vec<&str> = templates.iter().map(String::as_str).collect();
    let set = labels::embed_labels(model, arguments, words, &templates)?;
    warn_of_other_models(model, is_default)?;
    Ok(set)
}

/// Returns the labels with their probabilities in descending order.
fn labelled(set: Rc<LabelSet>, embedding: &[f32]) -> Result<Labelled, ErrorReport> {
    let probabilities = set.classifier.probabilities(embedding).map_err(report)?;
    let mut found = reserve(probabilities.len())?;
    found.extend(probabilities.into_iter().enumerate());
    found.sort_unstable_by(|(i, a): &(usize, f32), (j, b)| b.total_cmp(a).then(i.cmp(j)));
    Ok(TableIterator::new(
        found.into_iter().map(move |(place, probability)| (Text(set.names[place].clone()), probability)),
    ))
}

fn texts(array: VarlenaArray<'_>, name: &str) -> Result<Vec<String>, ErrorReport> {
    /// Bytes of the allocator for a short string, and of a reference to it.
    const MORE_PER_TEXT: usize = 32 + size_of::<&str>();
    let bytes = array.bytes().len();
    let elements = array.into_elements()?;
    let mut texts = reserve(elements.len())?;
    // The bytes of the array are kept, too.
    clip::headroom((2 * bytes + MORE_PER_TEXT * elements.len()) as u64).map_err(report)?;
    for text in elements {
        texts.push(text.ok_or_else(|| null_element(name))?.text()?.into_owned());
    }
    Ok(texts)
}

fn vectors<'a>(array: VarlenaArray<'a>, name: &str) -> Result<Vec<&'a [f32]>, ErrorReport> {
    let elements = array.into_elements()?;
    let mut vectors = reserve(elements.len())?;
    for vector in elements {
        vectors.push(vector.ok_or_else(|| null_element(name))?.vector()?);
    }
    Ok(vectors)
}
