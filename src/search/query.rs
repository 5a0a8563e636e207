//! The query of a search: a text or an image, embedded with the column's model.

use std::ffi::CStr;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::column::SearchColumn;
use super::errors::column_of_another_model;
use crate::model_cache;
use crate::model_choice::{model_or_default, warn_of_other_models};
use crate::pg::error::report;
use crate::pg::messages::null_argument;
use crate::pg::settings;
use crate::pg::varlena::Varlena;
use crate::pg::vector::Vector;

/// A query that is not embedded yet.
#[derive(Clone, Copy)]
pub enum Query<'a> {
    Text(Varlena<'a>),
    Image(Varlena<'a>),
}

impl SearchColumn<'_> {
    /// Embeds a query with the named model, or with the column's model, or with the default model.
    pub fn embed(&self, query: Query<'_>, named: Option<Varlena<'_>>) -> Result<Vector, ErrorReport> {
        let is_named = named.is_some();
        let model = match (&self.made_by, named) {
            (Some(made_by), None) => made_by.name.clone(),
            (_, named) => model_or_default(named)?,
        };
        match &self.made_by {
            Some(made_by) => {
                let found = model_cache::manifest(&model, |manifest| manifest.digest.clone()).map_err(report)?;
                if found != made_by.digest {
                    let target = self.target.to_string_lossy();
                    return Err(column_of_another_model(&target, &self.named, made_by, &model, &found));
                }
            }
            None => warn_of_other_models(&model, !is_named)?,
        }
        let embedding = match query {
            Query::Text(text) => model_cache::embed_text(&model, &text.text()?),
            Query::Image(image) => model_cache::embed_image(&model, image.image(settings::limits().bytes)?),
        };
        Vector::new(&embedding?)
    }
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
    let column = SearchColumn::find(relation, target, true)?;
    let Some(query) = query else { return Ok(None) };
    let vector = column.embed(query, None)?;
    column.notice_pending();
    Ok(Some(vector))
}

#[pg_extern(sql = false)]
fn clip_query_with(
    relation: Option<pg_sys::Oid>,
    target: Option<&CStr>,
    query: Option<Varlena<'_>>,
    model: Option<Varlena<'_>>,
) -> Result<Option<Vector>, ErrorReport> {
    let query = query.ok_or_else(|| null_argument("query"))?;
    SearchColumn::find(relation, target, false)?.embed(Query::Text(query), model).map(Some)
}
