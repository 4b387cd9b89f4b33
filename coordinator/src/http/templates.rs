//! `GET /v1/templates`, `GET`, `PUT` and `DELETE /v1/templates/{id}`, and `GET /api/v2/templates/{template_id}/validate`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use sifleet_common::api::templates::{
    Template, TemplateBody, TemplateList, TemplateMistake, TemplateValidation,
};
use sifleet_common::availability::Satisfied;

use super::App;
use super::dashboard::{Shown, find_out};
use super::extract::{Json, Segment};
use super::language::{Told, Wanted};
use super::problem::{ApiError, problems};
use crate::store::template::{MAX_ID, TemplateRecord};
use crate::templates::{Found, TemplateError};
use crate::view::verdict::{Finding, Question};
use crate::words::{Facts, Reason};

/// Most images that are offered instead of one that is not there.
const MAX_OFFERED: usize = 100;

problems!(ListProblems:);
problems!(ShowProblems: BadQuery, UnknownTemplate);
problems!(PutProblems: BadTemplate, BadJson, SlowBody, TemplateOfFile, BodyTooLarge, UnsupportedMediaType,
    TooManyTemplates, NotStored);
problems!(DeleteProblems: UnknownTemplate, TemplateOfFile, NotStored);
problems!(ValidateProblems: UnknownTemplate, Stopping);

/// Lists all templates, and what is wrong with their files.
#[utoipa::path(
    get, path = "/v1/templates", tag = "templates", operation_id = "templates",
    responses((status = 200, description = "All templates.", body = TemplateList), ListProblems)
)]
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<TemplateList> {
    Json(app.templates().book().list(app.now()))
}

/// Shows one template.
#[utoipa::path(
    get, path = "/v1/templates/{id}", tag = "templates", operation_id = "template",
    params(("id" = String, Path, description = "What the template is called.")),
    responses((status = 200, description = "The template.", body = Template), ShowProblems)
)]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<Template>, ApiError> {
    Ok(Json(app.templates().book().show(&id)?))
}

/// Puts a template: it is on disk when this answers. One that a file says is changed in that file alone.
#[utoipa::path(
    put, path = "/v1/templates/{id}", tag = "templates", operation_id = "template_put",
    params(("id" = String, Path, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", description = "What the template is to be called.")),
    request_body = TemplateBody,
    responses(
        (status = 200, description = "The template, which was another one before.", body = Template),
        (status = 201, description = "The template, which is new.", body = Template),
        PutProblems,
    )
)]
pub(super) async fn put(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Json(body): Json<TemplateBody>,
) -> Result<Response, ApiError> {
    let id = id.parse().map_err(TemplateError::Unfit)?;
    let record = TemplateRecord::read(id, body, app.now().wall).map_err(TemplateError::Unfit)?;
    let id = record.id.clone();
    let is_new = app.templates().put(record).await?;
    let mut response = Json(app.templates().book().show(id.as_str())?).into_response();
    if is_new {
        *response.status_mut() = StatusCode::CREATED;
    }
    Ok(response)
}

/// Deletes a template that was put.
#[utoipa::path(
    delete, path = "/v1/templates/{id}", tag = "templates", operation_id = "template_delete",
    params(("id" = String, Path, description = "What the template is called.")),
    responses((status = 200, description = "The template as it was.", body = Template), DeleteProblems)
)]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<Template>, ApiError> {
    let template = app.templates().book().show(&id)?;
    app.templates().delete(&id).await?;
    Ok(Json(template))
}

/// Says whether a template's jobs find their image; never yes by a guess.
#[utoipa::path(
    get, path = "/api/v2/templates/{template_id}/validate", tag = "dashboard", operation_id = "template_validate",
    params(
        ("template_id" = String, Path, description = "What the template is called."),
        ("Accept-Language" = Option<String>, Header, description = "`en` or `ko`: the language of sentences."),
    ),
    responses((status = 200, description = "The truthful answer, whatever it is.", body = TemplateValidation), ValidateProblems)
)]
pub(super) async fn validate(
    State(app): State<Arc<App>>,
    Wanted(language): Wanted,
    Segment(template_id): Segment,
) -> Result<Told<TemplateValidation>, ApiError> {
    super::check_length("template_id", &template_id, 2 * MAX_ID)?;
    let found = app.templates().book().find(&template_id)?;
    let (view, now) = (app.handle().views.load_full(), app.now());
    let (finding, require) = match &found {
        Found::Template(record) => (view.verdict(&question(record), now), record.require.to_string()),
        Found::Unreadable(mistake) => (unreadable(mistake), String::new()),
    };
    find_out(&app, &finding).await?;
    let Shown { reason, message, hint, counts, nodeset, path } = Shown::of(&finding, language);
    let exists = counts.ready > 0;
    let offered = || view.available_on(&finding.facts.partition, MAX_OFFERED, now).unwrap_or_default();
    let answer = TemplateValidation {
        template_id,
        valid: finding.satisfied == Satisfied::Yes,
        image_exists: exists,
        image_path: path,
        available_images: (!exists).then(offered),
        image_name: finding.facts.image,
        image_partition: finding.facts.partition,
        message,
        verdict: finding.satisfied,
        reason,
        hint,
        nodeset,
        counts,
        require,
        as_of: now.wall.to_string(),
    };
    Ok(Told(language, answer))
}

/// Asks what a template needs to know.
pub(super) fn question(record: &TemplateRecord) -> Question<'_> {
    Question {
        image: &record.image,
        partition: record.partition.as_str(),
        nodes: None,
        require: record.require,
        digest: record.digest,
        signer: record.signer,
    }
}

/// Says of a template whose file was never read that nothing is known.
pub(super) fn unreadable(mistake: &TemplateMistake) -> Finding {
    let place = [mistake.line, mistake.column].into_iter().flatten().map(|number| format!(":{number}"));
    let what = format!("{}{}: {}", mistake.file, place.collect::<String>(), mistake.message);
    Finding {
        satisfied: Satisfied::Unknown,
        reason: Reason::TemplateUnreadable,
        facts: Facts { what, ..Facts::default() },
        found: None,
        unverified: Vec::new(),
    }
}
