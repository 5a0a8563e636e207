//! The rows of `clip_models`, `clip_loaded_models` and `clip_diagnose()`.

use clip::{Model, Runtime, Tower};
use pgrx::prelude::*;

use crate::citus;
use crate::model_cache;
use crate::pg::interrupt::interrupted;
use crate::pg::roles::Extension;
use crate::pg::settings;
use crate::pg::text::Text;
use crate::pg::timestamp::timestamp;
use crate::service;

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns are the type")]
fn clip_models() -> TableIterator<
    'static,
    (
        name!(name, Text),
        name!(family, Option<Text>),
        name!(dimensions, Option<i32>),
        name!(context_length, Option<i32>),
        name!(image_size, Option<i32>),
        name!(digest, Option<String>),
        name!(size_bytes, Option<i64>),
        name!(license, Option<Text>),
        name!(prepared, bool),
        name!(is_default, bool),
    ),
> {
    let (paths, default, options) = (settings::model_paths(), settings::default_model(), settings::options());
    TableIterator::new(clip::store::names_in(&paths).into_iter().map(move |name| {
        // A model that cannot be used is listed with NULLs. Using it raises the error with the cause.
        let folder = clip::store::folder_in(&paths, &name).ok();
        let manifest = folder.as_ref().and_then(|folder| Model::open(folder, &name, interrupted).ok());
        let manifest = manifest.as_ref().map(Model::manifest);
        let is_default = name == default;
        let check = |folder| clip::store::check_prepared(folder, &name, &options.runtime, options.prepared.as_deref());
        let prepared = folder.as_deref().is_some_and(|folder| check(folder).is_ok());
        (
            Text(name),
            manifest.map(|manifest| Text(manifest.family.clone())),
            manifest.map(|manifest| manifest.dimensions as i32),
            manifest.map(|manifest| manifest.text.context_length as i32),
            manifest.map(|manifest| manifest.image.height as i32),
            manifest.map(|manifest| manifest.digest.clone()),
            manifest.map(|manifest| manifest.size_bytes() as i64),
            manifest.and_then(|manifest| manifest.license.clone()).map(Text),
            prepared,
            is_default,
        )
    }))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns are the type")]
fn clip_loaded_models() -> TableIterator<
    'static,
    (
        name!(model, Text),
        name!(tower, &'static str),
        name!(loaded_at, TimestampWithTimeZone),
        name!(load_ms, f64),
        name!(calls, i64),
        name!(items, i64),
        name!(total_ms, f64),
        name!(cache_hits, i64),
        name!(weights, &'static str),
    ),
> {
    let mut rows = Vec::new();
    model_cache::for_each(|name, open| {
        for tower in [Tower::Text, Tower::Image] {
            let Some(usage) = open.model.usage(tower) else { continue };
            let cache_hits = if tower == Tower::Text { open.cache_hits as i64 } else { 0 };
            rows.push((
                Text(name.to_owned()),
                tower.name(),
                timestamp(usage.loaded_at),
                usage.load_time.as_secs_f64() * 1e3,
                usage.calls as i64,
                usage.items as i64,
                usage.total_time.as_secs_f64() * 1e3,
                cache_hits,
                if usage.shared { "shared" } else { "private" },
            ));
        }
    });
    TableIterator::new(rows)
}

#[pg_extern(sql = false)]
fn clip_diagnose() -> TableIterator<'static, (name!(item, Text), name!(value, Text))> {
    // SAFETY: reads the current role's attributes; may raise an error, which pgrx turns into an unwinding panic.
    let superuser = unsafe { pg_sys::superuser() };
    let path = |path: std::path::PathBuf| match superuser {
        true => path.display().to_string(),
        false => "visible only to superusers".into(),
    };
    let options = settings::options();
    let formats: Vec<_> = options.limits.formats.iter().map(|format| format.name()).collect();
    let items: [(_, String); 16] = [
        ("pg_clip", env!("CARGO_PKG_VERSION").into()),
        ("PostgreSQL", pg_sys::PG_VERSION_STR.to_string_lossy().into_owned()),
        ("ONNX Runtime library", path(settings::onnxruntime_path())),
        (
            "ONNX Runtime",
            Runtime::load(&options.runtime).map_or_else(|error| error.to_string(), |it| it.build_info().into()),
        ),
        ("telemetry", telemetry().into()),
        ("CPU features", clip::cpu_features()),
        ("model path", path(std::env::join_paths(settings::model_paths()).unwrap_or_default().into())),
        ("models", clip::store::names_in(&settings::model_paths()).join(", ")),
        ("default model", settings::default_model()),
        ("threads", options.threads.to_string()),
        ("batch size", options.batch_size.to_string()),
        ("query cache size", settings::query_cache_size().to_string()),
        ("largest image", format!("{} bytes, {} pixels", options.limits.bytes, options.limits.pixels)),
        ("image formats", formats.join(", ")),
        ("largest text", format!("{} bytes", clip::MAX_TEXT_BYTES)),
        ("embedding service", service::view::summary()),
    ];
    let items = items.map(|(item, value)| (Text(item.into()), Text(value)));
    TableIterator::new(items.into_iter().chain(nodes()))
}

/// Returns the rows about the nodes of Citus, as the role that asks sees them.
fn nodes() -> Vec<(Text, Text)> {
    let Some(extension) = Extension::find().filter(|_| citus::is_loaded()) else { return Vec::new() };
    let question = format!("SELECT d.item, d.value FROM {}._clip_citus_diagnose() AS d", extension.schema);
    Spi::connect_mut(|client| {
        let rows = client.update(&question, None, &[])?;
        rows.map(|row| Ok((row.get::<Text>(1)?, row.get::<Text>(2)?)))
            .filter_map(|row: spi::SpiResult<_>| match row {
                Ok((item, value)) => Some(Ok((item?, value?))),
                Err(error) => Some(Err(error)),
            })
            .collect::<spi::SpiResult<Vec<_>>>()
    })
    .unwrap_or_default()
}

fn telemetry() -> &'static str {
    match clip::TELEMETRY_OFF.iter().all(|name| std::env::var_os(name).is_some_and(|value| value == "1")) {
        true => "off",
        false => "not switched off",
    }
}
