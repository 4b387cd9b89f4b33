//! `GET /api/vnc/images`: which images there are for remote desktops, and which of them can be started.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::extract::State;
use sifleet_common::api::vnc::{VncImage, VncImages};
use sifleet_common::availability::Satisfied;
use sifleet_common::time::Now;

use super::App;
use super::apptainer::abouts;
use super::dashboard::{Options, Shown};
use super::language::{Told, Wanted};
use super::problem::{ApiError, problems};
use crate::view::View;
use crate::view::about::About;
use crate::view::apptainer::Row;
use crate::view::verdict::Question;
use crate::words::Language;

/// What stands for an image that names no icon.
const ICON: &str = "🖥️";

problems!(ListProblems: UnknownPartition);

/// Lists the images of the partition `dashboard.vnc_partition`; `available` if as many of its nodes are ready as
/// `dashboard.vnc_require` says.
#[utoipa::path(
    get, path = "/api/vnc/images", tag = "dashboard", operation_id = "vnc_images",
    params(("Accept-Language" = Option<String>, Header, description = "`en` or `ko`: the language of sentences.")),
    responses((status = 200, description = "The images, the default one first.", body = VncImages), ListProblems)
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Wanted(language): Wanted,
) -> Result<Told<VncImages>, ApiError> {
    let (view, now) = (app.handle().views.load_full(), app.now());
    let set = app.dashboard();
    let rows = view.rows(Some(set.vnc_partition.as_str()), now).map_err(|error| view.suggest(error))?;
    let abouts = abouts(&app, &rows).await?;
    let mut images: Vec<VncImage> = rows
        .iter()
        .map(|row| {
            let about = row.described.and_then(|digest| abouts.get(&digest)).cloned().unwrap_or_default();
            image(&view, set, (row, about), language, now)
        })
        .collect();
    images.sort_by_key(|image| Reverse(image.default));
    let answer = VncImages {
        images,
        partition: set.vnc_partition.clone(),
        require: set.vnc_require.to_string(),
        as_of: now.wall.to_string(),
    };
    Ok(Told(language, answer))
}

fn image(view: &View, set: &Options, (row, about): (&Row, About), language: Language, now: Now) -> VncImage {
    let question = Question {
        image: &row.name,
        partition: &set.vnc_partition,
        nodes: None,
        require: set.vnc_require,
        digest: None,
        signer: None,
    };
    let finding = view.verdict(&question, now);
    let Shown { reason, message, hint, counts, nodeset, .. } = Shown::of(&finding, language);
    VncImage {
        id: row.id.clone(),
        name: about.title.unwrap_or_else(|| row.name.clone()),
        description: about.description.unwrap_or_default(),
        icon: about.icon.unwrap_or_else(|| ICON.to_owned()),
        default: about.default,
        available: finding.satisfied == Satisfied::Yes,
        satisfied: finding.satisfied,
        reason,
        message,
        hint,
        nodeset,
        counts,
    }
}
