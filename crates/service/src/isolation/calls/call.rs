//! A system call in a list.

use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

/// A system call, and the conditions of its arguments. Each condition suffices. Without one, all arguments are meant.
pub(super) type Call = (i64, Vec<Condition>);

/// A condition of an argument, by its position.
#[derive(Clone, Copy)]
pub(super) enum Condition {
    /// Its lower 32 bits are a number. The kernel ignores the upper bits of an `int`.
    Is(u8, u64),
    IsNot(u8, u64),
    /// It is a pointer other than NULL.
    NotNull(u8),
    /// Its bits under a mask (first) are equal to a value (second).
    Bits(u8, u64, u64),
}

impl Condition {
    pub(super) fn rule(self) -> Result<SeccompRule, BackendError> {
        let (argument, length, operator, value) = match self {
            Self::Is(argument, value) => (argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value),
            Self::IsNot(argument, value) => (argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value),
            Self::NotNull(argument) => (argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0),
            Self::Bits(argument, mask, value) => {
                (argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
            }
        };
        SeccompRule::new(vec![SeccompCondition::new(argument, length, operator, value)?])
    }
}
