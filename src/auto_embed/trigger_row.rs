//! The row that a BEFORE ROW trigger is about to store.

use std::ffi::CStr;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use super::columns::{Columns, kind_of};

use crate::datum::{Varlena, Vector};

pub struct Row<'a> {
    data: &'a pg_sys::TriggerData,
    trigger: &'a pg_sys::Trigger,
    relation: &'a pg_sys::RelationData,
}

impl<'a> Row<'a> {
    /// The row of a call, if it is one of a BEFORE ROW trigger for INSERT or UPDATE.
    ///
    /// # Safety
    ///
    /// `fcinfo` must be what the server calls a function with.
    pub unsafe fn of(fcinfo: pg_sys::FunctionCallInfo) -> Option<Self> {
        // SAFETY: the server's call; the context of a trigger's call is its TriggerData, whose trigger and relation are
        // there while it lasts.
        unsafe {
            if !pgrx::trigger_support::called_as_trigger(fcinfo) {
                return None;
            }
            let data = (*fcinfo).context.cast::<pg_sys::TriggerData>().as_ref()?;
            let event = data.tg_event;
            let before_row = event & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_BEFORE
                && event & pg_sys::TRIGGER_EVENT_ROW != 0;
            let operation = event & pg_sys::TRIGGER_EVENT_OPMASK;
            let stores = operation == pg_sys::TRIGGER_EVENT_INSERT || operation == pg_sys::TRIGGER_EVENT_UPDATE;
            let (trigger, relation) = (data.tg_trigger.as_ref()?, data.tg_relation.as_ref()?);
            (before_row && stores).then_some(Self { data, trigger, relation })
        }
    }

    pub fn trigger(&self) -> pg_sys::Oid {
        self.trigger.tgoid
    }

    pub fn relation(&self) -> pg_sys::Oid {
        self.relation.rd_id
    }

    /// The arguments of the trigger.
    pub fn arguments(&self) -> Vec<&'a str> {
        let count = usize::try_from(self.trigger.tgnargs).unwrap_or_default();
        // SAFETY: there are `tgnargs` null-terminated strings, which live as long as the trigger.
        let argument = |i| unsafe { CStr::from_ptr(*self.trigger.tgargs.add(i)) };
        (0..count).map(|i| argument(i).to_str().unwrap_or_default()).collect()
    }

    /// The columns that the trigger's condition names.
    pub fn columns(&self) -> Result<Columns, ErrorReport> {
        Columns::of(self.trigger, self.relation)
    }

    pub fn is_update(&self) -> bool {
        self.data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_UPDATE
    }

    /// Whether the row is of a partition, from which an update may move it to another.
    pub fn is_in_partition(&self) -> bool {
        // SAFETY: the relation's own description in the catalogs, which is there as long as the relation is open.
        unsafe { self.relation.rd_rel.as_ref() }.is_some_and(|relation| relation.relispartition)
    }

    /// A value of the row as it will be. The column must be there and of a type with variable length: see [`Columns`].
    pub fn new_value(&self, column: i16) -> Option<Varlena<'a>> {
        self.value(self.tuple(), column)
    }

    /// A value of the row as it was; none in an INSERT.
    pub fn old_value(&self, column: i16) -> Option<Varlena<'a>> {
        self.is_update().then(|| self.value(self.data.tg_trigtuple, column)).flatten()
    }

    /// A value of the row as it will be, as an argument of an SQL statement; none if there is no such column.
    pub fn argument(&self, column: i16) -> Option<DatumWithOid<'a>> {
        let kind = kind_of(self.relation, column)?;
        let mut is_null = false;
        // SAFETY: tuple and description belong together; the column is there, and the type is the one that it has.
        unsafe {
            let datum = pg_sys::htup::heap_getattr(self.tuple(), i32::from(column), self.relation.rd_att, &mut is_null);
            let value = || DatumWithOid::new(Varlena::from_datum(datum), kind);
            Some(if is_null { DatumWithOid::null_oid(kind) } else { value() })
        }
    }

    /// Let the row be stored as it is.
    pub fn keep(&self) -> pg_sys::Datum {
        self.tuple().into()
    }

    /// Let the row be stored with this vector, or with none.
    pub fn with_vector(&self, column: i16, vector: Option<Vector>) -> pg_sys::Datum {
        self.with_value(column, vector.map(Vector::datum))
    }

    /// Let the row be stored with the vector that it had.
    pub fn with_former(&self, column: i16, former: Varlena<'_>) -> pg_sys::Datum {
        self.with_value(column, Some(former.datum()))
    }

    fn with_value(&self, column: i16, value: Option<pg_sys::Datum>) -> pg_sys::Datum {
        let (mut column, mut is_null) = (i32::from(column), value.is_none());
        let mut value = value.unwrap_or(pg_sys::Datum::null());
        // SAFETY: one column of the tuple is replaced; the values are copied into the new tuple.
        unsafe {
            let description = self.relation.rd_att;
            pg_sys::heap_modify_tuple_by_cols(self.tuple(), description, 1, &mut column, &mut value, &mut is_null)
                .into()
        }
    }

    fn tuple(&self) -> pg_sys::HeapTuple {
        if self.is_update() { self.data.tg_newtuple } else { self.data.tg_trigtuple }
    }

    fn value(&self, tuple: pg_sys::HeapTuple, column: i16) -> Option<Varlena<'a>> {
        let mut is_null = false;
        // SAFETY: tuple and description belong together. The column exists and has variable length, as its caller says.
        unsafe {
            let datum = pg_sys::htup::heap_getattr(tuple, i32::from(column), self.relation.rd_att, &mut is_null);
            (!is_null).then(|| Varlena::from_datum(datum))
        }
    }
}
