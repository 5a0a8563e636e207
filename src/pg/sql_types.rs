//! Names of SQL types for pgrx.

use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};

use super::text::{ServerText, Text};
use super::values::RawDatum;
use super::varlena::{Varlena, VarlenaArray};
use super::vector::Vector;

/// Implements the trait that pgrx requires for each type. The SQL itself is written by hand.
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

named_in_sql!(Text = "text", ServerText = "text", RawDatum = "internal", Varlena<'_> = "bytea", VarlenaArray<'_> = "bytea[]", Vector = "vector");
