//! Near-duplicates, and the recall of an index.

use std::ffi::CStr;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::forward;
use super::named_index::with_index;
use super::prepared::settings;
use super::select::{ef_search, select};
use crate::pg::arguments::{name, optional_regclass, regclass, text};
use crate::pg::messages::{broken_extension, null_argument};
use crate::pg::roles::{Extension, with_settings};
use crate::pg::spi::{Row, read};
use crate::pg::text::ServerText;
use crate::pg::values::RawDatum;
use crate::pg::varlena::Varlena;

type Pairs = TableIterator<
    'static,
    (name!(key, Option<ServerText>), name!(duplicate, Option<ServerText>), name!(distance, Option<f64>)),
>;

#[pg_extern(sql = false)]
fn clip_near_duplicates(
    relation: Option<pg_sys::Oid>,
    target: Option<&CStr>,
    max_distance: Option<f64>,
    filter: Option<Varlena<'_>>,
    neighbours: Option<i32>,
    index: Option<pg_sys::Oid>,
) -> Result<Pairs, ErrorReport> {
    let extension = Extension::find().ok_or_else(|| broken_extension("the extension does not exist"))?;
    let arguments = arguments(relation, target, max_distance, filter, neighbours, index)?;
    let found = extension.as_owner(|schema| {
        let question = format!("SELECT {schema}._clip_duplicates_sql($1, $2, $4, $3, $5, $6)");
        read(&question, &arguments, |row| row.get::<ServerText>(1))
    });
    let statement =
        found.ok().flatten().flatten().ok_or_else(|| broken_extension("a function returned no statement"))?;
    let ef_search = ef_search(neighbours.unwrap_or_default().saturating_mul(2));
    let run = || select(statement.bytes(), &[max_distance.into()], |row| Ok((row.get(1)?, row.get(2)?, row.get(3)?)));
    let (relation, target) = column(relation, target)?;
    let pairs = with_index(relation, target, index, || with_settings(&settings(&ef_search), run))?;
    Ok(TableIterator::new(pairs))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns are the type")]
fn clip_duplicate_groups(
    relation: Option<pg_sys::Oid>,
    target: Option<&CStr>,
    max_distance: Option<f64>,
    filter: Option<Varlena<'_>>,
    neighbours: Option<i32>,
    index: Option<pg_sys::Oid>,
) -> Result<TableIterator<'static, (name!(group_number, Option<i32>), name!(key, Option<ServerText>))>, ErrorReport> {
    let arguments = arguments(relation, target, max_distance, filter, neighbours, index)?;
    let rows =
        forward("_clip_duplicate_groups($1, $2, $3, $4, $5, $6)", &arguments, |row| Ok((row.get(1)?, row.get(2)?)))?;
    Ok(TableIterator::new(rows))
}

fn column(relation: Option<pg_sys::Oid>, target: Option<&CStr>) -> Result<(pg_sys::Oid, &CStr), ErrorReport> {
    let relation = relation.ok_or_else(|| null_argument("relation"))?;
    Ok((relation, target.ok_or_else(|| null_argument("target"))?))
}

fn arguments<'a>(
    relation: Option<pg_sys::Oid>,
    target: Option<&'a CStr>,
    max_distance: Option<f64>,
    filter: Option<Varlena<'a>>,
    neighbours: Option<i32>,
    index: Option<pg_sys::Oid>,
) -> Result<[DatumWithOid<'a>; 6], ErrorReport> {
    let (relation, target) = column(relation, target)?;
    Ok([
        regclass(relation),
        name(target),
        max_distance.into(),
        text(filter),
        neighbours.into(),
        optional_regclass(index),
    ])
}

type Recall = TableIterator<
    'static,
    (
        name!(ef_search, Option<i32>),
        name!(recall, Option<f32>),
        name!(median_ms, Option<f32>),
        name!(queries, Option<i32>),
    ),
>;

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, reason = "as many as the SQL function has")]
fn clip_index_recall(
    relation: Option<pg_sys::Oid>,
    target: Option<&CStr>,
    sample: Option<i32>,
    k: Option<i32>,
    ef_search: Option<RawDatum>,
    queries: Option<RawDatum>,
    time_limit: Option<RawDatum>,
    model: Option<Varlena<'_>>,
    index: Option<pg_sys::Oid>,
) -> Result<Recall, ErrorReport> {
    // SAFETY: the SQL declaration gives the arguments these types.
    let passed = |argument: Option<RawDatum>, kind| unsafe { DatumWithOid::new(argument, kind) };
    let (relation, target) = column(relation, target)?;
    let arguments = [
        regclass(relation),
        name(target),
        sample.into(),
        k.into(),
        passed(ef_search, pg_sys::INT4ARRAYOID),
        passed(queries, pg_sys::TEXTARRAYOID),
        passed(time_limit, pg_sys::INTERVALOID),
        text(model),
        optional_regclass(index),
    ];
    let rows = with_index(relation, target, index, || {
        let read = |row: &Row<'_>| Ok((row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
        forward("_clip_index_recall($1, $2, $3, $4, $5, $6, $7, $8, $9)", &arguments, read)
    })?;
    Ok(TableIterator::new(rows))
}
