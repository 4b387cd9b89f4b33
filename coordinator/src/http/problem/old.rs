//! Errors at the addresses that dashboards ask already: their fields, and everything else beside them.

use serde::Serialize;
use sifleet_common::api::problem::Problem;
use utoipa::ToSchema;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::{Content, Ref, RefOr};

use super::PROBLEM_JSON;

/// A problem with the fields that dashboards of old read.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct OldProblem {
    /// The same as `title`.
    error: String,
    /// The same as `detail`.
    message: String,
    /// All that other addresses say of a problem.
    #[serde(flatten)]
    problem: Problem,
}

impl OldProblem {
    /// Adds the fields of old.
    pub(in crate::http) fn of(problem: Problem) -> Self {
        Self { error: problem.title.clone(), message: problem.detail.clone(), problem }
    }
}

/// Tells whether a path is one that dashboards asked before there was a coordinator.
pub(in crate::http) fn is_of_old(route: &str) -> bool {
    route.starts_with("/api/")
}

/// Describes the errors of a path as they are there.
pub(in crate::http) fn describe_as_of_old(item: &mut PathItem) {
    for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
        for response in operation.responses.responses.values_mut() {
            let RefOr::T(response) = response else { continue };
            if let Some(content) = response.content.get_mut(PROBLEM_JSON) {
                *content = RefOr::T(Content::new(Some(Ref::from_schema_name("OldProblem"))));
            }
        }
    }
}
