//! Which code stands for what the view cannot answer, and for what is wrong with a push or a removal.

use super::{ApiError, Code};
use crate::state::pushes::PushError;
use crate::state::removals::RemovalError;
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

impl From<RemovalError> for ApiError {
    fn from(error: RemovalError) -> Self {
        match error {
            RemovalError::Query(error) => Self::Query(error),
            RemovalError::Nodes(error) => Self::BadNodeset(error),
            other @ (RemovalError::Bad { .. }
            | RemovalError::Disagreed { .. }
            | RemovalError::NoHolder { .. }
            | RemovalError::LastReplica { .. }
            | RemovalError::Unknown { .. }
            | RemovalError::TooMany { .. }) => Self::Removal(other),
        }
    }
}

pub(super) const fn code_of_removal(error: &RemovalError) -> Code {
    match error {
        RemovalError::Query(error) => code_of_query(error),
        RemovalError::Nodes(_) => Code::BadNodeset,
        RemovalError::Bad { .. } => Code::BadRemoval,
        RemovalError::Disagreed { .. } => Code::Disagreed,
        RemovalError::NoHolder { .. } => Code::NoHolder,
        RemovalError::LastReplica { .. } => Code::LastReplica,
        RemovalError::Unknown { .. } => Code::UnknownRemoval,
        RemovalError::TooMany { .. } => Code::TooManyRemovals,
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
