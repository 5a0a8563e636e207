//! The default model, and warnings about a model that is probably not the column's model.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use clip::Manifest;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::model_cache;
use crate::pg::error::report;
use crate::pg::messages::{text_of_another_model, text_of_one_of_two_models, warn};
use crate::pg::roles::{Extension, with_settings};
use crate::pg::settings;
use crate::pg::spi::{read, required};
use crate::pg::text::Text;
use crate::pg::varlena::Varlena;

pub fn model_or_default(model: Option<Varlena<'_>>) -> Result<String, ErrorReport> {
    model.map_or_else(|| Ok(default_model()), |model| Ok(model.text()?.into_owned()))
}

/// Returns the default model (`clip.default_model`). If it is the embedded model, and no column of this database has that model,
/// warns once per session. An application whose tables have the model opens many sessions, and its users chose the model.
pub fn default_model() -> String {
    thread_local! {
        static WARNED: Cell<bool> = const { Cell::new(false) };
    }
    let name = settings::default_model();
    if name.as_bytes() == settings::EMBEDDED_MODEL.to_bytes() && !WARNED.replace(true) && !is_recorded(&name) {
        let report = ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, "using the embedded model \"emoji\"", "pg_clip")
            .set_detail("The embedded model is only for a first try: it knows emoji, not photos.")
            .set_hint("For photos, run \"sudo pgclip pull openai/clip-vit-base-patch32\" on the server, and set \"clip.default_model\" to the model that it installs.");
        warn(report);
    }
    name
}

/// Returns true if a column of this database has the model. Runs as the extension's owner, because the caller may not be able to
/// use its schema.
fn is_recorded(model: &str) -> bool {
    let question = "SELECT EXISTS (SELECT FROM _clip.columns AS c WHERE c.model OPERATOR(pg_catalog.=) $1)";
    let ask = || read(question, &[Text(model.into()).into()], |row| required(row, 1));
    Extension::find().and_then(|extension| extension.as_owner(|_| planned_quickly(ask)).ok()).flatten().unwrap_or(false)
}

/// Runs a query on `_clip.columns` that is planned once per session. The search for the best order of its joins would take 20 ms, and
/// some megabytes that the session keeps. The order in which the view is written is good.
fn planned_quickly<T>(run: impl FnOnce() -> T) -> T {
    with_settings(&[(c"join_collapse_limit", c"1"), (c"from_collapse_limit", c"1")], run)
}

/// Returns false if all managed columns have the model with this digest, which their triggers contain. Most databases have one model,
/// and this query takes far less time than `_clip.columns`.
fn has_another(schema: &str, digest: &str) -> bool {
    let query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t \
         WHERE t.tgfoid OPERATOR(pg_catalog.=) pg_catalog.to_regprocedure($1)::pg_catalog.oid \
         AND pg_catalog.position(t.tgargs, pg_catalog.convert_to($2, 'SQL_ASCII')) OPERATOR(pg_catalog.=) 0)";
    let function = format!("{schema}.clip_auto_embed_row()");
    let found = read(query, &[Text(function).into(), Text(digest.into()).into()], |row| required(row, 1));
    found.ok().flatten().unwrap_or(true)
}

/// Warns, once per session and model, if a query text will probably be compared with embeddings of another model. There are two
/// cases. Either no column of this database has this model, although other columns have models. Or the caller named no model, and
/// a column has another model with the same number of dimensions.
pub fn warn_of_other_models(model: &str, is_default: bool) -> Result<(), ErrorReport> {
    thread_local! {
        static ASKED: RefCell<BTreeSet<(String, bool)>> = const { RefCell::new(BTreeSet::new()) };
    }
    let asked = (model.to_owned(), is_default);
    if ASKED.with_borrow(|known| known.contains(&asked)) {
        return Ok(());
    }
    ASKED.with_borrow_mut(|known| known.insert(asked));
    let of_model = |manifest: &Manifest| (manifest.digest.clone(), manifest.dimensions as i32);
    let (digest, dimensions) = model_cache::manifest(model, of_model).map_err(report)?;
    let Some(extension) = Extension::find() else { return Ok(()) };
    // Runs as the extension's owner, because the caller may not be able to use its schema, and a warning must not fail. A column
    // without a declared number of dimensions may have the same number.
    let found = extension.as_owner(|schema| {
        if !has_another(schema, &digest) {
            return Ok(None);
        }
        let query = "SELECT c.relation::pg_catalog.oid, c.target::pg_catalog.text, c.model, k.known FROM _clip.columns AS c \
             JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) c.relation AND a.attname OPERATOR(pg_catalog.=) c.target \
             CROSS JOIN (SELECT EXISTS (SELECT FROM _clip.columns AS o WHERE o.digest OPERATOR(pg_catalog.=) $1)) AS k (known) \
             WHERE c.digest OPERATOR(pg_catalog.<>) $1 AND (NOT k.known OR $2 AND a.atttypmod IN (-1, $3)) \
             ORDER BY c.trigger_oid LIMIT 1";
        planned_quickly(|| {
            read(query, &[digest.into(), is_default.into(), dimensions.into()], |row| {
                let column = (required::<pg_sys::Oid>(row, 1)?, required::<Text>(row, 2)?);
                Ok((column, required::<Text>(row, 3)?, required::<bool>(row, 4)?))
            })
        })
    });
    let Ok(Some(((relation, target), Text(other), known))) = found else { return Ok(()) };
    // Qualified as the caller's search_path requires.
    let named = "SELECT pg_catalog.format('%s.%I', $1::pg_catalog.regclass, $2)";
    if let Ok(Some(Text(column))) = read(named, &[relation.into(), target.into()], |row| required::<Text>(row, 1)) {
        warn(match known {
            true => text_of_one_of_two_models(model, &column, &other),
            false => text_of_another_model(model, &column, &other),
        });
    }
    Ok(())
}
