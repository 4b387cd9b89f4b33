//! Which code stands for what the view cannot answer, and for what is wrong with a push.

use super::{ApiError, Code};
use crate::state::pushes::PushError;
use crate::view::QueryError;

impl From<PushError> for ApiError {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Query(error) => Self::Query(error),
            PushError::Nodes(error) => Self::BadNodeset(error),
            other @ (PushError::Bad { .. }
            | PushError::Disagreed { .. }
            | PushError::NoHolder { .. }
            | PushError::NotThere { .. }
            | PushError::KeyReused { .. }
            | PushError::Unknown { .. }
            | PushError::Cancelled { .. }
            | PushError::TooMany { .. }) => Self::Push(other),
        }
    }
}

pub(super) const fn code_of_query(error: &QueryError) -> Code {
    match error {
        QueryError::UnknownImage { .. } => Code::UnknownImage,
        QueryError::Ambiguous { .. } => Code::AmbiguousImage,
        QueryError::BadReference { .. } => Code::BadImage,
        QueryError::UnknownPartition { .. } => Code::UnknownPartition,
        QueryError::UnknownNode { .. } => Code::UnknownNode,
    }
}

pub(super) const fn code_of_push(error: &PushError) -> Code {
    match error {
        PushError::Query(error) => code_of_query(error),
        PushError::Nodes(_) => Code::BadNodeset,
        PushError::Bad { .. } => Code::BadPush,
        PushError::Disagreed { .. } => Code::Disagreed,
        PushError::NoHolder { .. } | PushError::NotThere { .. } => Code::NoHolder,
        PushError::KeyReused { .. } => Code::KeyReused,
        PushError::Unknown { .. } => Code::UnknownPush,
        PushError::Cancelled { .. } => Code::PushCancelled,
        PushError::TooMany { .. } => Code::TooManyPushes,
    }
}
