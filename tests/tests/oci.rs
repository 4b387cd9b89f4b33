//! The library as an OCI registry, end-point by end-point as the distribution specification 1.1 numbers them, with a real
//! coordinator and a real agent that watches the library. Real clients are in `oci_clients.rs`.

#![cfg(test)]

#[path = "oci/client.rs"]
mod client;
#[path = "oci/discovery.rs"]
mod discovery;
#[path = "oci/images.rs"]
mod images;
#[path = "oci/jobs.rs"]
mod jobs;
#[path = "oci/nodes.rs"]
mod nodes;
#[path = "oci/pull.rs"]
mod pull;
#[path = "oci/push.rs"]
mod push;
#[path = "oci/refusals.rs"]
mod refusals;
