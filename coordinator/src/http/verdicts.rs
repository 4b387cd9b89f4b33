//! `POST /v1/verdicts`: would a job that needs this image run; and, if it is wished, the push that would make it so.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use sifleet_common::api::verdicts::{VerdictAnswer, VerdictKind, VerdictRequest};
use sifleet_common::availability::Require;
use sifleet_common::digest::{Digest, DigestError};
use sifleet_common::name::{MAX_IMAGE_NAME, MAX_PARTITION_NAME};
use sifleet_common::nodeset::NodeSet;
use sifleet_common::policy::Fingerprint;
use sifleet_common::role::Role;

use super::App;
use super::dashboard::{Shown, find_out};
use super::edge::Changed;
use super::extract::Json;
use super::gate::Asking;
use super::language::{Told, Wanted};
use super::problem::{ApiError, problems};
use super::templates::unreadable;
use crate::state::pushes::Command;
use crate::store::push::PushNo;
use crate::templates::Found;
use crate::view::verdict::{Finding, Question};

/// Longest reference to an image or a template, in bytes: a path, `@` and a digest.
const MAX_REFERENCE: usize = MAX_IMAGE_NAME + 72;
/// Longest partition asked about, in bytes.
const MAX_PARTITION: usize = 2 * MAX_PARTITION_NAME;

problems!(AskProblems: BadRequirement, BadNodeset, BadJson, UnknownTemplate, SlowBody, BodyTooLarge, UnsupportedMediaType,
    Stopping);

/// Answers whether a job that needs an image would run: yes, no, or not known. With `ensure` the push that would make it
/// true is begun, unless one is under way or has brought the bytes already; that needs the role `operator`.
#[utoipa::path(
    post, path = "/v1/verdicts", tag = "verdicts", operation_id = "verdict",
    params(("Accept-Language" = Option<String>, Header, description = "`en` or `ko`: the language of sentences.")),
    request_body = VerdictRequest,
    responses((status = 200, description = "The truthful answer, whatever it is.", body = VerdictAnswer), AskProblems)
)]
pub(super) async fn ask(
    State(app): State<Arc<App>>,
    asking: Asking,
    Wanted(language): Wanted,
    Json(request): Json<VerdictRequest>,
) -> Result<Response, ApiError> {
    if request.ensure {
        asking.must_be(Role::Operator)?;
    }
    let asked = Asked::read(&app, &request)?;
    let (view, now) = (app.handle().views.load_full(), app.now());
    let question = asked.question();
    let finding = asked.unreadable.clone().unwrap_or_else(|| view.verdict(&question, now));
    find_out(&app, &finding).await?;
    let push = if request.ensure && asked.unreadable.is_none() {
        ensure(&app, &question, &finding).await
    } else {
        Ok(None)
    };
    let shown = Shown::of(&finding, language);
    let mut body = asked.answer(request, (finding, shown));
    (body.language, body.as_of, body.generation) =
        (language.tag().to_owned(), now.wall.to_string(), view.generation);
    let begun = match push {
        Ok(push) => push,
        Err(error @ (ApiError::Push(_) | ApiError::Query(_) | ApiError::BadNodeset(_))) => {
            body.push_problem = Some(error.problem(None));
            None
        }
        Err(error) => return Err(error),
    };
    body.push = begun.map(|no| no.to_string());
    let mut response = Told(language, body).into_response();
    if let Some(no) = begun {
        response.extensions_mut().insert(Changed);
        if let Ok(location) = HeaderValue::try_from(format!("/v1/pushes/{no}")) {
            response.headers_mut().insert(header::LOCATION, location);
        }
    }
    Ok(response)
}

/// Begins the push that would make a verdict a yes, or finds one that does or did.
async fn ensure(app: &App, question: &Question<'_>, finding: &Finding) -> Result<Option<PushNo>, ApiError> {
    let wish = app.view().wish_to_ensure(question, finding, app.now())?;
    let Some(wish) = wish else { return Ok(None) };
    Ok(Some(app.handle().push(Command::Ensure(Box::new(wish))).await??))
}

/// A request that was understood.
struct Asked {
    image: String,
    partition: String,
    nodes: Option<NodeSet>,
    require: Require,
    digest: Option<Digest>,
    signer: Option<Fingerprint>,
    /// The verdict on a template whose file was never read.
    unreadable: Option<Finding>,
}

impl Asked {
    fn read(app: &App, request: &VerdictRequest) -> Result<Self, ApiError> {
        for (name, text, max) in [
            ("ref", &request.reference, MAX_REFERENCE),
            ("image", &request.image, MAX_REFERENCE),
            ("partition", &request.partition, MAX_PARTITION),
        ] {
            super::check_length(name, text.as_deref().unwrap_or_default(), max)?;
        }
        let bad = |error: DigestError| ApiError::BadJson { detail: format!("digest: {error}") };
        let digest = request.digest.as_deref().map(str::parse::<Digest>).transpose().map_err(bad)?;
        let mut asked = Self {
            image: request.image.clone().or_else(|| request.reference.clone()).unwrap_or_default(),
            partition: request.partition.clone().unwrap_or_default(),
            nodes: request.nodes.as_deref().map(str::parse).transpose()?,
            require: Require::default(),
            digest,
            signer: None,
            unreadable: None,
        };
        match request.kind {
            VerdictKind::Image => {}
            VerdictKind::Vnc => asked.default_to_vnc(app, request),
            VerdictKind::Template => asked.default_to_template(app, request)?,
        }
        if let Some(require) = &request.require {
            asked.require = require.parse()?;
        }
        let missing = [("image", &asked.image), ("partition", &asked.partition)];
        match missing.iter().find(|(_, text)| text.is_empty()) {
            Some((name, _)) if asked.unreadable.is_none() => {
                Err(ApiError::BadJson { detail: format!("{name}: name one") })
            }
            _ => Ok(asked),
        }
    }

    fn default_to_vnc(&mut self, app: &App, request: &VerdictRequest) {
        let set = app.dashboard();
        self.require = set.vnc_require;
        if request.partition.is_none() {
            self.partition = set.vnc_partition.clone();
        }
    }

    fn default_to_template(&mut self, app: &App, request: &VerdictRequest) -> Result<(), ApiError> {
        let Some(id) = &request.reference else {
            return Err(ApiError::BadJson { detail: "ref: name the template".to_owned() });
        };
        match app.templates().book().find(id)? {
            Found::Unreadable(mistake) => self.unreadable = Some(unreadable(&mistake)),
            Found::Template(record) => {
                (self.require, self.signer) = (record.require, record.signer);
                self.digest = self.digest.or(record.digest);
                self.image = request.image.clone().unwrap_or(record.image);
                self.partition = request.partition.clone().unwrap_or_else(|| record.partition.to_string());
            }
        }
        Ok(())
    }

    fn question(&self) -> Question<'_> {
        Question {
            image: &self.image,
            partition: &self.partition,
            nodes: self.nodes.as_ref(),
            require: self.require,
            digest: self.digest,
            signer: self.signer,
        }
    }

    /// Makes the body, but for when it was true and for the push.
    fn answer(&self, request: VerdictRequest, (finding, shown): (Finding, Shown)) -> VerdictAnswer {
        let (nodes, paths, reasons, expected_digest) = match finding.found {
            Some(found) => (Some(found.nodes), found.paths, found.reasons, found.expected_digest),
            None => (None, Vec::new(), Vec::new(), None),
        };
        VerdictAnswer {
            kind: request.kind,
            reference: request.reference,
            image: finding.facts.image,
            partition: finding.facts.partition,
            require: self.require.to_string(),
            verdict: finding.satisfied,
            reason: shown.reason,
            message: shown.message,
            hint: shown.hint,
            language: String::new(),
            counts: shown.counts,
            nodes,
            paths,
            reasons,
            expected_digest,
            push: None,
            push_problem: None,
            as_of: String::new(),
            generation: 0,
        }
    }
}
