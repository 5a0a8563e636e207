//! Values of pgvector's types `vector` and `halfvec`.

use std::ffi::CStr;
use std::ptr;

use clip::Embedding;
use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::{IntoDatum, pg_sys, varlena};

use super::messages;
use super::varlena::VECTOR_HEADER;

/// A value of pgvector's type `vector`, or of another type that an embedding column can have.
pub struct Vector(pg_sys::Datum);

/// A type of pgvector that an embedding column can have. The SQL function `_clip_vector_types` lists the same types.
#[derive(Clone, Copy)]
pub struct VectorType {
    kind: pg_sys::Oid,
    /// pgvector's `vector`, from which values are cast.
    vector: pg_sys::Oid,
}

const VECTOR: &CStr = c"vector";
const OTHER_TYPES: [&CStr; 1] = [c"halfvec"];

impl VectorType {
    /// Returns None if an embedding column cannot have the type. Values of other types have another layout.
    pub fn of(kind: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the functions read the catalogs, and return an invalid OID if they find nothing. The row is copied before it is
        // released. Names are null-terminated.
        unsafe {
            let extension = pg_sys::get_extension_oid(c"vector".as_ptr(), true);
            let is_of_pgvector = |kind| pg_sys::getExtensionOfObject(pg_sys::TypeRelationId, kind) == extension;
            if extension == pg_sys::InvalidOid || !is_of_pgvector(kind) {
                return None;
            }
            let cache = pg_sys::SysCacheIdentifier::TYPEOID as i32;
            let row = pg_sys::SearchSysCache1(cache, kind.into());
            if row.is_null() {
                return None;
            }
            let pg_sys::FormData_pg_type { typname: name, typnamespace: schema, .. } =
                *pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_type>();
            pg_sys::ReleaseSysCache(row);
            let name = CStr::from_ptr(name.data.as_ptr());
            if name == VECTOR {
                return Some(Self { kind, vector: kind });
            }
            let (cache, oid) = (pg_sys::SysCacheIdentifier::TYPENAMENSP as i32, pg_sys::Anum_pg_type_oid as i16);
            let (none, vector) = (pg_sys::Datum::null(), pg_sys::Datum::from(VECTOR.as_ptr()));
            let vector = pg_sys::GetSysCacheOid(cache, oid, vector, schema.into(), none, none);
            (OTHER_TYPES.contains(&name) && is_of_pgvector(vector)).then_some(Self { kind, vector })
        }
    }

    /// Returns an embedding as a value of this type, rounded by pgvector's own cast.
    pub fn value(self, embedding: &Embedding) -> Result<Vector, ErrorReport> {
        let Vector(value) = Vector::new(embedding)?;
        if self.kind == self.vector {
            return Ok(Vector(value));
        }
        let mut function = pg_sys::InvalidOid;
        let any_length = pg_sys::Datum::from(-1_i32);
        // SAFETY: reads the catalogs. A function of a cast takes the value, the length of the target type, and whether the cast is
        // explicit. It raises an error if it cannot convert the value.
        unsafe {
            let explicit = pg_sys::CoercionContext::COERCION_EXPLICIT;
            match pg_sys::find_coercion_pathway(self.kind, self.vector, explicit, &mut function) {
                pg_sys::CoercionPathType::COERCION_PATH_FUNC => {
                    let none = pg_sys::InvalidOid;
                    Ok(Vector(pg_sys::OidFunctionCall3Coll(function, none, value, any_length, true.into())))
                }
                _ => Err(messages::broken_extension("pgvector has no cast from vector to the type of the column")),
            }
        }
    }
}

/// pgvector's limit, `VECTOR_MAX_DIM`.
pub const MAX_DIMENSIONS: usize = 16_000;

impl Vector {
    pub fn datum(self) -> pg_sys::Datum {
        self.0
    }

    pub fn new(embedding: &Embedding) -> Result<Self, ErrorReport> {
        Self::of(embedding.as_slice())
    }

    /// The values must be finite, because pgvector allows no others.
    pub fn of(values: &[f32]) -> Result<Self, ErrorReport> {
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
