//! The row of a call of a row trigger, with its old and new values.

use std::ffi::CStr;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use super::columns::{Columns, dimensions_of, kind_of};

use crate::pg::values::RawDatum;
use crate::pg::varlena::Varlena;

pub struct Row<'a> {
    data: &'a pg_sys::TriggerData,
    trigger: &'a pg_sys::Trigger,
    relation: &'a pg_sys::RelationData,
}

impl<'a> Row<'a> {
    /// Returns the row of a call, if the trigger is BEFORE INSERT OR UPDATE FOR EACH ROW.
    ///
    /// # Safety
    ///
    /// `fcinfo` must come from the server.
    pub unsafe fn of(fcinfo: pg_sys::FunctionCallInfo) -> Option<Self> {
        // SAFETY: by the caller's promise.
        unsafe { Self::at(fcinfo, pg_sys::TRIGGER_EVENT_BEFORE) }
    }

    /// Returns the row of a call, if the trigger is AFTER INSERT OR UPDATE FOR EACH ROW.
    ///
    /// # Safety
    ///
    /// `fcinfo` must come from the server.
    pub unsafe fn stored_by(fcinfo: pg_sys::FunctionCallInfo) -> Option<Self> {
        // SAFETY: by the caller's promise.
        unsafe { Self::at(fcinfo, pg_sys::TRIGGER_EVENT_AFTER) }
    }

    /// # Safety
    ///
    /// `fcinfo` must come from the server.
    unsafe fn at(fcinfo: pg_sys::FunctionCallInfo, timing: u32) -> Option<Self> {
        // SAFETY: the server's call. The context of a trigger's call is its TriggerData, whose trigger and relation live as
        // long as the call.
        unsafe {
            if !pgrx::trigger_support::called_as_trigger(fcinfo) {
                return None;
            }
            let data = (*fcinfo).context.cast::<pg_sys::TriggerData>().as_ref()?;
            let event = data.tg_event;
            let in_time = event & pg_sys::TRIGGER_EVENT_TIMINGMASK == timing && event & pg_sys::TRIGGER_EVENT_ROW != 0;
            let operation = event & pg_sys::TRIGGER_EVENT_OPMASK;
            let stores = operation == pg_sys::TRIGGER_EVENT_INSERT || operation == pg_sys::TRIGGER_EVENT_UPDATE;
            let (trigger, relation) = (data.tg_trigger.as_ref()?, data.tg_relation.as_ref()?);
            (in_time && stores).then_some(Self { data, trigger, relation })
        }
    }

    pub fn trigger(&self) -> pg_sys::Oid {
        self.trigger.tgoid
    }

    pub fn relation(&self) -> pg_sys::Oid {
        self.relation.rd_id
    }

    pub fn relation_data(&self) -> &'a pg_sys::RelationData {
        self.relation
    }

    /// Returns the arguments of the trigger.
    pub fn arguments(&self) -> Vec<&'a str> {
        self.argument_strings().map(|argument| argument.to_str().unwrap_or_default()).collect()
    }

    pub fn argument_strings(&self) -> impl Iterator<Item = &'a CStr> {
        arguments_of(self.trigger)
    }

    /// Returns the triggers of the application that fire after this one and may change the row.
    pub fn later_triggers(&self) -> impl Iterator<Item = &'a pg_sys::Trigger> {
        let event = if self.is_update() { pg_sys::TRIGGER_TYPE_UPDATE } else { pg_sys::TRIGGER_TYPE_INSERT };
        let (own, function) = (self.trigger.tgoid, self.trigger.tgfoid);
        triggers_of(self.relation).iter().skip_while(move |trigger| trigger.tgoid != own).filter(move |trigger| {
            let kind = trigger.tgtype as u32;
            let before_row = pg_sys::TRIGGER_TYPE_ROW | pg_sys::TRIGGER_TYPE_BEFORE;
            kind & before_row == before_row && kind & event != 0 && trigger.tgfoid != function && fires(trigger)
        })
    }

    /// Returns true if the check trigger of this trigger fires for the row.
    pub fn has_check(&self) -> bool {
        // SAFETY: names are null-terminated and live as long as the trigger.
        let name = unsafe { CStr::from_ptr(self.trigger.tgname) };
        triggers_of(self.relation).iter().any(|trigger| {
            let kind = trigger.tgtype as u32;
            let is_after_row = kind & pg_sys::TRIGGER_TYPE_ROW != 0
                && kind & pg_sys::TRIGGER_TYPE_TIMING_MASK == pg_sys::TRIGGER_TYPE_AFTER;
            is_after_row
                && fires(trigger)
                && arguments_of(trigger).next() == Some(name)
                && self.has_neighbor(trigger.tgfoid, c"clip_auto_embed_check")
        })
    }

    /// Returns true if a function has this name and is in the schema of this trigger's function.
    fn has_neighbor(&self, function: pg_sys::Oid, name: &CStr) -> bool {
        // SAFETY: both functions read the catalogs. The name is null or null-terminated.
        unsafe {
            let found = pg_sys::get_func_name(function);
            !found.is_null()
                && CStr::from_ptr(found) == name
                && pg_sys::get_func_namespace(function) == pg_sys::get_func_namespace(self.trigger.tgfoid)
        }
    }

    /// Returns the columns that the trigger's condition names.
    pub fn columns(&self) -> Result<Columns, ErrorReport> {
        Columns::of(self.trigger, self.relation)
    }

    pub fn is_update(&self) -> bool {
        self.data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_UPDATE
    }

    /// Returns true if the row belongs to a partition, so that an update may move it to another partition.
    pub fn is_in_partition(&self) -> bool {
        // SAFETY: the relation's own catalog entry, which lives as long as the relation is open.
        unsafe { self.relation.rd_rel.as_ref() }.is_some_and(|relation| relation.relispartition)
    }

    /// Returns true if another server stores the row.
    pub fn is_foreign(&self) -> bool {
        // SAFETY: as above.
        unsafe { self.relation.rd_rel.as_ref() }
            .is_some_and(|relation| relation.relkind as u8 == pg_sys::RELKIND_FOREIGN_TABLE)
    }

    /// Returns a new value. The column must exist and have a type with variable length: see [`Columns`].
    pub fn new_value(&self, column: i16) -> Option<Varlena<'a>> {
        self.value(self.tuple(), column)
    }

    /// Returns an old value. None in an INSERT.
    pub fn old_value(&self, column: i16) -> Option<Varlena<'a>> {
        self.is_update().then(|| self.value(self.data.tg_trigtuple, column)).flatten()
    }

    /// Returns a new value as an argument of a statement. None if the column does not exist.
    pub fn argument(&self, column: i16) -> Option<DatumWithOid<'a>> {
        let kind = kind_of(self.relation, column)?;
        let mut is_null = false;
        // SAFETY: tuple and description belong together. The column exists and has this type.
        unsafe {
            let datum = pg_sys::htup::heap_getattr(self.tuple(), i32::from(column), self.relation.rd_att, &mut is_null);
            let value = || DatumWithOid::new(RawDatum::new(datum), kind);
            Some(if is_null { DatumWithOid::null_oid(kind) } else { value() })
        }
    }

    /// Returns the unchanged new row.
    pub fn keep(&self) -> pg_sys::Datum {
        self.tuple().into()
    }

    /// Returns no row: the server leaves the row as it is.
    pub fn skip(&self) -> pg_sys::Datum {
        pg_sys::Datum::null()
    }

    /// Returns the number of dimensions that a column is declared with. None for any number.
    pub fn dimensions_of(&self, column: i16) -> Option<usize> {
        dimensions_of(self.relation, column)
    }

    /// Returns the new row with another value, or with NULL.
    pub fn with_value(&self, column: i16, value: Option<pg_sys::Datum>) -> pg_sys::Datum {
        let (mut column, mut is_null) = (i32::from(column), value.is_none());
        let mut value = value.unwrap_or(pg_sys::Datum::null());
        // SAFETY: replaces one column of the tuple. The values are copied into the new tuple.
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
        // SAFETY: tuple and description belong together. By the caller's promise, the column exists and has variable length.
        unsafe {
            let datum = pg_sys::htup::heap_getattr(tuple, i32::from(column), self.relation.rd_att, &mut is_null);
            (!is_null).then(|| Varlena::from_datum(datum))
        }
    }
}

pub fn triggers_of(relation: &pg_sys::RelationData) -> &[pg_sys::Trigger] {
    // SAFETY: null, or the relation's own list of triggers, which lives as long as the relation is open.
    unsafe {
        match relation.trigdesc.as_ref() {
            Some(list) if list.numtriggers > 0 => std::slice::from_raw_parts(list.triggers, list.numtriggers as usize),
            _ => &[],
        }
    }
}

/// Returns the arguments of a trigger.
fn arguments_of(trigger: &pg_sys::Trigger) -> impl Iterator<Item = &CStr> {
    let (count, first) = (usize::try_from(trigger.tgnargs).unwrap_or_default(), trigger.tgargs);
    // SAFETY: the trigger has `tgnargs` null-terminated strings, which live as long as the trigger.
    (0..count).map(move |i| unsafe { CStr::from_ptr(*first.add(i)) })
}

pub fn trigger_named<'a>(relation: &'a pg_sys::RelationData, name: &CStr) -> Option<&'a pg_sys::Trigger> {
    // SAFETY: names are null-terminated and live as long as the triggers.
    triggers_of(relation).iter().find(|trigger| unsafe { CStr::from_ptr(trigger.tgname) == name })
}

/// Returns true if the session restores a dump. Every dump of pg_dump starts with these two settings, which no application uses
/// together. The embeddings of a dump match their sources and are stored without running a model.
pub fn is_restore() -> bool {
    // SAFETY: settings of this session.
    unsafe { !pg_sys::check_function_bodies && !pg_sys::row_security }
}

/// Returns true if a trigger fires in this session.
pub fn fires(trigger: &pg_sys::Trigger) -> bool {
    // SAFETY: a setting of this session.
    let is_replica = unsafe { pg_sys::SessionReplicationRole } == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32;
    let not_fired = if is_replica { pg_sys::TRIGGER_FIRES_ON_ORIGIN } else { pg_sys::TRIGGER_FIRES_ON_REPLICA };
    let enabled = trigger.tgenabled as u8;
    enabled != pg_sys::TRIGGER_DISABLED && enabled != not_fired
}
