//! The static registry: a tree of files that any web server can serve, made from what the coordinator's registry lists.
//!
//! Pure but for `disk.rs`. Owns where what lies and what it says, byte for byte: the same images give the same files. The
//! layout is that of Vanessa Sochat's static registry (singularityhub/registry): `NAME/tags/` and `NAME/manifests/TAG/` are
//! folders whose `index.html` is JSON, for a folder's index is what every web server serves without being told.

mod describe;
pub(crate) mod disk;
mod manifest;
mod page;
mod plan;
mod tree;

pub(crate) use describe::description;
pub(crate) use manifest::{Kind, Sif, read};
pub(crate) use plan::Plan;
pub(crate) use tree::{Blob, Image, LeftOut, Tree, is_repository, is_tag};
