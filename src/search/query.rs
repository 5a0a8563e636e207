//! What is searched by: a text or an image as a vector of the model that made the column.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::time::{Duration, Instant};

use pgrx::datum::{DatumWithOid, IntoDatum};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::select::{Statement, select, with_settings};
use crate::datum::{Varlena, Vector};
use crate::encoding::Text;
use crate::error::{column_of_another_model, notice, null_argument, pending_rows, report};
use crate::functions::{model_or_default, warn_of_other_models};
use crate::models;
use crate::rights::{Extension, read, required};
use crate::settings;

/// A column of vectors, and the model that made it if that is recorded.
pub struct Column<'a> {
    pub relation: pg_sys::Oid,
    pub target: &'a CStr,
    pub made_by: Option<Model>,
    /// The table as messages name it.
    pub named: String,
}

pub struct Model {
    pub name: String,
    pub digest: String,
}

/// What a query is before it is a vector.
#[derive(Clone, Copy)]
pub enum Query<'a> {
    Text(Varlena<'a>),
    Image(Varlena<'a>),
}

impl Column<'_> {
    /// Embeds a query: by the model that is named, or by the column's, or by the default one.
    pub fn embed(&self, query: Query<'_>, named: Option<Varlena<'_>>) -> Result<Vector, ErrorReport> {
        let is_named = named.is_some();
        let model = match (&self.made_by, named) {
            (Some(made_by), None) => made_by.name.clone(),
            (_, named) => model_or_default(named)?,
        };
        match &self.made_by {
            Some(made_by) => {
                let found = models::with(&model, |model, _| Ok(model.manifest().digest.clone())).map_err(report)?;
                if found != made_by.digest {
                    let target = self.target.to_string_lossy();
                    return Err(column_of_another_model(&target, &self.named, made_by, &model, &found));
                }
            }
            None => warn_of_other_models(&model, !is_named)?,
        }
        let embedding = match query {
            Query::Text(text) => models::embed_text(&model, &text.text()?),
            Query::Image(image) => models::embed_image(&model, image.image(settings::limits().bytes)?),
        };
        Vector::new(&embedding.map_err(report)?)
    }

    /// Says once per session that rows have no vector yet, so that no search finds them. Looks again after a minute.
    pub fn notice_pending(&self, extension: &Extension) {
        const LOOK_AGAIN: Duration = Duration::from_secs(60);
        const MOST_COLUMNS: usize = 1000;
        thread_local! {
            // When it was looked at last; None where there is nothing more to say.
            static LOOKED: RefCell<HashMap<(u32, Vec<u8>), Option<Instant>>> = RefCell::default();
        }
        // SAFETY: an integer that the server sets before any of our code runs.
        if self.made_by.is_none() || unsafe { pg_sys::ParallelWorkerNumber } >= 0 {
            return;
        }
        let column = (self.relation.to_u32(), self.target.to_bytes().to_vec());
        let last = LOOKED.with_borrow(|looked| looked.get(&column).copied());
        if last.is_some_and(|last| last.is_none_or(|last| last.elapsed() < LOOK_AGAIN)) {
            return;
        }
        let pending = pending(extension, self.relation, self.target);
        LOOKED.with_borrow_mut(|looked| {
            if looked.len() >= MOST_COLUMNS {
                looked.clear();
            }
            looked.insert(column, pending.is_none().then(Instant::now));
        });
        let Some(pending) = pending else { return };
        if let (Some((Text(table), _)), Some((_, Text(literal)))) = (named(self.relation), named(pending.top)) {
            notice(pending_rows(&self.target.to_string_lossy(), &table, &literal, &pending));
        }
    }
}

/// Rows that have a source and no vector.
pub struct Pending {
    pub rows: i64,
    /// Whether they are of a sample of the table.
    pub is_sample: bool,
    /// Whether a worker fills them.
    pub is_queued: bool,
    /// The table that the model is recorded of, which a partition is part of.
    top: pg_sys::Oid,
}

/// A table as the caller's search_path has it, and as a literal.
fn named(relation: pg_sys::Oid) -> Option<(Text, Text)> {
    let question = "SELECT r.n, pg_catalog.quote_literal(r.n) FROM (SELECT $1::pg_catalog.text) AS r (n)";
    read(question, &[regclass(relation)], |row| Ok((required(row, 1)?, required(row, 2)?))).ok().flatten()
}

fn pending(extension: &Extension, relation: pg_sys::Oid, target: &CStr) -> Option<Pending> {
    // SAFETY: a variable of this process.
    let role = unsafe { pg_sys::GetUserId() };
    let found = extension.as_owner(|schema| {
        let question = format!(
            "SELECT p.statement, p.sampled, p.failed, p.queued, p.top FROM {schema}._clip_pending_statement($1, $2, $3) AS p"
        );
        read(&question, &[role.into(), regclass(relation), name(target)], |row| {
            Ok((row.get::<Statement>(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        })
    });
    let Ok(Some((Some(statement), Some(is_sample), Some(failed), Some(is_queued), Some(top)))) = found else {
        return None;
    };
    let (failed, top): (i64, pg_sys::Oid) = (failed, top);
    // An index of pending rows is used even where statistics, which are older, say that it is worth nothing.
    let settings: &[(&CStr, &str)] = &[(c"enable_seqscan", "off"), (c"jit", "off")];
    let rows = with_settings(settings, || select(&statement, &[], |row| row.get::<i64>(1))).pop().flatten()?;
    // Failed rows have no vector either, and are reported elsewhere.
    (rows > failed).then_some(Pending { rows, is_sample, is_queued, top })
}

/// A relation as an argument of a function.
pub fn regclass<'a>(relation: pg_sys::Oid) -> DatumWithOid<'a> {
    // SAFETY: both types are an OID.
    unsafe { DatumWithOid::new(relation, pg_sys::REGCLASSOID) }
}

/// An argument of type name, passed on.
pub fn name(name: &CStr) -> DatumWithOid<'_> {
    struct Name<'a>(&'a CStr);
    impl IntoDatum for Name<'_> {
        fn into_datum(self) -> Option<pg_sys::Datum> {
            Some(pg_sys::Datum::from(self.0.as_ptr()))
        }

        fn type_oid() -> pg_sys::Oid {
            pg_sys::NAMEOID
        }
    }
    // SAFETY: callers pass an argument whose SQL declaration is name, which has 64 bytes.
    unsafe { DatumWithOid::new(Name(name), pg_sys::NAMEOID) }
}

/// An argument of type text, passed on.
pub fn text(text: Option<Varlena<'_>>) -> DatumWithOid<'_> {
    // SAFETY: callers pass arguments whose SQL declaration is text.
    text.map_or(DatumWithOid::null_oid(pg_sys::TEXTOID), |text| unsafe { text.argument(pg_sys::TEXTOID) })
}

/// The model of a column: its record, or an error if there must be one.
pub fn column<'a>(
    extension: &Extension,
    relation: Option<pg_sys::Oid>,
    target: Option<&'a CStr>,
    is_required: bool,
) -> Result<Column<'a>, ErrorReport> {
    let relation = relation.ok_or_else(|| null_argument("relation"))?;
    let target = target.ok_or_else(|| null_argument("target"))?;
    let found = extension.as_owner(|schema| {
        let question = format!("SELECT m.model, m.digest, m.named FROM {schema}._clip_query_model($1, $2, $3) AS m");
        read(&question, &[regclass(relation), name(target), is_required.into()], |row| {
            Ok((row.get::<Text>(1)?, row.get::<Text>(2)?, row.get::<Text>(3)?))
        })
    });
    let (model, digest, named) = found.ok().flatten().unwrap_or_default();
    Ok(Column {
        relation,
        target,
        made_by: made_by(model, digest),
        named: named.map_or_else(String::new, |text| text.0),
    })
}

pub fn made_by(model: Option<Text>, digest: Option<Text>) -> Option<Model> {
    model.zip(digest).map(|(Text(name), Text(digest))| Model { name, digest })
}

#[pg_extern(sql = false)]
fn clip_query(
    relation: Option<pg_sys::Oid>,
    query: Option<Varlena<'_>>,
    target: Option<&CStr>,
) -> Result<Option<Vector>, ErrorReport> {
    query_of_column(relation, query.map(Query::Text), target)
}

#[pg_extern(sql = false)]
fn clip_query_image(
    relation: Option<pg_sys::Oid>,
    query: Option<Varlena<'_>>,
    target: Option<&CStr>,
) -> Result<Option<Vector>, ErrorReport> {
    query_of_column(relation, query.map(Query::Image), target)
}

fn query_of_column(
    relation: Option<pg_sys::Oid>,
    query: Option<Query<'_>>,
    target: Option<&CStr>,
) -> Result<Option<Vector>, ErrorReport> {
    let Some(extension) = Extension::find() else { return Ok(None) };
    let column = column(&extension, relation, target, true)?;
    let Some(query) = query else { return Ok(None) };
    let vector = column.embed(query, None)?;
    column.notice_pending(&extension);
    Ok(Some(vector))
}

#[pg_extern(sql = false)]
fn clip_query_with(
    relation: Option<pg_sys::Oid>,
    target: Option<&CStr>,
    query: Option<Varlena<'_>>,
    model: Option<Varlena<'_>>,
) -> Result<Option<Vector>, ErrorReport> {
    let Some(extension) = Extension::find() else { return Ok(None) };
    let query = query.ok_or_else(|| null_argument("query"))?;
    column(&extension, relation, target, false)?.embed(Query::Text(query), model).map(Some)
}
