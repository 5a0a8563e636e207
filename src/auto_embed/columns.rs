//! The columns of a trigger, read from its condition. Statements that look into the catalogs would need rights that a writer
//! may lack, and may see a table as it was before the lock that their statement waited for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use crate::pg::messages::broken_trigger;

/// Numbers and types of a trigger's columns in the table that it fires for.
#[derive(Clone, Copy)]
pub struct Columns {
    pub source: i16,
    source_type: pg_sys::Oid,
    pub target: i16,
    target_type: pg_sys::Oid,
}

/// A trigger keeps its number when it is redefined, but not its condition, which names the columns. A partition's has its own
/// number, and its own columns in the condition.
type Definition = (pg_sys::Oid, CString);

thread_local! {
    static KNOWN: RefCell<HashMap<Definition, Columns>> = RefCell::new(HashMap::new());
}

/// More triggers than a session fires; beyond that, the map begins again.
const MAX_KNOWN: usize = 1000;

impl Columns {
    pub fn of(trigger: &pg_sys::Trigger, relation: &pg_sys::RelationData) -> Result<Self, ErrorReport> {
        let condition = trigger.tgqual;
        if condition.is_null() {
            return Err(broken_trigger("its condition names the columns, and it has none"));
        }
        // SAFETY: a null-terminated string that lives as long as the trigger.
        let condition = unsafe { CStr::from_ptr(condition) };
        let definition = (trigger.tgoid, condition.to_owned());
        if let Some(known) = KNOWN.with_borrow(|known| known.get(&definition).copied())
            && known.fits(relation)
        {
            return Ok(known);
        }
        let found = Self::in_condition(condition)
            .filter(|found| found.fits(relation))
            .ok_or_else(|| broken_trigger("its condition does not name a source and a column of type vector"))?;
        KNOWN.with_borrow_mut(|known| {
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(definition, found);
        });
        Ok(found)
    }

    pub fn is_image(self) -> bool {
        self.source_type == pg_sys::BYTEAOID
    }

    /// Whether the relation has such columns.
    fn fits(self, relation: &pg_sys::RelationData) -> bool {
        kind_of(relation, self.source) == Some(self.source_type)
            && kind_of(relation, self.target) == Some(self.target_type)
    }

    /// The one column of text or bytea and the one of pgvector's type that a condition asks for.
    fn in_condition(condition: &CStr) -> Option<Self> {
        let mut columns = variables(condition);
        columns.sort_unstable_by_key(|&(number, _)| number);
        columns.dedup();
        let is_source = |kind| [pg_sys::TEXTOID, pg_sys::VARCHAROID, pg_sys::BYTEAOID].contains(&kind);
        let &[one, other] = columns.as_slice() else { return None };
        let ((source, source_type), (target, target_type)) = if is_source(one.1) { (one, other) } else { (other, one) };
        (is_source(source_type) && is_vector(target_type)).then_some(Self { source, source_type, target, target_type })
    }
}

/// The type of a column, if there is one of that number.
pub fn kind_of(relation: &pg_sys::RelationData, column: i16) -> Option<pg_sys::Oid> {
    // SAFETY: the relation's own description; of a number that it does not have, or no more, the type is invalid.
    let kind = unsafe { pg_sys::SPI_gettypeid(relation.rd_att, i32::from(column)) };
    (column > 0 && kind != pg_sys::InvalidOid).then_some(kind)
}

/// Numbers and types of the columns that a stored expression refers to.
fn variables(condition: &CStr) -> Vec<(i16, pg_sys::Oid)> {
    // SAFETY: the server stored the expression, and reads it back as nodes; the list has as many elements as it says, each of
    // which is a Var, as no other kind is asked for.
    unsafe {
        let expression = pg_sys::stringToNode(condition.as_ptr());
        let Some(list) = pg_sys::pull_var_clause(expression.cast(), 0).as_ref() else { return Vec::new() };
        let variable = |i| &*(*list.elements.add(i)).ptr_value.cast::<pg_sys::Var>();
        (0..list.length as usize).map(variable).map(|variable| (variable.varattno, variable.vartype)).collect()
    }
}

/// Whether a type is that of pgvector.
fn is_vector(kind: pg_sys::Oid) -> bool {
    // SAFETY: both look into the catalogs, and say so where there is nothing.
    unsafe {
        let extension = pg_sys::get_extension_oid(c"vector".as_ptr(), true);
        extension != pg_sys::InvalidOid && pg_sys::getExtensionOfObject(pg_sys::TypeRelationId, kind) == extension
    }
}
