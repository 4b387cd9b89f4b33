//! `POST /api/apptainer/scan`: the nodes of partitions look at their directories, and are waited for.
//!
//! A node has answered when the view shows the number of this scan, which its agent repeats after everything that it found.
//! Files that were found and are not hashed yet are waited for as well, as long as there is time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use roaring::RoaringBitmap;
use sifleet_common::api::apptainer::{NotAnswered, ScanAnswer, ScanRequest};
use sifleet_common::name::NodeName;
use sifleet_common::time::Now;
use tokio::time::{Instant, sleep};

use super::super::App;
use super::super::extract::MaybeJson;
use super::super::language::{Told, Wanted};
use super::super::problem::{ApiError, problems};
use super::MAX_FILTER;
use crate::view::View;
use crate::words::{Facts, Language, Reason};

/// Most partitions of one scan.
const MAX_PARTITIONS: usize = 1_000;
/// How often it is looked who has answered: agents take some milliseconds.
const LOOK: Duration = Duration::from_millis(20);
/// How long files that were found are waited for until they are hashed, once all nodes have answered: what was copied a
/// moment ago has to settle first. What somebody writes for hours is not waited for.
const SETTLE: Duration = Duration::from_secs(3);

problems!(ScanProblems: BadJson, SlowBody, BodyTooLarge, UnsupportedMediaType, Stopping);

/// Has the nodes of partitions, and of the library, look at their directories; answers when they have, or when
/// `dashboard.scan_wait` is over, and then names those that have not.
#[utoipa::path(
    post, path = "/api/apptainer/scan", tag = "dashboard", operation_id = "apptainer_scan",
    params(("Accept-Language" = Option<String>, Header, description = "`en` or `ko`: the language of sentences.")),
    request_body(content = Option<ScanRequest>, description = "Which partitions; without a body all of them, and the library."),
    responses((status = 200, description = "What there is now.", body = ScanAnswer), ScanProblems)
)]
pub(in crate::http) async fn scan(
    State(app): State<Arc<App>>,
    Wanted(language): Wanted,
    MaybeJson(request): MaybeJson<ScanRequest>,
) -> Result<Told<ScanAnswer>, ApiError> {
    let asked = Asked::read(&app, request.unwrap_or_default())?;
    let (nodes, names) = {
        let view = app.view();
        let nodes = asked.nodes(&view);
        let names: Vec<NodeName> =
            nodes.iter().filter_map(|id| view.info(id)).map(|node| node.name.clone()).collect();
        (nodes, names)
    };
    let scan = app.handle().scan(names).await?;
    let mut until = Instant::now() + app.dashboard().scan_wait;
    let mut all_answered = false;
    while Instant::now() < until {
        {
            let (view, now) = (app.view(), app.now());
            let answered = silent(&view, &told(&view, &nodes), scan.number).is_empty();
            if answered && view.unfinished_on(&nodes, now) == 0 {
                break;
            }
            if answered && !all_answered {
                all_answered = true;
                until = until.min(Instant::now() + SETTLE);
            }
        }
        sleep(LOOK).await;
    }
    let (view, now) = (app.view(), app.now());
    let answer = asked.answer(&view, (&nodes, scan.number), language, now);
    Ok(Told(language, answer))
}

/// What was asked for.
struct Asked {
    partitions: Vec<String>,
    unknown: Vec<String>,
}

impl Asked {
    fn read(app: &App, request: ScanRequest) -> Result<Self, ApiError> {
        let view = app.view();
        let mut partitions = request.partitions.unwrap_or_else(|| view.places_to_scan());
        if partitions.len() > MAX_PARTITIONS {
            let detail = format!("partitions: at most {MAX_PARTITIONS} are scanned at once");
            return Err(ApiError::BadJson { detail });
        }
        for name in &partitions {
            super::super::check_length("partitions", name, MAX_FILTER)?;
        }
        let mut seen = std::collections::BTreeSet::new();
        partitions.retain(|name| seen.insert(name.clone()));
        let unknown = partitions.iter().filter(|name| view.nodes_to_scan(name).is_err()).cloned().collect();
        Ok(Self { partitions, unknown })
    }

    fn nodes(&self, view: &View) -> RoaringBitmap {
        let nodes = self.partitions.iter().filter_map(|name| view.nodes_to_scan(name).ok());
        nodes.fold(RoaringBitmap::new(), |all, nodes| all | nodes)
    }

    fn answer(
        self,
        view: &View,
        (nodes, number): (&RoaringBitmap, u64),
        language: Language,
        now: Now,
    ) -> ScanAnswer {
        let told = told(view, nodes);
        let silent = silent(view, &told, number);
        let missed = [(Reason::Offline, nodes - &told), (Reason::Silent, silent)];
        let answered = missed.iter().fold(nodes.clone(), |left, (_, missed)| left - missed);
        let not_answered: Vec<NotAnswered> = missed
            .iter()
            .filter(|(_, nodes)| !nodes.is_empty())
            .map(|(reason, nodes)| {
                let facts = Facts { nodes: view.fold(nodes), ..Facts::default() };
                let message = reason.message(language, &facts);
                NotAnswered { nodes: facts.nodes, reason: reason.code().to_owned(), message }
            })
            .collect();
        let complete = not_answered.is_empty();
        let end = if complete { Reason::ScanCompleted } else { Reason::ScanIncomplete };
        let facts = Facts { nodes: view.fold(&(nodes - &answered)), ..Facts::default() };
        let stats: BTreeMap<String, u32> = self
            .partitions
            .iter()
            .map(|name| (name.clone(), view.images_ready_on(name, now).unwrap_or_default()))
            .collect();
        ScanAnswer {
            message: end.message(language, &facts),
            stats,
            scanned_partitions: self.partitions,
            complete,
            answered: view.fold(&answered),
            not_answered,
            unknown_partitions: self.unknown,
            unfinished: view.unfinished_on(nodes, now),
            as_of: now.wall.to_string(),
        }
    }
}

/// Keeps the nodes whose agents are connected: of the others nobody waits for a word.
fn told(view: &View, nodes: &RoaringBitmap) -> RoaringBitmap {
    nodes.iter().filter(|id| view.info(*id).is_some_and(|node| node.connected)).collect()
}

/// Keeps the nodes that have not come to the end of a scan.
fn silent(view: &View, nodes: &RoaringBitmap, number: u64) -> RoaringBitmap {
    nodes.iter().filter(|id| view.info(*id).is_none_or(|node| node.scanned < number)).collect()
}
