//! The columns of a trigger, read from its condition. Catalog queries would need privileges that a writer may not have, and could
//! see the table in a state before the lock that the statement waited for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use crate::pg::messages::broken_trigger;
use crate::pg::vector::VectorType;

/// Numbers and types of a trigger's columns in the table for which it fires.
#[derive(Clone, Copy)]
pub struct Columns {
    pub source: i16,
    source_type: pg_sys::Oid,
    pub target: i16,
    target_kind: pg_sys::Oid,
    pub target_type: VectorType,
}

/// OID and condition of a trigger. A redefined trigger keeps its OID, but not its condition, which names the columns. The trigger of
/// a partition has its own OID, and the partition's columns in its condition.
type Definition = (pg_sys::Oid, CString);

thread_local! {
    static KNOWN: RefCell<HashMap<Definition, Columns>> = RefCell::new(HashMap::new());
}

/// Size limit of the cache, more triggers than a session fires. The cache is cleared when it is full.
const MAX_KNOWN: usize = 1000;

impl Columns {
    pub fn of(trigger: &pg_sys::Trigger, relation: &pg_sys::RelationData) -> Result<Self, ErrorReport> {
        let condition = trigger.tgqual;
        if condition.is_null() {
            return Err(broken_trigger("it has no condition, which must name the columns"));
        }
        // SAFETY: a null-terminated string that lives as long as the trigger.
        let condition = unsafe { CStr::from_ptr(condition) };
        let definition = (trigger.tgoid, condition.to_owned());
        if let Some(known) = KNOWN.with_borrow(|known| known.get(&definition).copied())
            && known.fits(relation)
        {
            return Ok(known);
        }
        let found = Self::in_condition(condition).filter(|found| found.fits(relation)).ok_or_else(|| {
            broken_trigger("its condition does not name a source and a column of type vector or halfvec")
        })?;
        if [found.source, found.target].into_iter().any(|column| is_generated(relation, column)) {
            return Err(broken_trigger("the server computes a generated column after BEFORE triggers have run"));
        }
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

    /// Returns true if the relation has columns with these numbers and types.
    fn fits(self, relation: &pg_sys::RelationData) -> bool {
        kind_of(relation, self.source) == Some(self.source_type)
            && kind_of(relation, self.target) == Some(self.target_kind)
    }

    /// Finds the source column and the embedding column in a condition.
    fn in_condition(condition: &CStr) -> Option<Self> {
        let mut columns = variables(condition);
        columns.sort_unstable_by_key(|&(number, _)| number);
        columns.dedup();
        let is_source = |kind| [pg_sys::TEXTOID, pg_sys::VARCHAROID, pg_sys::BYTEAOID].contains(&kind);
        let &[one, other] = columns.as_slice() else { return None };
        let ((source, source_type), (target, target_kind)) = if is_source(one.1) { (one, other) } else { (other, one) };
        let target_type = VectorType::of(target_kind).filter(|_| is_source(source_type))?;
        Some(Self { source, source_type, target, target_kind, target_type })
    }
}

/// Returns the type of the column with this number, if it exists.
pub fn kind_of(relation: &pg_sys::RelationData, column: i16) -> Option<pg_sys::Oid> {
    // SAFETY: the relation's own description. The type of a missing or dropped column is invalid.
    let kind = unsafe { pg_sys::SPI_gettypeid(relation.rd_att, i32::from(column)) };
    (column > 0 && kind != pg_sys::InvalidOid).then_some(kind)
}

/// Returns the number of dimensions that the column is declared with. None for any number.
pub fn dimensions_of(relation: &pg_sys::RelationData, column: i16) -> Option<usize> {
    let (mut kind, mut declared, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
    // SAFETY: reads the catalogs. The column exists.
    unsafe { pg_sys::get_atttypetypmodcoll(relation.rd_id, column, &mut kind, &mut declared, &mut collation) };
    usize::try_from(declared).ok().filter(|dimensions| *dimensions > 0)
}

/// Returns true for a generated column. A partition can have one where its table has an ordinary column.
fn is_generated(relation: &pg_sys::RelationData, column: i16) -> bool {
    // SAFETY: reads the catalogs. The column exists.
    unsafe { pg_sys::get_attgenerated(relation.rd_id, column) != 0 }
}

/// Returns numbers and types of the columns in a stored expression.
fn variables(condition: &CStr) -> Vec<(i16, pg_sys::Oid)> {
    // SAFETY: the server stored the expression and reads it back as nodes. The list has `length` elements, which are Vars,
    // because no flag requests another kind.
    unsafe {
        let expression = pg_sys::stringToNode(condition.as_ptr());
        let Some(list) = pg_sys::pull_var_clause(expression.cast(), 0).as_ref() else { return Vec::new() };
        let variable = |i| &*(*list.elements.add(i)).ptr_value.cast::<pg_sys::Var>();
        (0..list.length as usize).map(variable).map(|variable| (variable.varattno, variable.vartype)).collect()
    }
}
