//! The HTTP API as clients see it: every route, every refusal, and the document that describes them.
//!
//! The golden answers are in `golden/http`; to accept a deliberate change run the tests with
//! `INSTA_UPDATE=always` and read the difference.

#![cfg(test)]

#[path = "http/callers.rs"]
mod callers;
#[path = "http/conformance.rs"]
mod conformance;
#[path = "http/dashboards.rs"]
mod dashboards;
#[path = "http/imports.rs"]
mod imports;
#[path = "http/limits.rs"]
mod limits;
#[path = "http/pushes.rs"]
mod pushes;
#[path = "http/refusals.rs"]
mod refusals;
#[path = "http/registries.rs"]
mod registries;
#[path = "http/removals.rs"]
mod removals;
#[path = "http/roles.rs"]
mod roles;
#[path = "http/routes.rs"]
mod routes;
#[path = "http/schema.rs"]
mod schema;
#[path = "http/site.rs"]
mod site;
#[path = "http/streams.rs"]
mod streams;
#[path = "http/templates.rs"]
mod templates;
#[path = "http/uploads.rs"]
mod uploads;
#[path = "http/upstream.rs"]
mod upstream;
