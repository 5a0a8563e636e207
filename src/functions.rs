//! The functions that SQL calls: read arguments, one check, one call, return.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};

use clip::{Embedding, Error, Model, Options, Tower, image_info};
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use crate::datum::{Varlena, VarlenaArray, Vector};
use crate::encoding::Text;
use crate::error::{invalid_argument, null_argument, report, text_of_another_model, text_of_one_of_two_models, warn};
use crate::models;
use crate::rights::{Extension, read, required};
use crate::settings;

#[pg_extern(sql = false)]
fn clip_embed_text(input: Varlena<'_>) -> Result<Vector, ErrorReport> {
    embed_text(&default_model(), true, input)
}

#[pg_extern(sql = false)]
fn clip_embed_text_with(input: Option<Varlena<'_>>, model: Option<Varlena<'_>>) -> Result<Option<Vector>, ErrorReport> {
    let model = model.ok_or_else(|| null_argument("model"))?.text()?;
    input.map(|input| embed_text(&model, false, input)).transpose()
}

#[pg_extern(sql = false)]
fn clip_embed_image(input: Varlena<'_>) -> Result<Vector, ErrorReport> {
    embed_image(&default_model(), input)
}

#[pg_extern(sql = false)]
fn clip_embed_image_with(
    input: Option<Varlena<'_>>,
    model: Option<Varlena<'_>>,
) -> Result<Option<Vector>, ErrorReport> {
    let model = model.ok_or_else(|| null_argument("model"))?.text()?;
    input.map(|input| embed_image(&model, input)).transpose()
}

type EmbeddingRows<'a> = TableIterator<'a, (name!(ordinality, i32), name!(embedding, Option<Vector>))>;

#[pg_extern(sql = false)]
fn clip_embed_texts<'a>(
    inputs: Option<VarlenaArray<'a>>,
    model: Option<Varlena<'a>>,
) -> Result<EmbeddingRows<'a>, ErrorReport> {
    /// Enough to find texts of like length for one run, few enough to hold.
    const WINDOW: usize = 256;
    let embed = |model: &mut Model, inputs: &[Varlena<'a>], options: &Options| {
        let texts = inputs.iter().map(|input| input.text()).collect::<Result<Vec<_>, _>>()?;
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let embedded = model.embed_texts(&texts, options).map_err(Failure::Clip)?;
        Ok(embedded.into_iter().map(|text| text.embedding).collect())
    };
    batch(inputs, model, WINDOW, embed)
}

#[pg_extern(sql = false)]
fn clip_embed_images<'a>(
    inputs: Option<VarlenaArray<'a>>,
    model: Option<Varlena<'a>>,
) -> Result<EmbeddingRows<'a>, ErrorReport> {
    /// One run of an image tower.
    const WINDOW: usize = 8;
    let embed = |model: &mut Model, inputs: &[Varlena<'a>], options: &Options| {
        let limit = options.limits.bytes;
        let images = inputs.iter().map(|input| input.image(limit)).collect::<Result<Vec<_>, _>>()?;
        model.embed_images(&images, options).map_err(Failure::Clip)
    };
    batch(inputs, model, WINDOW, embed)
}

#[pg_extern(sql = false)]
fn clip_token_count(input: Option<Varlena<'_>>, model: Option<Varlena<'_>>) -> Result<Option<i32>, ErrorReport> {
    let Some(input) = input else { return Ok(None) };
    let (model, text) = (model_or_default(model)?, input.text()?);
    let count = models::with(&model, |model, options| model.token_count(&text, options)).map_err(report)?;
    Ok(Some(count as i32))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns are the type")]
fn clip_image_info(
    input: Varlena<'_>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(format, &'static str),
            name!(width, i32),
            name!(height, i32),
            name!(orientation, i32),
            name!(frames, i32),
        ),
    >,
    ErrorReport,
> {
    let limits = settings::limits();
    let info = image_info(input.image(limits.bytes)?, &limits).map_err(report)?;
    let orientation = i32::from(info.orientation);
    // Sides and frames are below 2^31: more than that has no header that a decoder accepts.
    let row = (info.format.name(), info.width as i32, info.height as i32, orientation, info.frames as i32);
    Ok(TableIterator::once(row))
}

#[pg_extern(sql = false)]
fn clip_prewarm(model: Option<Varlena<'_>>, tower: Option<Varlena<'_>>) -> Result<(), ErrorReport> {
    let tower = tower.ok_or_else(|| null_argument("tower"))?.text()?;
    let towers: &[Tower] = match &*tower {
        "text" => &[Tower::Text],
        "image" => &[Tower::Image],
        "both" => &[Tower::Text, Tower::Image],
        other => return Err(invalid_argument("tower", other, "\"text\", \"image\" and \"both\"")),
    };
    let load = |model: &mut Model, options: &Options| towers.iter().try_for_each(|&tower| model.load(tower, options));
    models::with(&model_or_default(model)?, load).map_err(report)
}

#[pg_extern(sql = false)]
fn clip_unload(model: Option<Varlena<'_>>) -> Result<i32, ErrorReport> {
    let model = model.map(|model| model.text()).transpose()?;
    Ok(models::unload(model.as_deref()) as i32)
}

fn embed_text(model: &str, is_default: bool, input: Varlena<'_>) -> Result<Vector, ErrorReport> {
    let text = input.text()?;
    let embedding = models::embed_text(model, &text).map_err(report)?;
    warn_of_other_models(model, is_default)?;
    Vector::new(&embedding)
}

/// Warns once per session and model of a text that is likely compared with vectors of another model: no column of this
/// database has this model, or, where nobody named the model, another column has another model of as many dimensions.
pub fn warn_of_other_models(model: &str, is_default: bool) -> Result<(), ErrorReport> {
    thread_local! {
        static ASKED: RefCell<BTreeSet<(String, bool)>> = const { RefCell::new(BTreeSet::new()) };
    }
    let asked = (model.to_owned(), is_default);
    if ASKED.with_borrow(|known| known.contains(&asked)) {
        return Ok(());
    }
    ASKED.with_borrow_mut(|known| known.insert(asked));
    let of_model = |model: &mut Model, _: &Options| {
        let manifest = model.manifest();
        Ok((manifest.digest.clone(), manifest.dimensions as i32))
    };
    let (digest, dimensions) = models::with(model, of_model).map_err(report)?;
    let Some(extension) = Extension::find() else { return Ok(()) };
    // As the extension's owner: who inserts may have no right to use its schema, and a warning must never fail. Columns of
    // no declared number of dimensions may have as many.
    let found = extension.as_owner(|schema| {
        let query = format!(
            "SELECT c.relation::pg_catalog.oid, c.target::pg_catalog.text, c.model, k.known FROM {schema}._clip_columns AS c \
             JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) c.relation AND a.attname OPERATOR(pg_catalog.=) c.target \
             CROSS JOIN (SELECT EXISTS (SELECT FROM {schema}._clip_columns AS o WHERE o.digest OPERATOR(pg_catalog.=) $1)) AS k (known) \
             WHERE c.digest OPERATOR(pg_catalog.<>) $1 AND (NOT k.known OR $2 AND a.atttypmod IN (-1, $3)) \
             ORDER BY c.trigger_oid LIMIT 1"
        );
        read(&query, &[digest.into(), is_default.into(), dimensions.into()], |row| {
            let column = (required::<pg_sys::Oid>(row, 1)?, required::<Text>(row, 2)?);
            Ok((column, required::<Text>(row, 3)?, required::<bool>(row, 4)?))
        })
    });
    let Ok(Some(((relation, target), Text(other), known))) = found else { return Ok(()) };
    // Named as the caller's search_path has it.
    let named = "SELECT pg_catalog.format('%s.%I', $1::pg_catalog.regclass, $2)";
    if let Ok(Some(Text(column))) = read(named, &[relation.into(), target.into()], |row| required::<Text>(row, 1)) {
        warn(match known {
            true => text_of_one_of_two_models(model, &column, &other),
            false => text_of_another_model(model, &column, &other),
        });
    }
    Ok(())
}

fn embed_image(model: &str, input: Varlena<'_>) -> Result<Vector, ErrorReport> {
    let image = input.image(settings::limits().bytes)?;
    Vector::new(&models::embed_image(model, image).map_err(report)?)
}

/// Why a window of a batch failed: in `clip`, or while its elements were read.
enum Failure {
    Clip(Error),
    Argument(ErrorReport),
}

impl From<ErrorReport> for Failure {
    fn from(report: ErrorReport) -> Self {
        Self::Argument(report)
    }
}

/// Embed an array window by window, as the rows are asked for: memory holds one window, and a cancel waits for none.
fn batch<'a>(
    inputs: Option<VarlenaArray<'a>>,
    model: Option<Varlena<'a>>,
    window: usize,
    embed: impl Fn(&mut Model, &[Varlena<'a>], &Options) -> Result<Vec<Embedding>, Failure> + 'a,
) -> Result<EmbeddingRows<'a>, ErrorReport> {
    let name = model_or_default(model)?;
    let elements = inputs.map(VarlenaArray::into_elements).transpose()?.unwrap_or_default();
    let mut ready = VecDeque::new();
    let mut next = 0;
    Ok(TableIterator::new((1..=elements.len() as i32).map(move |ordinality| {
        if ready.is_empty() {
            let elements = &elements[next..(next + window).min(elements.len())];
            ready = embed_window(&name, elements, next, &embed).unwrap_or_report();
            next += elements.len();
        }
        (ordinality, ready.pop_front().flatten().as_ref().map(Vector::new_or_raise))
    })))
}

/// Embed the elements that are not null. `first` is the position of the window in the array.
fn embed_window<'a>(
    name: &str,
    elements: &[Option<Varlena<'a>>],
    first: usize,
    embed: &impl Fn(&mut Model, &[Varlena<'a>], &Options) -> Result<Vec<Embedding>, Failure>,
) -> Result<VecDeque<Option<Embedding>>, ErrorReport> {
    pgrx::check_for_interrupts!();
    let positions: Vec<usize> = (0..elements.len()).filter(|&position| elements[position].is_some()).collect();
    let present: Vec<Varlena<'a>> = elements.iter().copied().flatten().collect();
    let mut rows = VecDeque::from(vec![None; elements.len()]);
    if present.is_empty() {
        return Ok(rows);
    }
    let argument = Cell::new(None);
    let embedded = models::with(name, |model, options| match embed(model, &present, options) {
        Ok(embedded) => Ok(embedded),
        Err(Failure::Clip(Error::Item { index, source })) => {
            Err(Error::Item { index: first + positions[index], source })
        }
        Err(Failure::Clip(error)) => Err(error),
        Err(Failure::Argument(report)) => {
            argument.set(Some(report));
            Ok(Vec::new())
        }
    });
    if let Some(report) = argument.take() {
        return Err(report);
    }
    for (position, embedding) in positions.into_iter().zip(embedded.map_err(report)?) {
        rows[position] = Some(embedding);
    }
    Ok(rows)
}

pub fn model_or_default(model: Option<Varlena<'_>>) -> Result<String, ErrorReport> {
    model.map_or_else(|| Ok(default_model()), |model| Ok(model.text()?.into_owned()))
}

/// The model of `clip.default_model`. Says once in a session if that is the embedded one.
fn default_model() -> String {
    thread_local! {
        static WARNED: Cell<bool> = const { Cell::new(false) };
    }
    let name = settings::default_model();
    if name.as_bytes() == settings::EMBEDDED_MODEL.to_bytes() && !WARNED.replace(true) {
        let report = ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, "using the embedded model \"emoji\"", "pg_clip")
            .set_detail("It is there for a first try: it knows emoji, not photographs.")
            .set_hint("For photographs, run \"pgclip pull openai/clip-vit-base-patch32\" on the server, and set \"clip.default_model\" to the model it adds.");
        warn(report);
    }
    name
}
