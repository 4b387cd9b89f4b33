//! Which path leads to which handler, and which role each of its methods needs.
//!
//! Whatever is mounted here passes the [`super::edge`]; whoever adds a route has to say whom it is for.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::ParameterIn;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use super::edge::{Doors, EdgeLayer, RequestIds};
use super::gate::{ADMIN, Need, Needs, OPERATOR, VIEWER, delete, get, post};
use super::problem::old::{describe_as_of_old, is_of_old};
use super::problem::{self, ApiError};
use super::{App, AppState, openapi};
use super::{
    apptainer, audit, availability, container_registries, drift, enrolments, events, health, images, imports,
    library, limits, metrics, nodes, oci, partitions, preheats, pushes, registries, removals, templates,
    tokens, verdicts, vnc,
};

/// For everybody.
const PUBLIC: Needs = get(Need::Public);
/// For those who read.
const READ: Needs = get(VIEWER);
/// For those who change what is where.
const ACT: Needs = post(OPERATOR);

/// Makes the router of the whole API. It needs no sockets: [`super::server`] serves it, tests call it.
pub fn router(state: &AppState) -> Router {
    let app = Arc::clone(&state.0);
    let doors = Doors {
        hosts: Arc::clone(&app.hosts),
        access: Arc::clone(&app.access),
        clock: app.handle.clock,
        ids: RequestIds::new(app.process),
    };
    let edges = Edges { doors: Arc::new(doors), app };
    let documented = callers(&edges, moves(&edges, reads(&edges)));
    let documented = registries(&edges, dashboard(&edges, documented));
    let (router, document) = documented.split_for_parts();
    let within = edges.within();
    let pages = openapi::pages(document).layer(edges.layer("/docs", PUBLIC, within));
    let elsewhere = axum::routing::any(no_route).layer(edges.layer("unmatched", PUBLIC, within));
    router
        .merge(pages)
        .merge(oci_routes(&edges))
        .merge(preheat_routes(&edges))
        .fallback_service(elsewhere)
        .with_state(Arc::clone(&state.0))
}

/// What there is to know.
fn reads(edges: &Edges) -> OpenApiRouter<Arc<App>> {
    let within = edges.within();
    let ask = READ.post(VIEWER);
    OpenApiRouter::with_openapi(openapi::base())
        .routes(edges.wrap("/v1/availability", ask, within, routes!(availability::get, availability::post)))
        .routes(edges.wrap("/v1/images", READ, within, routes!(images::list)))
        .routes(edges.wrap("/v1/images/{image}", READ, within, routes!(images::show)))
        .routes(edges.wrap("/v1/nodes", READ, within, routes!(nodes::list)))
        .routes(edges.wrap("/v1/nodes/{name}", READ, within, routes!(nodes::show)))
        .routes(edges.wrap("/v1/partitions", READ, within, routes!(partitions::list)))
        .routes(edges.wrap("/v1/partitions/{name}", READ, within, routes!(partitions::show)))
        .routes(edges.wrap("/v1/drift", READ, within, routes!(drift::list)))
        .routes(edges.wrap("/v1/events", READ, None, routes!(events::follow)))
        .routes(edges.wrap("/healthz", PUBLIC, within, routes!(health::live)))
        .routes(edges.wrap("/readyz", PUBLIC, within, routes!(health::ready)))
        .routes(edges.wrap("/metrics", READ, within, routes!(metrics::scrape)))
}

/// What changes which images are where.
fn moves(edges: &Edges, router: OpenApiRouter<Arc<App>>) -> OpenApiRouter<Arc<App>> {
    let within = edges.within();
    let (both, pieces) = (READ.post(OPERATOR), get(OPERATOR).patch(OPERATOR).delete(OPERATOR).counted());
    let upload = routes!(library::look, library::append, library::abandon);
    router
        .routes(edges.wrap("/v1/nodes/{nodeset}/rescan", ACT, within, routes!(nodes::rescan)))
        .routes(edges.wrap("/v1/nodes/{nodeset}/busy", ACT, within, routes!(nodes::busy)))
        .routes(edges.wrap("/v1/nodes/{nodeset}/idle", ACT, within, routes!(nodes::idle)))
        .routes(edges.wrap("/v1/pushes", both, within, routes!(pushes::create, pushes::list)))
        .routes(edges.wrap("/v1/pushes/{id}", READ, within, routes!(pushes::show)))
        .routes(edges.wrap("/v1/pushes/{id}/nodes", READ, within, routes!(pushes::nodes)))
        .routes(edges.wrap("/v1/pushes/{id}/events", READ, None, routes!(pushes::follow)))
        .routes(edges.wrap("/v1/pushes/{id}/cancel", ACT, within, routes!(pushes::cancel)))
        .routes(edges.wrap("/v1/pushes/{id}/retry", ACT, within, routes!(pushes::retry)))
        .routes(edges.wrap("/v1/pushes/{id}/rate", ACT, within, routes!(pushes::rate)))
        .routes(edges.wrap("/v1/removals", both, within, routes!(removals::create, removals::list)))
        .routes(edges.wrap("/v1/removals/{id}", READ, within, routes!(removals::show)))
        .routes(edges.wrap("/v1/removals/{id}/cancel", ACT, within, routes!(removals::cancel)))
        .routes(edges.wrap("/v1/library/uploads", ACT, None, routes!(library::begin)))
        .routes(edges.wrap("/v1/library/uploads/{id}", pieces, None, upload))
        .routes(edges.wrap("/v1/library/uploads/{id}/finish", ACT, None, routes!(library::finish)))
}

/// Who may do what, and how much.
fn callers(edges: &Edges, router: OpenApiRouter<Arc<App>>) -> OpenApiRouter<Arc<App>> {
    let within = edges.within();
    let (limited, tokens) = (READ.patch(ADMIN), get(ADMIN).post(ADMIN));
    router
        .routes(edges.wrap("/v1/limits", limited, within, routes!(limits::show, limits::change)))
        .routes(edges.wrap("/v1/tokens", tokens, within, routes!(tokens::create, tokens::list)))
        .routes(edges.wrap("/v1/tokens/{id}", delete(ADMIN), within, routes!(tokens::revoke)))
        .routes(edges.wrap("/v1/enrolments", tokens, within, routes!(enrolments::create, enrolments::list)))
        .routes(edges.wrap("/v1/enrolments/{id}", delete(ADMIN), within, routes!(enrolments::withdraw)))
        .routes(edges.wrap("/v1/nodes/{nodeset}/revoke", post(ADMIN), within, routes!(nodes::revoke)))
        .routes(edges.wrap("/v1/audit", get(ADMIN), within, routes!(audit::list)))
}

/// What clients of registries use. Its document is the specification's, so that it is not in ours; an image takes as long as
/// it takes.
fn oci_routes(edges: &Edges) -> Router<Arc<App>> {
    let anonymous = edges.app.limits.oci.anonymous_pull;
    // Even where everybody may pull: by this refusal those who push learn how to say who they are.
    let ping = edges.layer("/v2/", READ, edges.within()).for_registries();
    let needs = get(oci::readers(anonymous)).post(OPERATOR).put(OPERATOR).patch(OPERATOR).delete(OPERATOR);
    let serve = edges.layer("/v2/{*path}", needs.counted(), None).for_registries();
    Router::new()
        .route("/v2", axum::routing::any(oci::ping).layer(ping.clone()))
        .route("/v2/", axum::routing::any(oci::ping).layer(ping))
        .route("/v2/{*path}", axum::routing::any(oci::serve).layer(serve))
}

/// What Harbor asks of whoever preheats images for it, for the partition of the settings and for each. Its document is Harbor's.
fn preheat_routes(edges: &Edges) -> Router<Arc<App>> {
    let layer = |path, needs| edges.layer(path, needs, edges.within()).without_query();
    let (healthy, create, show) = (
        || axum::routing::get(preheats::healthy),
        || axum::routing::post(preheats::create),
        || axum::routing::get(preheats::show),
    );
    let mut router = Router::new();
    for (path, handler, needs) in [
        ("/healthy", healthy(), READ),
        ("/oapi/v1/jobs", create(), ACT),
        ("/oapi/v1/jobs/{id}", show(), READ),
        ("/preheat/{partition}/healthy", healthy(), READ),
        ("/preheat/{partition}/oapi/v1/jobs", create(), ACT),
        ("/preheat/{partition}/oapi/v1/jobs/{id}", show(), READ),
    ] {
        router = router.route(path, handler.layer(layer(path, needs)));
    }
    router
}

/// What dashboards ask, at the addresses that they ask already and at ours.
fn dashboard(edges: &Edges, router: OpenApiRouter<Arc<App>>) -> OpenApiRouter<Arc<App>> {
    let within = edges.within();
    let template = READ.put(OPERATOR).delete(OPERATOR);
    let handlers = routes!(templates::show, templates::put, templates::delete);
    router
        .routes(edges.wrap("/v1/verdicts", post(VIEWER), within, routes!(verdicts::ask)))
        .routes(edges.wrap("/v1/templates", READ, within, routes!(templates::list)))
        .routes(edges.wrap("/v1/templates/{id}", template, within, handlers))
        .routes(edges.wrap("/api/apptainer/scan", ACT, within, routes!(apptainer::scan)))
        .routes(edges.wrap("/api/apptainer/images", READ, within, routes!(apptainer::list)))
        .routes(edges.wrap("/api/apptainer/images/{id}/metadata", READ, within, routes!(apptainer::metadata)))
        .routes(edges.wrap("/api/apptainer/validate/{image_id}", READ, within, routes!(apptainer::validate)))
        .routes(edges.wrap(
            "/api/v2/templates/{template_id}/validate",
            READ,
            within,
            routes!(templates::validate),
        ))
        .routes(edges.wrap("/api/vnc/images", READ, within, routes!(vnc::list)))
}

/// Who the external registries are, and what comes in from them.
fn registries(edges: &Edges, router: OpenApiRouter<Arc<App>>) -> OpenApiRouter<Arc<App>> {
    let within = edges.within();
    let (all, one) = (READ.post(OPERATOR), READ.put(OPERATOR).delete(OPERATOR));
    let (ask, secret) = (post(VIEWER), delete(ADMIN).put(ADMIN));
    let own = routes!(registries::show, registries::change, registries::forget);
    let older =
        routes!(container_registries::show, container_registries::change, container_registries::forget);
    let older_all = routes!(container_registries::list, container_registries::create);
    let credentials = routes!(registries::sign_in, registries::sign_out);
    router
        .routes(edges.wrap("/v1/registries", all, within, routes!(registries::list, registries::create)))
        .routes(edges.wrap("/v1/registries/query", ask, within, routes!(registries::query)))
        .routes(edges.wrap("/v1/registries/{id}", one, within, own))
        .routes(edges.wrap("/v1/registries/{id}/credentials", secret, within, credentials))
        .routes(edges.wrap("/v1/registries/{id}/health", READ, within, routes!(registries::check)))
        .routes(edges.wrap("/container_registry", all, within, older_all))
        .routes(edges.wrap("/container_registry/{id}", one, within, older))
        .routes(edges.wrap("/container_registries", ask, within, routes!(container_registries::query)))
        .routes(edges.wrap(
            "/check_container_health/{id}",
            READ,
            within,
            routes!(container_registries::check),
        ))
        .routes(edges.wrap("/v1/imports", all, within, routes!(imports::create, imports::list)))
        .routes(edges.wrap("/v1/imports/{id}", READ, within, routes!(imports::show)))
}

/// Makes the edge of each path.
struct Edges {
    app: Arc<App>,
    doors: Arc<Doors>,
}

impl Edges {
    /// How long an answer may take that is no stream.
    fn within(&self) -> Option<Duration> {
        Some(self.app.limits.request_timeout)
    }

    fn wrap(
        &self,
        route: &'static str,
        needs: Needs,
        deadline: Option<Duration>,
        (schemas, mut paths, methods): UtoipaMethodRouter<Arc<App>>,
    ) -> UtoipaMethodRouter<Arc<App>> {
        let takes_query = paths.paths.values().any(takes_query);
        let needs = paths.paths.values_mut().fold(needs, Needs::declare);
        if is_of_old(route) {
            paths.paths.values_mut().for_each(describe_as_of_old);
        }
        let layer = self.layer(route, needs, deadline);
        let layer = if takes_query { layer } else { layer.without_query() };
        (schemas, paths, methods).layer(layer)
    }

    fn layer(&self, route: &'static str, needs: Needs, deadline: Option<Duration>) -> EdgeLayer {
        EdgeLayer::new(route, needs, self.app.metrics.route(route), deadline, Arc::clone(&self.doors))
    }
}

/// Tells whether any handler of a path is described as one that reads the query.
fn takes_query(item: &utoipa::openapi::PathItem) -> bool {
    let operations = [&item.get, &item.post, &item.put, &item.patch, &item.delete];
    let operations = operations.into_iter().flatten();
    let mut parameters = operations.flat_map(|operation| operation.parameters.iter().flatten());
    parameters.any(|parameter| match parameter {
        RefOr::T(parameter) => parameter.parameter_in == ParameterIn::Query,
        // Elsewhere in the document: nothing of ours is.
        RefOr::Ref(_) => true,
    })
}

async fn no_route(request: Request) -> ApiError {
    ApiError::NoRoute { path: problem::cut(request.uri().path()) }
}
