//! The search functions of SQL. Each reads its arguments, gets the statement, embeds the query and runs the statement.
//!
//! SQL functions build the statements from one description of the target. This module runs them with the privileges and the
//! search_path of the caller, in the caller's snapshot, and with the settings of a search.

mod column;
mod duplicates;
mod errors;
mod leaves;
mod named_index;
mod pending;
mod prepared;
mod query;
mod select;

use std::ffi::CStr;

use pgrx::datum::{DatumWithOid, Uuid};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::arguments::{name, optional_regclass, regclass, text};
use crate::pg::messages::{broken_extension, null_argument};
use crate::pg::roles::Extension;
use crate::pg::spi::{Row, read, required};
use crate::pg::text::ServerText;
use crate::pg::values::RawDatum;
use crate::pg::varlena::Varlena;
use prepared::{Prepared, Search, prepare_hybrid};
use query::Query;
use select::select;

type Found = TableIterator<
    'static,
    (
        name!(key, Option<i64>),
        name!(key_text, Option<ServerText>),
        name!(key_uuid, Option<Uuid>),
        name!(key_json, Option<ServerText>),
        name!(distance, Option<f64>),
        name!(rank, Option<i32>),
        name!(relevance, Option<f64>),
    ),
>;

type FoundTogether = TableIterator<
    'static,
    (
        name!(key, Option<i64>),
        name!(key_text, Option<ServerText>),
        name!(key_uuid, Option<Uuid>),
        name!(key_json, Option<ServerText>),
        name!(score, Option<f64>),
        name!(vector_place, Option<i32>),
        name!(words_place, Option<i32>),
    ),
>;

/// Returns pgvector's type.
fn vector_type(extension: &Extension) -> Result<pg_sys::Oid, ErrorReport> {
    let question = |schema: &str| {
        read(&format!("SELECT {schema}._clip_vector_type()"), &[], |row| required::<pg_sys::Oid>(row, 1))
    };
    extension.as_owner(question).ok().flatten().ok_or_else(|| broken_extension("the type vector does not exist"))
}

/// Embeds the query, and runs the search.
fn search(search: Search<'_>, query: Option<Query<'_>>, model: Option<Varlena<'_>>) -> Result<Found, ErrorReport> {
    let query = query.ok_or_else(|| null_argument("query"))?;
    let prepared = search.prepare(matches!(query, Query::Image(_)))?;
    let vector = prepared.column.embed(query, model)?;
    // SAFETY: the datum is a vector, which lives as long as the call.
    let vector = unsafe { DatumWithOid::new(vector, vector_type(&prepared.extension)?) };
    found(prepared, vector)
}

fn found(prepared: Prepared<'_>, vector: DatumWithOid<'_>) -> Result<Found, ErrorReport> {
    let read = |row: &Row<'_>| {
        let key = (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
        let rank: i32 = required(row, 6)?;
        let found = (key.0, key.1, key.2, key.3, row.get(5)?, Some(rank), row.get(7)?);
        Ok((rank, required::<bool>(row, 8)?, found))
    };
    Ok(TableIterator::new(prepared.nearest(vector, read)?))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, reason = "as many as the SQL function has")]
fn clip_search(
    relation: Option<pg_sys::Oid>,
    query: Option<Varlena<'_>>,
    k: Option<i32>,
    target: Option<&CStr>,
    filter: Option<Varlena<'_>>,
    model: Option<Varlena<'_>>,
    key_column: Option<&CStr>,
    min_relevance: Option<f64>,
    per: Option<&CStr>,
    per_size: Option<i32>,
    exclude: Option<RawDatum>,
    index: Option<pg_sys::Oid>,
    partial: Option<bool>,
) -> Result<Found, ErrorReport> {
    let wanted =
        Search { relation, k, target, filter, key_column, min_relevance, per, per_size, exclude, index, partial };
    search(wanted, query.map(Query::Text), model)
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, reason = "as many as the SQL function has")]
fn clip_search_image(
    relation: Option<pg_sys::Oid>,
    query: Option<Varlena<'_>>,
    k: Option<i32>,
    target: Option<&CStr>,
    filter: Option<Varlena<'_>>,
    model: Option<Varlena<'_>>,
    key_column: Option<&CStr>,
    min_relevance: Option<f64>,
    per: Option<&CStr>,
    per_size: Option<i32>,
    exclude: Option<RawDatum>,
    index: Option<pg_sys::Oid>,
    partial: Option<bool>,
) -> Result<Found, ErrorReport> {
    let wanted =
        Search { relation, k, target, filter, key_column, min_relevance, per, per_size, exclude, index, partial };
    search(wanted, query.map(Query::Image), model)
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, reason = "as many as the SQL function has")]
fn clip_search_vector(
    relation: Option<pg_sys::Oid>,
    query: Option<Varlena<'_>>,
    k: Option<i32>,
    target: Option<&CStr>,
    filter: Option<Varlena<'_>>,
    key_column: Option<&CStr>,
    min_relevance: Option<f64>,
    per: Option<&CStr>,
    per_size: Option<i32>,
    exclude: Option<RawDatum>,
    index: Option<pg_sys::Oid>,
    partial: Option<bool>,
) -> Result<Found, ErrorReport> {
    let query = query.ok_or_else(|| null_argument("query"))?;
    let wanted =
        Search { relation, k, target, filter, key_column, min_relevance, per, per_size, exclude, index, partial };
    // The vector may be the embedding of a text.
    let prepared = wanted.prepare(false)?;
    let kind = vector_type(&prepared.extension)?;
    // SAFETY: the SQL declaration of the argument is vector.
    let vector = unsafe { query.argument(kind) };
    found(prepared, vector)
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, reason = "as many as the SQL function has")]
fn clip_hybrid_search(
    relation: Option<pg_sys::Oid>,
    query: Option<Varlena<'_>>,
    words: Option<&CStr>,
    k: Option<i32>,
    target: Option<&CStr>,
    filter: Option<Varlena<'_>>,
    configuration: Option<pg_sys::Oid>,
    model: Option<Varlena<'_>>,
    key_column: Option<&CStr>,
    index: Option<pg_sys::Oid>,
    partial: Option<bool>,
) -> Result<FoundTogether, ErrorReport> {
    let query = query.ok_or_else(|| null_argument("query"))?;
    let words = words.ok_or_else(|| null_argument("words"))?;
    let prepared = prepare_hybrid(relation, k, target, filter, key_column, partial, words, index)?;
    let vector = prepared.column.embed(Query::Text(query), model)?;
    // SAFETY: the datums are of these types and live as long as the call.
    let (vector, configuration) = unsafe {
        let kind = pg_sys::REGCONFIGOID;
        let configuration = configuration.map_or(DatumWithOid::null_oid(kind), |oid| DatumWithOid::new(oid, kind));
        (DatumWithOid::new(vector, vector_type(&prepared.extension)?), configuration)
    };
    // SAFETY: the SQL declaration of the argument is text.
    let text = unsafe { query.argument(pg_sys::TEXTOID) };
    let asked = select(
        b"SELECT pg_catalog.websearch_to_tsquery(COALESCE($1, pg_catalog.get_current_ts_config()), $2)",
        &[configuration, text],
        |row| row.get::<ServerText>(1),
    )?;
    let Some(asked) = asked.into_iter().next().flatten() else { return Ok(TableIterator::empty()) };
    // SAFETY: the bytes come from a tsquery.
    let asked = unsafe { DatumWithOid::new(asked, pg_sys::TSQUERYOID) };
    let read =
        |row: &Row<'_>| Ok((row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?));
    Ok(TableIterator::new(prepared.run([vector, asked], read)?))
}

/// Runs one of our SQL functions and returns its rows. Its errors reach the client without the context of its queries.
fn forward<T>(
    call: &str,
    arguments: &[DatumWithOid<'_>],
    read: impl Fn(&Row<'_>) -> spi::SpiResult<T>,
) -> Result<Vec<T>, ErrorReport> {
    let extension = Extension::find().ok_or_else(|| broken_extension("the extension does not exist"))?;
    select(format!("SELECT * FROM {}.{call}", extension.schema).as_bytes(), arguments, read)
}

#[pg_extern(sql = false)]
fn clip_search_sql(
    relation: Option<pg_sys::Oid>,
    k: Option<i32>,
    target: Option<&CStr>,
    filter: Option<Varlena<'_>>,
    index: Option<pg_sys::Oid>,
) -> Result<Option<ServerText>, ErrorReport> {
    let target = target.ok_or_else(|| null_argument("target"))?;
    let relation = regclass(relation.ok_or_else(|| null_argument("relation"))?);
    let arguments = [relation, k.into(), name(target), text(filter), optional_regclass(index)];
    Ok(forward("_clip_search_sql($1, $2, $3, $4, $5)", &arguments, |row| row.get(1))?.pop().flatten())
}

type Typical = TableIterator<'static, (name!(mean, Option<f64>), name!(deviation, Option<f64>))>;

#[pg_extern(sql = false)]
fn clip_typical_distance(
    relation: Option<pg_sys::Oid>,
    query: Option<Varlena<'_>>,
    target: Option<&CStr>,
    sample: Option<i32>,
    model: Option<Varlena<'_>>,
) -> Result<Typical, ErrorReport> {
    let arguments = [
        regclass(relation.ok_or_else(|| null_argument("relation"))?),
        text(query),
        name(target.ok_or_else(|| null_argument("target"))?),
        sample.into(),
        text(model),
    ];
    let rows = forward("_clip_typical_distance($1, $2, $3, $4, $5)", &arguments, |row| Ok((row.get(1)?, row.get(2)?)))?;
    Ok(TableIterator::new(rows))
}
