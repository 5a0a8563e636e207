//! Arguments of variable length: `text`, `bytea`, `vector` and arrays of them, checked before they are read.

use std::borrow::Cow;
use std::ffi::c_char;
use std::marker::PhantomData;
use std::ptr;

use clip::Error;
use pgrx::callconv::{Arg, ArgAbi};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{IntoDatum, pg_sys, varlena};

use super::values::{RawDatum, reserve};
use super::{encoding, error, messages};

/// An argument of type `text` or `bytea`, not detoasted yet.
#[derive(Clone, Copy)]
pub struct Varlena<'a> {
    datum: pg_sys::Datum,
    lives: PhantomData<&'a [u8]>,
}

/// Identifies a value without detoasting it. The same value, stored again, has a different fingerprint.
#[derive(PartialEq)]
pub enum Fingerprint {
    /// The TOAST pointer, which is unique per value.
    Pointer(Box<[u8]>),
    /// The digest of a value that is stored in the row itself.
    Content(String),
}

impl<'a> Varlena<'a> {
    /// # Safety
    ///
    /// The datum must be of a type with variable length, and live as long as `'a`.
    pub unsafe fn from_datum(datum: pg_sys::Datum) -> Self {
        Self { datum, lives: PhantomData }
    }

    /// The datum of the server.
    pub fn datum(self) -> pg_sys::Datum {
        self.datum
    }

    /// Compares two values. Equal TOAST pointers mean equal values, without detoasting.
    pub fn same_as(self, other: Self) -> bool {
        let same_pointer = self.toast_pointer().is_some_and(|pointer| other.toast_pointer() == Some(pointer));
        same_pointer || self.len() == other.len() && self.detoast() == other.detoast()
    }

    /// Returns the fingerprint, without reading the value from its TOAST table.
    pub fn fingerprint(self) -> Fingerprint {
        match self.toast_pointer() {
            Some(pointer) => Fingerprint::Pointer(pointer.into()),
            None => Fingerprint::Content(clip::digest(self.detoast())),
        }
    }

    /// Returns the TOAST pointer, if the value is stored in a TOAST table.
    fn toast_pointer(self) -> Option<&'a [u8]> {
        // SAFETY: the datum is a varlena by this type's invariant; a pointer into a TOAST table has a fixed size.
        unsafe {
            let start = self.datum.cast_mut_ptr::<u8>();
            let is_on_disk =
                varlena::varatt_is_1b_e(start.cast()) && *start.add(1) == pg_sys::vartag_external::VARTAG_ONDISK as u8;
            is_on_disk.then(|| std::slice::from_raw_parts(start, 2 + size_of::<pg_sys::varatt_external>()))
        }
    }

    /// Returns the value as an argument of a statement.
    ///
    /// # Safety
    ///
    /// The value must be of the type `kind`, because functions of the server rely on its layout.
    pub unsafe fn argument(self, kind: pg_sys::Oid) -> DatumWithOid<'a> {
        // SAFETY: by the caller's promise; the value lives as long as the argument.
        unsafe { DatumWithOid::new(self, kind) }
    }

    /// Returns the size of the value without reading it from disk or decompressing it.
    pub fn len(self) -> u64 {
        // SAFETY: the datum is a varlena by this type's invariant; the size counts a header of four bytes.
        let size = unsafe { pg_sys::toast_raw_datum_size(self.datum) };
        size.saturating_sub(pg_sys::VARHDRSZ) as u64
    }

    /// Detoasts an image. Fails before it reads the image if that is larger than `limit` bytes.
    pub fn image(self, limit: u64) -> Result<&'a [u8], ErrorReport> {
        match self.len() {
            bytes if bytes > limit => Err(error::report(Error::ImageBytesExceeded { bytes, limit })),
            _ => Ok(self.detoast()),
        }
    }

    /// Detoasts a text and converts it to UTF-8, the encoding of tokenizers. Fails before it reads a text above the size limit.
    pub fn text(self) -> Result<Cow<'a, str>, ErrorReport> {
        let (bytes, limit) = (self.len(), clip::MAX_TEXT_BYTES as u64);
        if bytes > limit {
            return Err(error::report(Error::TextBytesExceeded { bytes, limit }));
        }
        encoding::from_server(self.detoast()).map(Cow::Borrowed)
    }

    /// Returns the elements of a `vector`. Fails if the value does not have pgvector's layout.
    pub fn vector(self) -> Result<&'a [f32], ErrorReport> {
        // SAFETY: the datum is a varlena. After detoasting with a long header, the header has its length, it is aligned as int,
        // and it lives as long as the argument.
        let value = unsafe {
            let start = pg_sys::pg_detoast_datum(self.datum.cast_mut_ptr()).cast::<u8>();
            std::slice::from_raw_parts(start, varlena::varsize_4b(start.cast()))
        };
        elements_of_vector(value).ok_or_else(messages::damaged_vector)
    }

    /// Detoasts the value. A text is in the encoding of the database.
    pub fn detoast(self) -> &'a [u8] {
        // SAFETY: the datum is a varlena. The server returns the value itself or a copy in the current memory context. Both
        // live as long as the argument.
        unsafe { varlena::varlena_to_byte_slice(pg_sys::pg_detoast_datum_packed(self.datum.cast_mut_ptr())) }
    }
}

/// pgvector's layout: varlena header, `int16 dim`, `int16 unused`, then `float x[dim]`.
pub const VECTOR_HEADER: usize = 8;

/// Returns the elements of a detoasted value, if its length matches the number of dimensions in its header.
fn elements_of_vector(value: &[u8]) -> Option<&[f32]> {
    let (header, elements) = value.split_at_checked(VECTOR_HEADER)?;
    let number = |at: usize| i16::from_ne_bytes([header[at], header[at + 1]]);
    let dimensions = usize::try_from(number(4)).ok().filter(|&dimensions| dimensions > 0 && number(6) == 0)?;
    let start = elements.as_ptr().cast::<f32>();
    if elements.len() != dimensions * size_of::<f32>() || !start.is_aligned() {
        return None;
    }
    // SAFETY: the length and the alignment were checked, and any four bytes are a valid f32.
    Some(unsafe { std::slice::from_raw_parts(start, dimensions) })
}

/// An argument of type `text[]`, `bytea[]` or `vector[]`.
pub struct VarlenaArray<'a>(&'a [u8]);

impl<'a> VarlenaArray<'a> {
    /// The bytes of the array in the server's layout. Equal bytes mean equal arrays.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Returns the elements in order.
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
        // SAFETY: the datum is passed on unread, whatever its type.
        let datum = unsafe { arg.unbox_arg_using_from_datum::<RawDatum>() };
        Self { datum: RawDatum::required(datum), lives: PhantomData }
    }
}

// SAFETY: the SQL declarations give such arguments the types text[], bytea[] or vector[].
unsafe impl<'fcx> ArgAbi<'fcx> for VarlenaArray<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: see `Varlena`. The datum is an array. After detoasting with a long header, the header has its length, it is
        // aligned, and it lives as long as the argument.
        unsafe {
            let datum = RawDatum::required(arg.unbox_arg_using_from_datum::<RawDatum>());
            let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<u8>();
            Self(std::slice::from_raw_parts(array, varlena::varsize_any(array.cast())))
        }
    }
}

impl IntoDatum for Varlena<'_> {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.datum)
    }

    /// Unknown here: the code that creates an argument passes text or bytea.
    fn type_oid() -> pg_sys::Oid {
        pg_sys::InvalidOid
    }
}
