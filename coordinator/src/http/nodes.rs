//! `GET /v1/nodes`, `GET /v1/nodes/{name}` and `POST /v1/nodes/{nodeset}/rescan`, `busy` and `idle`.

use std::sync::Arc;

use axum::extract::State;
use sifleet_common::api::enrolments::Revoked;
use sifleet_common::api::nodes::{Marked, NodeDetail, NodeList, Rescan};
use sifleet_common::name::NodeName;
use sifleet_common::nodeset::{NodeSet, fold};

use super::App;
use super::extract::{Json, Segment};
use super::problem::{ApiError, problems};
use crate::access::tokens::TokenError;
use crate::state::identities::{IdentityAnswer, IdentityCommand};
use crate::state::limits::LimitCommand;

problems!(ListProblems:);
problems!(ShowProblems: BadQuery, UnknownNode);
problems!(MarkProblems: BadQuery, BadNodeset, Stopping);
problems!(RescanProblems: BadQuery, BadNodeset, Stopping);
problems!(RevokeProblems: BadQuery, BadNodeset, Stopping, NotStored);

/// Lists the nodes in natural order.
#[utoipa::path(
    get, path = "/v1/nodes", tag = "nodes", operation_id = "nodes",
    responses((status = 200, description = "All nodes.", body = NodeList), ListProblems)
)]
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<NodeList> {
    Json(app.view().nodes(app.now()))
}

/// Shows one node with its roots and replicas.
#[utoipa::path(
    get, path = "/v1/nodes/{name}", tag = "nodes", operation_id = "node",
    params(("name" = String, Path, description = "Name of the node.")),
    responses((status = 200, description = "Everything known of the node.", body = NodeDetail), ShowProblems)
)]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Segment(name): Segment,
) -> Result<Json<NodeDetail>, ApiError> {
    let view = app.view();
    Ok(Json(view.node(&name, app.now()).map_err(|error| view.suggest(error))?))
}

/// Tells the agents of the nodes to compare what they know with what is on their disks.
#[utoipa::path(
    post, path = "/v1/nodes/{nodeset}/rescan", tag = "nodes", operation_id = "rescan",
    params(("nodeset" = String, Path, description = "Nodes such as `compute[001-128],viz01`, percent-encoded.")),
    responses((status = 200, description = "Who was told. Their agents answer by what they report.", body = Rescan),
        RescanProblems)
)]
pub(super) async fn rescan(
    State(app): State<Arc<App>>,
    Segment(nodeset): Segment,
) -> Result<Json<Rescan>, ApiError> {
    let nodes: NodeSet = nodeset.parse()?;
    Ok(Json(app.handle().rescan(nodes.into_names()).await?))
}

/// Ends the trust in nodes' certificates: their sessions are cut, and they stay out until they enrol again.
#[utoipa::path(
    post, path = "/v1/nodes/{nodeset}/revoke", tag = "nodes", operation_id = "revoke",
    params(("nodeset" = String, Path, description = "Nodes such as `compute[001-128],viz01`, percent-encoded.")),
    responses((status = 200, description = "Who was revoked.", body = Revoked), RevokeProblems)
)]
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    Segment(nodeset): Segment,
) -> Result<Json<Revoked>, ApiError> {
    let nodes = nodeset.parse::<NodeSet>()?.into_names();
    let answer = app.handle().identify(IdentityCommand::Revoke { nodes }).await?;
    let Ok(IdentityAnswer::Revoked { nodes, unheard_of, steps }) = answer else {
        return Ok(Json(Revoked { nodes: String::new(), unheard_of: String::new() }));
    };
    // Whoever is told that a node is out must not find it in again after a power cut.
    let what = "the nodes are out, and may be back after a restart";
    let stored = app.store().commit(steps).await;
    stored.map_err(|source| TokenError::NotStored { what, source: source.into() })?;
    let folded = |nodes: &[NodeName]| fold(nodes.iter().map(NodeName::as_str));
    Ok(Json(Revoked { nodes: folded(&nodes), unheard_of: folded(&unheard_of) }))
}

/// Marks nodes as busy: they are held to the lower limits until the mark is taken off.
#[utoipa::path(
    post, path = "/v1/nodes/{nodeset}/busy", tag = "nodes", operation_id = "busy",
    params(("nodeset" = String, Path, description = "Nodes such as `compute[001-128],viz01`, percent-encoded.")),
    responses((status = 200, description = "Who is marked.", body = Marked), MarkProblems)
)]
pub(super) async fn busy(
    State(app): State<Arc<App>>,
    Segment(nodeset): Segment,
) -> Result<Json<Marked>, ApiError> {
    mark(&app, &nodeset, true).await
}

/// Takes the mark off nodes. Those on which Slurm runs jobs are busy all the same.
#[utoipa::path(
    post, path = "/v1/nodes/{nodeset}/idle", tag = "nodes", operation_id = "idle",
    params(("nodeset" = String, Path, description = "Nodes such as `compute[001-128],viz01`, percent-encoded.")),
    responses((status = 200, description = "Who is not marked any longer.", body = Marked), MarkProblems)
)]
pub(super) async fn idle(
    State(app): State<Arc<App>>,
    Segment(nodeset): Segment,
) -> Result<Json<Marked>, ApiError> {
    mark(&app, &nodeset, false).await
}

async fn mark(app: &App, nodeset: &str, busy: bool) -> Result<Json<Marked>, ApiError> {
    let wanted: NodeSet = nodeset.parse()?;
    let (nodes, unheard_of) = app.view().told_apart(wanted.into_names());
    let marked = Marked {
        nodes: fold(nodes.iter().map(NodeName::as_str)),
        unheard_of: fold(unheard_of.iter().map(NodeName::as_str)),
    };
    app.handle().limit(LimitCommand::Mark { nodes, busy }).await?;
    Ok(Json(marked))
}
