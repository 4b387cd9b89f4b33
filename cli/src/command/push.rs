//! `sifleet push`: puts an image onto nodes and watches; `push ls`, `show`, `watch`, `cancel`, `retry`, `rate`.

mod early;
pub(super) mod file;
mod library;
mod watch;

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;
use sifleet_common::api::pushes::{
    PushBody, PushList, PushNodes, PushPlan, PushRequest, PushState, PushTarget, RateRequest,
};
use sifleet_common::push::Phase;
use sifleet_common::units::Rate;

use super::wish::{agreed, begin, has_terminal};
use crate::args::{PushArgs, PushVerb, Wish};
use crate::client::{Answer, Client, ClientError, Target};
use crate::live::Live;
use crate::outcome::{Outcome, Wrong};
use crate::output::{Note, Render as _, Screen, in_phase};
use crate::waiting::pause;
use early::Early;
use file::Local;
use watch::{Ended, watch};

/// Between two looks at whether the library's agent has seen what was uploaded.
const LOOK: Duration = Duration::from_millis(500);
/// How long that may take, besides the reading: an agent waits until a file is quiet, and looks every ten minutes where
/// nothing tells it of changes.
const SEEN: Duration = Duration::from_secs(120);
/// How long it may take until the library is known to have the file's name, where its bytes are known already.
const NAMED: Duration = Duration::from_secs(30);
/// Bytes a second that an agent reads at least, on a busy disk.
const READ: u64 = 50_000_000;

/// Does what the command line asks for.
pub(super) fn run(client: &Client, screen: &mut Screen, args: PushArgs) -> anyhow::Result<Outcome> {
    let one = |id: &str| Target::v1("pushes").segment(id);
    let Some(verb) = args.verb else { return push(client, screen, &args.wish) };
    match verb {
        PushVerb::Ls => screen.show(&client.get::<PushList>(&Target::v1("pushes"))?)?,
        PushVerb::Show { id, nodes: false } => screen.show(&client.get::<PushBody>(&one(&id))?)?,
        PushVerb::Show { id, nodes: true } => {
            screen.show(&client.get::<PushNodes>(&one(&id).segment("nodes"))?)?;
        }
        PushVerb::Watch { id, progress } => return follow(client, screen, &mut Live::new(progress), &id),
        PushVerb::Cancel { id } => return command::<()>(client, screen, (&id, "cancel"), None),
        PushVerb::Retry { id } => return command::<()>(client, screen, (&id, "retry"), None),
        PushVerb::Rate { id, rate } => {
            let body = RateRequest { rate: rate.get() };
            return command(client, screen, (&id, "rate"), Some(&body));
        }
    }
    Ok(Outcome::Yes)
}

fn push(client: &Client, screen: &mut Screen, wish: &Wish) -> anyhow::Result<Outcome> {
    let mut live = Live::new(wish.progress);
    // The grammar sees to it that both are there.
    let (Some(image), Some(to)) = (&wish.image, wish.target.body()) else {
        let hint = "write an image and -p, -w or --missing-on";
        return Err(Wrong::new("nothing is said to be pushed", hint).into());
    };
    let local = file::find(image, wish.library_name.as_ref())?;
    let early = Early::listen(local.is_some())?;
    let local = local.map(|found| found.read(&mut live, screen)).transpose()?;
    let mut request = request(wish, local.as_ref(), image, to);
    if let Some(local) = &local {
        if let Some(outcome) = bring(client, screen, &mut live, (wish, &request), local)? {
            return Ok(outcome);
        }
        request.upload = None;
    }
    let plan = plan(client, screen, &mut live, &request, local.as_ref())?;
    live.clear();
    if wish.dry_run {
        return preview(screen, &live, &plan);
    }
    live.event(screen, "plan", "plan", &plan.text)?;
    if live.is_for_people() {
        screen.announce(&plan.value);
    }
    request.dry_run = false;
    early.begin();
    let begun: Answer<PushBody> = begin(client, &Target::v1("pushes"), &request)?;
    early.begun();
    live.event(screen, "begun", "push", &begun.text)?;
    if wish.detach {
        if !live.is_json() {
            screen.show(&begun)?;
            screen.tell(&[Note::Hint(how_to_go_on(&begun.value.id))]);
        }
        return Ok(Outcome::Yes);
    }
    follow(client, screen, &mut live, &begun.value.id)
}

/// Says what is wanted in the words of the API, as a dry run.
fn request(wish: &Wish, local: Option<&Local>, image: &str, to: PushTarget) -> PushRequest {
    PushRequest {
        digest: local.map(|local| local.digest.to_string()),
        from: wish.from.as_ref().map(ToString::to_string),
        root: wish.root.clone(),
        completion: wish.completion.clone(),
        deadline_s: wish.deadline.map(|time| time.as_secs()),
        rate: wish.rate.and_then(Rate::get),
        priority: wish.priority,
        dry_run: true,
        upload: local.map(|local| local.size),
        ..PushRequest::new(local.map_or_else(|| image.to_owned(), |local| local.name.to_string()), to)
    }
}

/// Brings a file into the library, once it is certain that it can go on from there; tells how to end where that is all.
fn bring(
    client: &Client,
    screen: &mut Screen,
    live: &mut Live,
    (wish, request): (&Wish, &PushRequest),
    local: &Local,
) -> anyhow::Result<Option<Outcome>> {
    let plan = client.send::<PushPlan>(&Target::v1("pushes"), request, None)?;
    let replaced = library::replaced_by(client, local)?;
    if let Some(replaced) = &replaced {
        let event = json!({"event": "replaces", "name": replaced.name, "digest": replaced.digest});
        live.event_alone(screen, &event)?;
        if !live.is_json() {
            screen.tell(&[Note::Warning(replaced.words())]);
        }
    }
    if wish.dry_run {
        return preview(screen, live, &plan).map(Some);
    }
    if planned(&plan.value) == Outcome::No {
        live.event(screen, "plan", "plan", &plan.text)?;
        if live.is_for_people() {
            screen.announce(&plan.value);
            screen.tell(&plan.value.notes());
        }
        let what = "no node can take it: nothing was sent, and nothing is pushed";
        return Err(Wrong::new(what, "see `sifleet node show NODE`").ending(Outcome::No).into());
    }
    if replaced.is_some() && !wish.yes && has_terminal() && !agreed(screen, "Replace it?")? {
        screen.tell(&[Note::Hint("nothing was sent, and nothing is pushed".to_owned())]);
        return Ok(Some(Outcome::No));
    }
    local.upload(client, live, screen)?;
    Ok(None)
}

/// Shows what would be done.
fn preview(screen: &mut Screen, live: &Live, plan: &Answer<PushPlan>) -> anyhow::Result<Outcome> {
    if live.is_json() {
        live.event(screen, "plan", "plan", &plan.text)?;
    } else {
        screen.show(plan)?;
    }
    Ok(planned(&plan.value))
}

/// Tells whether nobody has reported the image so far.
fn is_unheard_of(error: &ClientError) -> bool {
    matches!(error.code(), Some("unknown_image" | "no_holder"))
}

/// Asks what would be done. What was uploaded a moment ago is waited for: an agent has to see it first.
fn plan(
    client: &Client,
    screen: &mut Screen,
    live: &mut Live,
    request: &PushRequest,
    uploaded: Option<&Local>,
) -> anyhow::Result<Answer<PushPlan>> {
    let target = Target::v1("pushes");
    let patience = SEEN + Duration::from_secs(uploaded.map_or(0, |local| local.size / READ));
    let (begun, mut told) = (Instant::now(), false);
    loop {
        match client.send::<PushPlan>(&target, request, None) {
            Err(error) if uploaded.is_some() && is_unheard_of(&error) && begun.elapsed() < patience => {}
            Err(error) => {
                let image = request.image.as_deref().unwrap_or_default();
                return Err(library::advised(client, image, error));
            }
            Ok(answer) => {
                // Nodes may hold the bytes under another name. What the library expects under this one decides what is ready.
                let is_shown = uploaded.map_or(Ok(true), |local| library::shows(client, local))?;
                if is_shown || begun.elapsed() > NAMED {
                    return Ok(answer);
                }
            }
        }
        if !told {
            let words = "waiting until the library's agent has seen the image";
            live.remark(screen, &json!({"event": "waiting", "for": "library"}), words)?;
            told = true;
        }
        pause(LOOK);
    }
}

/// Has a push ended, tried again or slowed down, unless it is past that.
fn command<B: Serialize>(
    client: &Client,
    screen: &mut Screen,
    (id, verb): (&str, &str),
    body: Option<&B>,
) -> anyhow::Result<Outcome> {
    let own = Target::v1("pushes").segment(id);
    let before = client.get::<PushBody>(&own)?;
    if let Some(words) = past(&before.value, verb) {
        screen.show(&before)?;
        screen.tell(&[Note::Hint(words)]);
        return Ok(Outcome::Yes);
    }
    let target = own.segment(verb);
    let answer = match body {
        Some(body) => client.send::<PushBody>(&target, body, None)?,
        None => client.post::<PushBody>(&target)?,
    };
    screen.show(&answer)?;
    Ok(Outcome::Yes)
}

/// Says why nothing is left to be done; nodes that failed may try again, as long as nobody cancelled.
fn past(push: &PushBody, verb: &str) -> Option<String> {
    let is_final = match push.state {
        PushState::Cancelled => true,
        PushState::Running => false,
        PushState::Done | PushState::Partial | PushState::Failed => {
            let open = in_phase(push, Phase::Deferred) > 0;
            match verb {
                "cancel" => !open,
                "retry" => in_phase(push, Phase::Failed) == 0,
                _ => !open && in_phase(push, Phase::Failed) == 0,
            }
        }
    };
    is_final.then(|| format!("nothing to do: it ended ({})", push.state.name()))
}

fn follow(client: &Client, screen: &mut Screen, live: &mut Live, id: &str) -> anyhow::Result<Outcome> {
    match watch(client, screen, live, id)? {
        Ended::Push(push) => {
            live.clear();
            finish(screen, live, &push)?;
            Ok(outcome(&push.value))
        }
        Ended::Detached => {
            live.clear();
            screen.tell(&[Note::Hint(format!("the push goes on; {}", how_to_go_on(id)))]);
            Ok(Outcome::Partial)
        }
    }
}

fn how_to_go_on(id: &str) -> String {
    format!("`sifleet push watch {id}` watches it, `sifleet push cancel {id}` ends it")
}

/// Shows how a push stands at last.
fn finish(screen: &mut Screen, live: &Live, push: &Answer<PushBody>) -> anyhow::Result<()> {
    if live.is_json() {
        live.event(screen, "ended", "push", &push.text)?;
    } else {
        screen.show(push)?;
    }
    Ok(())
}

fn outcome(push: &PushBody) -> Outcome {
    match push.state {
        PushState::Done => Outcome::Yes,
        PushState::Failed => Outcome::No,
        PushState::Running | PushState::Partial => Outcome::Partial,
        PushState::Cancelled if in_phase(push, Phase::Done) > 0 => Outcome::Partial,
        PushState::Cancelled => Outcome::No,
    }
}

fn planned(plan: &PushPlan) -> Outcome {
    if plan.refused.is_empty() {
        Outcome::Yes
    } else if plan.count > 0 || !plan.ready.is_empty() {
        Outcome::Partial
    } else {
        Outcome::No
    }
}

#[cfg(test)]
mod tests;
