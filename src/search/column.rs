//! The embedding column of a search, and its recorded model.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::arguments::{name, regclass};
use crate::pg::messages::{broken_extension, null_argument};
use crate::pg::roles::Extension;
use crate::pg::spi::read;
use crate::pg::text::Text;

/// An embedding column, and its model if that is recorded.
pub struct SearchColumn<'a> {
    pub relation: pg_sys::Oid,
    pub target: &'a CStr,
    pub made_by: Option<Model>,
    /// The name of the table in messages.
    pub named: String,
}

#[derive(Clone)]
pub struct Model {
    pub name: String,
    pub digest: String,
}

/// A table and the name of its embedding column.
pub type Key = (pg_sys::Oid, Vec<u8>);

/// A model, and the name of the table in messages.
type Made = (Model, String);

thread_local! {
    /// Cached models of columns. A query without a subquery looks up its model once per row.
    static KNOWN: RefCell<HashMap<Key, Made>> = RefCell::default();
    /// True if any table has changed since, because models are recorded in triggers.
    static CHANGED: Cell<bool> = const { Cell::new(false) };
    static IS_REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Called by the server whenever the description of a table may have changed.
#[pg_guard]
extern "C-unwind" fn forget_columns(_argument: pg_sys::Datum, _relation: pg_sys::Oid) {
    CHANGED.set(true);
}

impl<'a> SearchColumn<'a> {
    /// Finds the column with its recorded model. Fails if `is_required` and no model is recorded.
    pub fn find(
        relation: Option<pg_sys::Oid>,
        target: Option<&'a CStr>,
        is_required: bool,
    ) -> Result<Self, ErrorReport> {
        const MAX_COLUMNS: usize = 1000;
        let relation = relation.ok_or_else(|| null_argument("relation"))?;
        let target = target.ok_or_else(|| null_argument("target"))?;
        if !IS_REGISTERED.replace(true) {
            // SAFETY: the function lives as long as this library, which is never unloaded.
            unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(forget_columns), pg_sys::Datum::null()) };
        }
        if CHANGED.replace(false) {
            KNOWN.with_borrow_mut(HashMap::clear);
        }
        let key = (relation, target.to_bytes().to_vec());
        if let Some((model, named)) = KNOWN.with_borrow(|known| known.get(&key).cloned()) {
            return Ok(Self { relation, target, made_by: Some(model), named });
        }
        let extension = Extension::find().ok_or_else(|| broken_extension("the extension does not exist"))?;
        // Runs as the extension's owner, because a role that uses a view may not be able to use our schema. Reads only catalogs.
        let found = extension.as_owner(|schema| {
            let question =
                format!("SELECT m.model, m.digest, m.named FROM {schema}._clip_query_model($1, $2, $3) AS m");
            read(&question, &[regclass(relation), name(target), is_required.into()], |row| {
                Ok((row.get::<Text>(1)?, row.get::<Text>(2)?, row.get::<Text>(3)?))
            })
        });
        let (model, digest, named) = found.ok().flatten().unwrap_or_default();
        let named = named.map_or_else(String::new, |text| text.0);
        let made_by = Model::new(model, digest);
        if let Some(model) = &made_by {
            KNOWN.with_borrow_mut(|known| {
                if known.len() >= MAX_COLUMNS {
                    known.clear();
                }
                known.insert(key, (model.clone(), named.clone()));
            });
        }
        Ok(Self { relation, target, made_by, named })
    }
}

impl Model {
    pub fn new(name: Option<Text>, digest: Option<Text>) -> Option<Self> {
        name.zip(digest).map(|(Text(name), Text(digest))| Self { name, digest })
    }
}
