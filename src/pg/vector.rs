//! Return values of pgvector's type `vector`.

use std::ptr;

use clip::Embedding;
use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::{IntoDatum, pg_sys, varlena};

use super::messages;
use super::varlena::VECTOR_HEADER;

/// A value of pgvector's type `vector`.
pub struct Vector(pg_sys::Datum);

/// pgvector's limit, `VECTOR_MAX_DIM`.
const MAX_DIMENSIONS: usize = 16_000;

impl Vector {
    pub fn datum(self) -> pg_sys::Datum {
        self.0
    }

    pub fn new(embedding: &Embedding) -> Result<Self, ErrorReport> {
        let values = embedding.as_slice();
        if values.len() > MAX_DIMENSIONS {
            return Err(messages::too_many_dimensions(values.len(), MAX_DIMENSIONS));
        }
        let size = VECTOR_HEADER + size_of_val(values);
        // SAFETY: palloc returns `size` bytes, aligned for any type, or raises an error. All of them are written.
        unsafe {
            let start = pg_sys::palloc(size).cast::<u8>();
            varlena::set_varsize_4b(start.cast(), size as i32);
            start.add(4).cast::<i16>().write(values.len() as i16);
            start.add(6).cast::<i16>().write(0);
            ptr::copy_nonoverlapping(values.as_ptr(), start.add(VECTOR_HEADER).cast::<f32>(), values.len());
            Ok(Self(pg_sys::Datum::from(start)))
        }
    }

    /// Raises an error instead of returning it, for iterators, which cannot return one.
    pub fn new_or_raise(embedding: &Embedding) -> Self {
        Self::new(embedding).unwrap_or_report()
    }
}

// SAFETY: the datum points to a vector in the memory context of the call.
unsafe impl BoxRet for Vector {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: the SQL declarations say that such functions return vector.
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

impl IntoDatum for Vector {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    /// Unknown here, and not used: rows take their types from the SQL declaration.
    fn type_oid() -> pg_sys::Oid {
        pg_sys::InvalidOid
    }
}
