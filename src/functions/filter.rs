//! What a user gives as a condition must be one, and not the beginning of another statement.

use std::ffi::CString;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::messages::not_an_expression;
use crate::pg::varlena::Varlena;

/// Refuse what is not one expression. The server's own parser reads it, as it reads expressions of PL/pgSQL: which may be
/// followed by FROM, ORDER BY and the like. A mistake in the expression is told as the parser tells it.
#[pg_extern(sql = false)]
fn clip_require_expression(filter: Varlena<'_>) -> Result<(), ErrorReport> {
    let text = CString::new(filter.detoast()).map_err(|_| not_an_expression())?;
    // SAFETY: the string ends with null; the parser's result is a list of RawStmt in the current memory context. Nodes
    // are looked at as what their tags say that they are.
    let is_one = unsafe {
        let statements = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_PLPGSQL_EXPR);
        only::<pg_sys::RawStmt>(statements, pg_sys::NodeTag::T_RawStmt)
            .and_then(|raw| node::<pg_sys::SelectStmt>((*raw).stmt, pg_sys::NodeTag::T_SelectStmt))
            .is_some_and(|select| is_an_expression(&*select))
    };
    if is_one { Ok(()) } else { Err(not_an_expression()) }
}

/// Whether there is nothing but a select list of one expression without a name.
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
    let alone = clauses.iter().all(|clause| clause.is_null())
        && conditions.iter().all(|condition| condition.is_null())
        && select.intoClause.is_null()
        && select.withClause.is_null()
        && select.op == pg_sys::SetOperation::SETOP_NONE;
    // SAFETY: as the caller promises.
    let target = unsafe { only::<pg_sys::ResTarget>(select.targetList, pg_sys::NodeTag::T_ResTarget) };
    // SAFETY: the pointer was found to be of a node of this kind.
    alone && target.is_some_and(|target| unsafe { (*target).name.is_null() })
}

/// The only element of a list, if it has one and that is of this kind.
///
/// # Safety
///
/// The pointer must be null or of a list of nodes, and `T` what the tag says.
unsafe fn only<T>(list: *mut pg_sys::List, tag: pg_sys::NodeTag) -> Option<*mut T> {
    // SAFETY: as the caller promises; a list that is not null has an element.
    unsafe {
        let list = list.as_ref().filter(|list| list.length == 1)?;
        node((*list.elements).ptr_value.cast(), tag)
    }
}

/// A node, if it is of this kind.
///
/// # Safety
///
/// The pointer must be null or of a node, and `T` what the tag says.
unsafe fn node<T>(node: *mut pg_sys::Node, tag: pg_sys::NodeTag) -> Option<*mut T> {
    // SAFETY: as the caller promises.
    unsafe { node.as_ref() }.filter(|node| node.type_ == tag).map(|_| node.cast())
}
