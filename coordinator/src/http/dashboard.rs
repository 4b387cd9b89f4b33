//! What the addresses of dashboards share: what may be set of them, and how a verdict is put into a question's words.

use std::time::Duration;

use sifleet_common::availability::{Counts, Require};

use super::App;
use super::problem::ApiError;
use crate::state::Event;
use crate::view::verdict::Finding;
use crate::words::Language;

/// What may be set of what dashboards are answered.
#[derive(Clone, Debug)]
pub struct Options {
    /// The partition whose images are for remote desktops.
    pub vnc_partition: String,
    /// How many of its nodes must be ready for an image to be offered.
    pub vnc_require: Require,
    /// How long a scan waits for nodes to look at their directories; less than a request may take.
    pub scan_wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { vnc_partition: "viz".to_owned(), vnc_require: Require::All, scan_wait: Duration::from_secs(8) }
    }
}

/// What every answer tells of a verdict.
pub(super) struct Shown {
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    pub(super) counts: Counts,
    pub(super) nodeset: String,
    pub(super) path: Option<String>,
}

impl Shown {
    /// Puts a verdict into words.
    pub(super) fn of(finding: &Finding, language: Language) -> Self {
        let found = finding.found.as_ref();
        Self {
            reason: finding.reason.code().to_owned(),
            message: finding.reason.message(language, &finding.facts),
            hint: finding.reason.hint(language, &finding.facts),
            counts: found.map(|found| found.counts).unwrap_or_default(),
            nodeset: found.map(|found| found.nodes.ready.clone()).unwrap_or_default(),
            path: found.and_then(|found| found.paths.first()).map(|place| place.path.clone()),
        }
    }
}

/// Sees to it that somebody finds out who signed what a verdict could not be given on.
pub(super) async fn find_out(app: &App, finding: &Finding) -> Result<(), ApiError> {
    for image in finding.unverified.iter().copied() {
        app.handle().send(Event::WhoSigned { image }).await?;
    }
    Ok(())
}
