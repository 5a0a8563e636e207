//! The row that a BEFORE ROW trigger is about to store.

use std::ffi::{CStr, CString};

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use super::columns::{Columns, kind_of};

use crate::pg::values::RawDatum;
use crate::pg::varlena::Varlena;

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
        // SAFETY: by the caller's promise.
        unsafe { Self::at(fcinfo, pg_sys::TRIGGER_EVENT_BEFORE) }
    }

    /// The row of a call, if it is one of an AFTER ROW trigger for INSERT or UPDATE.
    ///
    /// # Safety
    ///
    /// `fcinfo` must be what the server calls a function with.
    pub unsafe fn stored_by(fcinfo: pg_sys::FunctionCallInfo) -> Option<Self> {
        // SAFETY: by the caller's promise.
        unsafe { Self::at(fcinfo, pg_sys::TRIGGER_EVENT_AFTER) }
    }

    /// # Safety
    ///
    /// `fcinfo` must be what the server calls a function with.
    unsafe fn at(fcinfo: pg_sys::FunctionCallInfo, timing: u32) -> Option<Self> {
        // SAFETY: the server's call; the context of a trigger's call is its TriggerData, whose trigger and relation are
        // there while it lasts.
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

    /// The arguments of the trigger.
    pub fn arguments(&self) -> Vec<&'a str> {
        self.argument_strings().map(|argument| argument.to_str().unwrap_or_default()).collect()
    }

    pub fn argument_strings(&self) -> impl Iterator<Item = &'a CStr> {
        let (count, first) = (usize::try_from(self.trigger.tgnargs).unwrap_or_default(), self.trigger.tgargs);
        // SAFETY: there are `tgnargs` null-terminated strings, which live as long as the trigger.
        (0..count).map(move |i| unsafe { CStr::from_ptr(*first.add(i)) })
    }

    /// The triggers of others that may change the row after this one: by their order, those of later names.
    pub fn later_triggers(&self) -> impl Iterator<Item = &'a pg_sys::Trigger> {
        let event = if self.is_update() { pg_sys::TRIGGER_TYPE_UPDATE } else { pg_sys::TRIGGER_TYPE_INSERT };
        let (own, function) = (self.trigger.tgoid, self.trigger.tgfoid);
        triggers_of(self.relation).iter().skip_while(move |trigger| trigger.tgoid != own).filter(move |trigger| {
            let kind = trigger.tgtype as u32;
            let before_row = pg_sys::TRIGGER_TYPE_ROW | pg_sys::TRIGGER_TYPE_BEFORE;
            kind & before_row == before_row && kind & event != 0 && trigger.tgfoid != function && fires(trigger)
        })
    }

    /// The trigger that looks at what was stored, if there is one.
    pub fn has_check(&self) -> bool {
        // SAFETY: names are null-terminated, and there as long as the trigger.
        let name = unsafe { CStr::from_ptr(self.trigger.tgname) };
        CString::new([name.to_bytes(), b"_check"].concat())
            .is_ok_and(|name| trigger_named(self.relation, &name).is_some())
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
            let value = || DatumWithOid::new(RawDatum::new(datum), kind);
            Some(if is_null { DatumWithOid::null_oid(kind) } else { value() })
        }
    }

    /// Let the row be stored as it is.
    pub fn keep(&self) -> pg_sys::Datum {
        self.tuple().into()
    }

    /// Let the row be stored with another value, or with none.
    pub fn with_value(&self, column: i16, value: Option<pg_sys::Datum>) -> pg_sys::Datum {
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

pub fn triggers_of(relation: &pg_sys::RelationData) -> &[pg_sys::Trigger] {
    // SAFETY: null, or the relation's own list of triggers, which is there as long as the relation is open.
    unsafe {
        match relation.trigdesc.as_ref() {
            Some(list) if list.numtriggers > 0 => std::slice::from_raw_parts(list.triggers, list.numtriggers as usize),
            _ => &[],
        }
    }
}

pub fn trigger_named<'a>(relation: &'a pg_sys::RelationData, name: &CStr) -> Option<&'a pg_sys::Trigger> {
    // SAFETY: names are null-terminated, and there as long as the triggers.
    triggers_of(relation).iter().find(|trigger| unsafe { CStr::from_ptr(trigger.tgname) == name })
}

/// Whether a dump is restored: every dump of pg_dump begins with these settings, which no application has. What it brings belongs
/// together already, and is stored without a model.
pub fn is_restore() -> bool {
    // SAFETY: settings of this session.
    unsafe { !pg_sys::check_function_bodies && !pg_sys::row_security }
}

/// Whether a trigger fires in this session.
pub fn fires(trigger: &pg_sys::Trigger) -> bool {
    // SAFETY: a setting of this session.
    let is_replica = unsafe { pg_sys::SessionReplicationRole } == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32;
    let not_fired = if is_replica { pg_sys::TRIGGER_FIRES_ON_ORIGIN } else { pg_sys::TRIGGER_FIRES_ON_REPLICA };
    let enabled = trigger.tgenabled as u8;
    enabled != pg_sys::TRIGGER_DISABLED && enabled != not_fired
}
