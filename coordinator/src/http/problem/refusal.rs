//! Which code stands for what the view cannot answer, and for what is wrong with a push, a removal or a token.

use super::{ApiError, Code};
use crate::access::tokens::TokenError;
use crate::registries::RegistryError;
use crate::state::pushes::PushError;
use crate::state::removals::RemovalError;
use crate::templates::TemplateError;
use crate::view::QueryError;
use crate::view::meant::MeantError;

impl From<PushError> for ApiError {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Meant(MeantError::Query(error)) => Self::Query(error),
            PushError::Meant(MeantError::Nodes(error)) => Self::BadNodeset(error),
            other @ (PushError::Meant(_)
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
            RemovalError::Meant(MeantError::Query(error)) => Self::Query(error),
            RemovalError::Meant(MeantError::Nodes(error)) => Self::BadNodeset(error),
            other @ (RemovalError::Meant(_)
            | RemovalError::LastReplica { .. }
            | RemovalError::KeyReused { .. }
            | RemovalError::Unknown { .. }
            | RemovalError::TooMany { .. }) => Self::Removal(other),
        }
    }
}

pub(super) const fn code_of_removal(error: &RemovalError) -> Code {
    match error {
        RemovalError::Meant(error) => code_of_meant(error, Code::BadRemoval),
        RemovalError::LastReplica { .. } => Code::LastReplica,
        RemovalError::KeyReused { .. } => Code::KeyReused,
        RemovalError::Unknown { .. } => Code::UnknownRemoval,
        RemovalError::TooMany { .. } => Code::TooManyRemovals,
    }
}

/// Returns the code of what nobody knows the meaning of; `bad` where the wish itself cannot be.
const fn code_of_meant(error: &MeantError, bad: Code) -> Code {
    match error {
        MeantError::Query(error) => code_of_query(error),
        MeantError::Nodes(_) => Code::BadNodeset,
        MeantError::Bad { .. } => bad,
        MeantError::Disagreed { .. } => Code::Disagreed,
        MeantError::NoHolder { .. } => Code::NoHolder,
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

pub(in crate::http) const fn code_of_push(error: &PushError) -> Code {
    match error {
        PushError::Meant(error) => code_of_meant(error, Code::BadPush),
        PushError::NotThere { .. } => Code::NoHolder,
        PushError::KeyReused { .. } => Code::KeyReused,
        PushError::Unknown { .. } => Code::UnknownPush,
        PushError::Cancelled { .. } => Code::PushCancelled,
        PushError::TooMany { .. } => Code::TooManyPushes,
    }
}

pub(super) const fn code_of_template(error: &TemplateError) -> Code {
    match error {
        TemplateError::Unfit(_) => Code::BadTemplate,
        TemplateError::Unknown { .. } => Code::UnknownTemplate,
        TemplateError::OfFile { .. } => Code::TemplateOfFile,
        TemplateError::TooMany => Code::TooManyTemplates,
        TemplateError::NotStored { .. } => Code::NotStored,
    }
}

pub(super) const fn code_of_registry(error: &RegistryError) -> Code {
    match error {
        RegistryError::Bad(_) => Code::BadRegistry,
        RegistryError::Query(_) => Code::BadRegistryQuery,
        RegistryError::Unknown { .. } => Code::UnknownRegistry,
        RegistryError::Exists { .. } => Code::RegistryExists,
        RegistryError::TooMany => Code::TooManyRegistries,
        RegistryError::NotStored(_) => Code::NotStored,
    }
}

pub(super) const fn code_of_token(error: &TokenError) -> Code {
    match error {
        TokenError::Bad { .. } => Code::BadToken,
        TokenError::TooMany => Code::TooManyTokens,
        TokenError::Unknown { .. } => Code::UnknownToken,
        TokenError::NotStored { .. } => Code::NotStored,
    }
}
