//! `clip_embed_text`, `clip_embed_image` and the functions about one text, one image or one model.

use clip::{Tower, image_info};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::error::report;
use crate::pg::messages::{invalid_argument, null_argument};

use crate::model_cache;
use crate::model_cache::labels;
use crate::model_choice::{default_model, model_or_default, warn_of_other_models};
use crate::pg::settings;
use crate::pg::varlena::Varlena;
use crate::pg::vector::Vector;

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

#[pg_extern(sql = false)]
fn clip_token_count(input: Option<Varlena<'_>>, model: Option<Varlena<'_>>) -> Result<Option<i32>, ErrorReport> {
    let Some(input) = input else { return Ok(None) };
    let (model, text) = (model_or_default(model)?, input.text()?);
    let count = model_cache::with(&model, |model, options| model.token_count(&text, options)).map_err(report)?;
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
    let model = model_or_default(model)?;
    Ok(towers.iter().try_for_each(|&tower| model_cache::load(&model, tower))?)
}

#[pg_extern(sql = false)]
fn clip_unload(model: Option<Varlena<'_>>) -> Result<i32, ErrorReport> {
    let model = model.map(|model| model.text()).transpose()?;
    labels::unload(model.as_deref());
    Ok(model_cache::unload(model.as_deref()) as i32)
}

fn embed_text(model: &str, is_default: bool, input: Varlena<'_>) -> Result<Vector, ErrorReport> {
    let text = input.text()?;
    let embedding = model_cache::embed_text(model, &text)?;
    warn_of_other_models(model, is_default)?;
    Vector::new(&embedding)
}

fn embed_image(model: &str, input: Varlena<'_>) -> Result<Vector, ErrorReport> {
    let image = input.image(settings::limits().bytes)?;
    Vector::new(&model_cache::embed_image(model, image)?)
}
