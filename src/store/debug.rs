//! `Debug` of what carries stored values, without the values.

use std::fmt;

use super::Op;

/// Values are left out but for their sizes.
impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { realm, draft, login } => f
                .debug_struct("Create")
                .field("realm", realm)
                .field("draft", draft)
                .field("login", login)
                .finish(),
            Self::Merge(draft) => f.debug_tuple("Merge").field(draft).finish(),
            Self::MergeUnseen { realm, draft } => {
                f.debug_struct("MergeUnseen").field("realm", realm).field("draft", draft).finish()
            }
            Self::CompareAndSet { key, expected, value } => f
                .debug_struct("CompareAndSet")
                .field("key", key)
                .field("expected_bytes", &expected.as_ref().map(|bytes| bytes.len()))
                .field("value_bytes", &value.as_ref().map(|bytes| bytes.len()))
                .finish(),
            Self::Renew { new_id, draft, login, grace } => f
                .debug_struct("Renew")
                .field("new_id", new_id)
                .field("draft", draft)
                .field("login", login)
                .field("grace", grace)
                .finish(),
            Self::End { by, grace } => {
                f.debug_struct("End").field("by", by).field("grace", grace).finish()
            }
        }
    }
}
