//! JSON bodies of the coordinator's HTTP API, shared by the coordinator and its clients.
//!
//! One file per noun, named like the handler that answers with it and the command that prints it. Bodies are
//! plain data: times are RFC 3339 text in UTC, node lists are folded nodesets such as `viz[001-004]`, digests
//! are `blake3:<64 hex>`. Fields are only ever added.

pub mod apptainer;
pub mod audit;
pub mod availability;
pub mod drift;
pub mod enrolments;
pub mod events;
pub mod health;
pub mod images;
pub mod imports;
pub mod library;
pub mod limits;
pub mod nodes;
pub mod partitions;
pub mod problem;
pub mod pushes;
pub mod registries;
pub mod removals;
pub mod templates;
pub mod tokens;
pub mod verdicts;
pub mod vnc;

/// Derives what every API body needs.
macro_rules! body {
    ($($item:item)*) => {
        $(
            #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
            #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
            $item
        )*
    };
}
use body;
