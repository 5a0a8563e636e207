//! Validates that a user-supplied filter is one SQL expression.

use std::ffi::{CStr, CString};

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::messages::{no_parameter, not_an_expression};
use crate::pg::varlena::Varlena;

/// Raises an error if the filter is not one expression. Uses the server's parser for expressions of PL/pgSQL, which also accepts
/// clauses such as FROM and ORDER BY after an expression. Syntax errors are those of the parser.
#[pg_extern(sql = false)]
fn clip_require_expression(filter: Varlena<'_>) -> Result<(), ErrorReport> {
    let statements = parse(filter)?;
    // SAFETY: a list of RawStmt. Nodes are cast to the types of their tags.
    let is_one = unsafe {
        only::<pg_sys::RawStmt>(statements, pg_sys::NodeTag::T_RawStmt)
            .and_then(|raw| node::<pg_sys::SelectStmt>((*raw).stmt, pg_sys::NodeTag::T_SelectStmt))
            .is_some_and(|select| is_an_expression(&*select))
    };
    if is_one { Ok(()) } else { Err(not_an_expression()) }
}

/// Raises the server's error if the filter has a parameter other than `$1`, the vector of the query. The statement of a search has
/// more parameters, which a filter would compare with values of the search.
pub fn require_own_parameters(filter: Option<Varlena<'_>>) -> Result<(), ErrorReport> {
    let Some(filter) = filter else { return Ok(()) };
    let statements = parse(filter)?;
    // SAFETY: a list of nodes. The text of a tree ends with null. In it, braces of names and values follow a backslash.
    let tree = unsafe { CStr::from_ptr(pg_sys::nodeToString(statements.cast_const().cast())) };
    let tree = tree.to_string_lossy();
    let mut numbers = tree.split("{PARAMREF :number ").skip(1).filter_map(|rest| rest.split([' ', '}']).next());
    match numbers.find(|&number| number != "1") {
        Some(number) => Err(no_parameter(number)),
        None => Ok(()),
    }
}

/// Returns the statements that the server's parser reads: a list of RawStmt in the current memory context.
fn parse(filter: Varlena<'_>) -> Result<*mut pg_sys::List, ErrorReport> {
    let text = CString::new(filter.detoast()).map_err(|_| not_an_expression())?;
    // SAFETY: the string ends with null, and the parser copies it.
    Ok(unsafe { pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_PLPGSQL_EXPR) })
}

/// Returns true if the statement is only a select list of one expression without a name.
///
/// # Safety
///
/// The node must come from the parser.
unsafe fn is_an_expression(select: &pg_sys::SelectStmt) -> bool {
    let clauses = [
        select.distinctClause,
        select.fromClause,
        select.groupClause,
        select.windowClause,
        select.valuesLists,
        select.sortClause,
        select.lockingClause,
    ];
    let conditions = [select.whereClause, select.havingClause, select.limitOffset, select.limitCount];
    let no_clauses = clauses.iter().all(|clause| clause.is_null())
        && conditions.iter().all(|condition| condition.is_null())
        && select.intoClause.is_null()
        && select.withClause.is_null()
        && select.op == pg_sys::SetOperation::SETOP_NONE;
    // SAFETY: as the caller promises.
    let target = unsafe { only::<pg_sys::ResTarget>(select.targetList, pg_sys::NodeTag::T_ResTarget) };
    // SAFETY: the pointer was found to be of a node of this kind.
    no_clauses && target.is_some_and(|target| unsafe { (*target).name.is_null() })
}

/// Returns the only element of a list, if the list has one element of this kind.
///
/// # Safety
///
/// The pointer must be null or of a list of nodes, and `T` the type of the tag.
unsafe fn only<T>(list: *mut pg_sys::List, tag: pg_sys::NodeTag) -> Option<*mut T> {
    // SAFETY: as the caller promises; a list that is not null has an element.
    unsafe {
        let list = list.as_ref().filter(|list| list.length == 1)?;
        node((*list.elements).ptr_value.cast(), tag)
    }
}

/// Returns a node, if it is of this kind.
///
/// # Safety
///
/// The pointer must be null or of a node, and `T` the type of the tag.
unsafe fn node<T>(node: *mut pg_sys::Node, tag: pg_sys::NodeTag) -> Option<*mut T> {
    // SAFETY: as the caller promises.
    unsafe { node.as_ref() }.filter(|node| node.type_ == tag).map(|_| node.cast())
}
