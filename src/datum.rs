//! Values as Postgres holds them: arguments that are checked before they are read, and pgvector's `vector`.
//!
//! Almost all `unsafe` of the project is here.

use std::borrow::Cow;
use std::ffi::c_char;
use std::marker::PhantomData;
use std::ptr;

use clip::{Embedding, Error};
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Datum, DatumWithOid};
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{IntoDatum, pg_sys, varlena};

use crate::encoding::{Raw, Text};
use crate::{encoding, error};

/// An argument of type `text` or `bytea`, not detoasted yet.
#[derive(Clone, Copy)]
pub struct Varlena<'a> {
    datum: pg_sys::Datum,
    lives: PhantomData<&'a [u8]>,
}

/// What tells a value from others. The same value has another fingerprint where it is stored anew.
#[derive(PartialEq)]
pub enum Fingerprint {
    /// The value is in a TOAST table: no two values there have the same pointer.
    Pointer(Box<[u8]>),
    /// The value is in the row itself: its digest.
    Content(String),
}

impl<'a> Varlena<'a> {
    /// # Safety
    ///
    /// The datum must be of a type with variable length, and live as long as `'a`.
    pub unsafe fn from_datum(datum: pg_sys::Datum) -> Self {
        Self { datum, lives: PhantomData }
    }

    /// As the server holds it.
    pub fn datum(self) -> pg_sys::Datum {
        self.datum
    }

    /// Compare two values. Equal TOAST pointers are equal without detoasting.
    pub fn same_as(self, other: Self) -> bool {
        let same_pointer = self.toast_pointer().is_some_and(|pointer| other.toast_pointer() == Some(pointer));
        same_pointer || self.len() == other.len() && self.detoast() == other.detoast()
    }

    /// What tells the value from others without reading it from its TOAST table.
    pub fn fingerprint(self) -> Fingerprint {
        match self.toast_pointer() {
            Some(pointer) => Fingerprint::Pointer(pointer.into()),
            None => Fingerprint::Content(clip::digest(self.detoast())),
        }
    }

    /// The pointer to the value, if its TOAST table holds it.
    fn toast_pointer(self) -> Option<&'a [u8]> {
        // SAFETY: the datum is a varlena by this type's invariant; a pointer into a TOAST table has a fixed size.
        unsafe {
            let start = self.datum.cast_mut_ptr::<u8>();
            let is_on_disk =
                varlena::varatt_is_1b_e(start.cast()) && *start.add(1) == pg_sys::vartag_external::VARTAG_ONDISK as u8;
            is_on_disk.then(|| std::slice::from_raw_parts(start, 2 + size_of::<pg_sys::varatt_external>()))
        }
    }

    /// As an argument of an SQL statement.
    ///
    /// # Safety
    ///
    /// The value must be of the type `kind`: functions of the server trust the layout that the type has.
    pub unsafe fn argument(self, kind: pg_sys::Oid) -> DatumWithOid<'a> {
        // SAFETY: by the caller's promise; the value lives as long as the argument.
        unsafe { DatumWithOid::new(self, kind) }
    }

    /// The size of the value, known without reading it from disk or decompressing it.
    pub fn len(self) -> u64 {
        // SAFETY: the datum is a varlena by this type's invariant; the size counts a header of four bytes.
        let size = unsafe { pg_sys::toast_raw_datum_size(self.datum) };
        size.saturating_sub(pg_sys::VARHDRSZ) as u64
    }

    /// The bytes of an image, unless there are more than `limit`: then nothing is read.
    pub fn image(self, limit: u64) -> Result<&'a [u8], ErrorReport> {
        match self.len() {
            bytes if bytes > limit => Err(error::report(Error::ImageBytesExceeded { bytes, limit })),
            _ => Ok(self.detoast()),
        }
    }

    /// The text in UTF-8, which is what tokenizers read.
    pub fn text(self) -> Result<Cow<'a, str>, ErrorReport> {
        let (bytes, limit) = (self.len(), clip::MAX_TEXT_BYTES as u64);
        if bytes > limit {
            return Err(error::report(Error::TextBytesExceeded { bytes, limit }));
        }
        encoding::from_server(self.detoast()).map(Cow::Borrowed)
    }

    /// The elements of a `vector`, or an error if the value has not the layout of one.
    pub fn vector(self) -> Result<&'a [f32], ErrorReport> {
        // SAFETY: the datum is a varlena; detoasted with its long header it is as long as that says, aligned as int, and
        // lives as long as the argument.
        let value = unsafe {
            let start = pg_sys::pg_detoast_datum(self.datum.cast_mut_ptr()).cast::<u8>();
            std::slice::from_raw_parts(start, varlena::varsize_4b(start.cast()))
        };
        elements_of_vector(value).ok_or_else(error::damaged_vector)
    }

    /// The value as it is: a text in the encoding of the database.
    pub fn detoast(self) -> &'a [u8] {
        // SAFETY: the datum is a varlena; what comes back is the value itself or a copy in the current memory context,
        // both of which live as long as the argument.
        unsafe { varlena::varlena_to_byte_slice(pg_sys::pg_detoast_datum_packed(self.datum.cast_mut_ptr())) }
    }
}

/// A vector with room for as many elements as an argument has, or an error: Rust's own answer ends the server.
pub fn reserve<T>(length: usize) -> Result<Vec<T>, ErrorReport> {
    clip::reserve(length).map_err(error::report)
}

/// An argument of type `text[]`, `bytea[]` or `vector[]`.
pub struct VarlenaArray<'a>(&'a [u8]);

impl<'a> VarlenaArray<'a> {
    /// All of it as the server lays it out: equal bytes are equal arrays.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Its elements in order.
    pub fn into_elements(self) -> Result<Vec<Option<Varlena<'a>>>, ErrorReport> {
        let (mut elements, mut nulls, mut length) = (ptr::null_mut(), ptr::null_mut(), 0);
        // SAFETY: the bytes are an array whose elements are varlenas, aligned as int; the server fills in both arrays
        // with `length` entries. It does not write to the array.
        unsafe {
            let array = self.0.as_ptr().cast_mut().cast::<pg_sys::ArrayType>();
            let (kind, align) = ((*array).elemtype, b'i' as c_char);
            pg_sys::deconstruct_array(array, kind, -1, false, align, &mut elements, &mut nulls, &mut length);
            let element = |i: usize| {
                let varlena = Varlena { datum: *elements.add(i), lives: PhantomData };
                (!*nulls.add(i)).then_some(varlena)
            };
            let mut found = reserve(length as usize)?;
            found.extend((0..length as usize).map(element));
            Ok(found)
        }
    }
}

// SAFETY: the SQL declarations give such arguments the types text or bytea, which are varlenas.
unsafe impl<'fcx> ArgAbi<'fcx> for Varlena<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: whatever the type, the datum is taken as it is.
        let datum = unsafe { arg.unbox_arg_using_from_datum::<RawDatum>() };
        Self { datum: required(datum), lives: PhantomData }
    }
}

// SAFETY: the SQL declarations give such arguments the types text[], bytea[] or vector[].
unsafe impl<'fcx> ArgAbi<'fcx> for VarlenaArray<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: see `Varlena`; the datum is an array, which detoasted with its long header is as long as that says, aligned,
        // and lives as long as the argument.
        unsafe {
            let datum = required(arg.unbox_arg_using_from_datum::<RawDatum>());
            let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<u8>();
            Self(std::slice::from_raw_parts(array, varlena::varsize_any(array.cast())))
        }
    }
}

/// An argument that must not be null. Functions that are not STRICT are called with nulls too.
fn required(datum: Option<RawDatum>) -> pg_sys::Datum {
    datum.ok_or_else(|| error::null_argument("an argument of this internal function")).unwrap_or_report().0
}

/// A datum as it is: reading it is left for later, or for a statement that it is passed on to.
pub struct RawDatum(pg_sys::Datum);

impl RawDatum {
    pub fn new(datum: pg_sys::Datum) -> Self {
        Self(datum)
    }
}

impl pgrx::FromDatum for RawDatum {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        (!is_null).then_some(Self(datum))
    }
}

// SAFETY: the datum is taken as it is, whatever its type, and lives as long as the argument.
unsafe impl<'fcx> ArgAbi<'fcx> for RawDatum {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as above.
        Self(required(unsafe { arg.unbox_arg_using_from_datum::<RawDatum>() }))
    }
}

/// A copy of a value of any type, which is no part of a transaction.
#[derive(PartialEq)]
pub struct OwnedValue {
    kind: pg_sys::Oid,
    stored: Stored,
}

#[derive(PartialEq)]
enum Stored {
    Null,
    ByValue(pg_sys::Datum),
    /// Aligned as any type of the server's may want it.
    ByReference(Box<[u64]>),
}

impl OwnedValue {
    /// # Safety
    ///
    /// The value must be of the type.
    pub unsafe fn copy(datum: pg_sys::Datum, is_null: bool, kind: pg_sys::Oid) -> Result<Self, ErrorReport> {
        if is_null {
            return Ok(Self { kind, stored: Stored::Null });
        }
        let (mut length, mut by_value) = (0, false);
        // SAFETY: the type exists, as there is a value of it.
        unsafe { pg_sys::get_typlenbyval(kind, &mut length, &mut by_value) };
        if by_value {
            return Ok(Self { kind, stored: Stored::ByValue(datum) });
        }
        // SAFETY: by the caller's promise the datum points to a value of this length: a varlena (-1), which is read whole,
        // a null-terminated string (-2), or so many bytes.
        let bytes = unsafe {
            let (start, size) = match length {
                -1 => {
                    let flat = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<u8>();
                    (flat, varlena::varsize_any(flat.cast()))
                }
                -2 => (datum.cast_mut_ptr::<u8>(), std::ffi::CStr::from_ptr(datum.cast_mut_ptr()).count_bytes() + 1),
                fixed => (datum.cast_mut_ptr::<u8>(), fixed as usize),
            };
            std::slice::from_raw_parts(start, size)
        };
        let mut words = reserve(bytes.len().div_ceil(size_of::<u64>()))?;
        words.extend(bytes.chunks(size_of::<u64>()).map(|chunk| {
            let mut word = [0; size_of::<u64>()];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        }));
        Ok(Self { kind, stored: Stored::ByReference(words.into()) })
    }

    /// As an argument of a statement.
    pub fn argument(&self) -> DatumWithOid<'_> {
        let datum = match &self.stored {
            Stored::Null => return DatumWithOid::null_oid(self.kind),
            Stored::ByValue(datum) => *datum,
            Stored::ByReference(words) => pg_sys::Datum::from(words.as_ptr().cast_mut()),
        };
        // SAFETY: the value is of this type, and lives as long as `self`.
        unsafe { DatumWithOid::new(RawDatum(datum), self.kind) }
    }
}

/// pgvector's `vector`.
pub struct Vector(pg_sys::Datum);

/// pgvector's limit, `VECTOR_MAX_DIM`.
const MAX_DIMENSIONS: usize = 16_000;

/// pgvector's layout: varlena header, `int16 dim`, `int16 unused`, then `float x[dim]`.
const VECTOR_HEADER: usize = 8;

/// The elements of a detoasted value, if it is laid out as a `vector`: as long as its number of dimensions says.
fn elements_of_vector(value: &[u8]) -> Option<&[f32]> {
    let (header, elements) = value.split_at_checked(VECTOR_HEADER)?;
    let number = |at: usize| i16::from_ne_bytes([header[at], header[at + 1]]);
    let dimensions = usize::try_from(number(4)).ok().filter(|&dimensions| dimensions > 0 && number(6) == 0)?;
    let start = elements.as_ptr().cast::<f32>();
    if elements.len() != dimensions * size_of::<f32>() || !start.is_aligned() {
        return None;
    }
    // SAFETY: so many bytes are there, aligned; any four of them are a number.
    Some(unsafe { std::slice::from_raw_parts(start, dimensions) })
}

impl Vector {
    pub fn datum(self) -> pg_sys::Datum {
        self.0
    }

    pub fn new(embedding: &Embedding) -> Result<Self, ErrorReport> {
        let values = embedding.as_slice();
        if values.len() > MAX_DIMENSIONS {
            return Err(error::too_many_dimensions(values.len(), MAX_DIMENSIONS));
        }
        let size = VECTOR_HEADER + size_of_val(values);
        // SAFETY: palloc gives `size` bytes, aligned for any type, or raises an error; all of them are written.
        unsafe {
            let start = pg_sys::palloc(size).cast::<u8>();
            varlena::set_varsize_4b(start.cast(), size as i32);
            start.add(4).cast::<i16>().write(values.len() as i16);
            start.add(6).cast::<i16>().write(0);
            ptr::copy_nonoverlapping(values.as_ptr(), start.add(VECTOR_HEADER).cast::<f32>(), values.len());
            Ok(Self(pg_sys::Datum::from(start)))
        }
    }

    /// For iterators, which cannot return an error: raise it.
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

impl IntoDatum for RawDatum {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    /// Who makes an argument of it says which type it has.
    fn type_oid() -> pg_sys::Oid {
        pg_sys::InvalidOid
    }
}

impl IntoDatum for Varlena<'_> {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.datum)
    }

    /// Text or bytea: who makes an argument of it says which.
    fn type_oid() -> pg_sys::Oid {
        pg_sys::InvalidOid
    }
}

impl IntoDatum for Vector {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    /// Not known and not asked for: rows take their types from the SQL declaration.
    fn type_oid() -> pg_sys::Oid {
        pg_sys::InvalidOid
    }
}

/// pgrx wants a name for each type, though the SQL is written by hand.
macro_rules! named_in_sql {
    ($($type:ty = $name:literal),*) => {
        $(
            // SAFETY: only used to generate SQL, which is not done here.
            unsafe impl SqlTranslatable for $type {
                const TYPE_IDENT: &'static str = $name;
                const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
                const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal($name));
                const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
                    Ok(ReturnsRef::One(SqlMappingRef::literal($name)));
            }
        )*
    };
}

named_in_sql!(Text = "text", Raw = "text", RawDatum = "internal", Varlena<'_> = "bytea", VarlenaArray<'_> = "bytea[]", Vector = "vector");
