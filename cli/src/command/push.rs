//! `sifleet push`: puts an image onto nodes and watches; `push ls`, `show`, `watch`, `cancel`, `retry`, `rate`.

mod file;
mod watch;

use std::time::{Duration, Instant};

use sifleet_common::api::pushes::{
    PushBody, PushList, PushNodes, PushPlan, PushRequest, PushState, RateRequest,
};
use sifleet_common::push::Phase;
use sifleet_common::units::Rate;

use super::wish::begin;
use crate::args::{PushArgs, PushVerb, Wish};
use crate::client::{Answer, Client, ClientError, Target};
use crate::live::Live;
use crate::outcome::{Outcome, Wrong};
use crate::output::{Note, Screen, in_phase};
use crate::waiting::pause;
use file::Local;
use watch::{Ended, watch};

/// Between two looks at whether the library's agent has seen what was uploaded.
const LOOK: Duration = Duration::from_secs(1);
/// How long that may take, besides the reading: an agent waits until a file is quiet, and looks every ten minutes where
/// nothing tells it of changes.
const SEEN: Duration = Duration::from_secs(120);
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
        PushVerb::Cancel { id } => screen.show(&client.post::<PushBody>(&one(&id).segment("cancel"))?)?,
        PushVerb::Retry { id } => screen.show(&client.post::<PushBody>(&one(&id).segment("retry"))?)?,
        PushVerb::Rate { id, rate } => {
            let body = RateRequest { rate: rate.get() };
            screen.show(&client.send::<PushBody>(&one(&id).segment("rate"), &body, None)?)?;
        }
    }
    Ok(Outcome::Yes)
}

fn push(client: &Client, screen: &mut Screen, wish: &Wish) -> anyhow::Result<Outcome> {
    let mut live = Live::new(wish.progress);
    // The grammar sees to it that both are there.
    let (Some(image), Some(to)) = (&wish.image, wish.target.body()) else {
        let (what, hint) = ("nothing is said to be pushed", "write an image and -p, -w or --missing-on");
        return Err(Wrong { what: what.to_owned(), hint: hint.to_owned() }.into());
    };
    let local = file::find(image, wish.library_name.as_ref())?;
    let local = local.map(|found| found.read(&mut live, screen)).transpose()?;
    let mut request = PushRequest {
        image: Some(local.as_ref().map_or_else(|| image.clone(), |local| local.name.to_string())),
        digest: local.as_ref().map(|local| local.digest.to_string()),
        from: wish.from.as_ref().map(ToString::to_string),
        to,
        root: wish.root.clone(),
        completion: wish.completion.clone(),
        deadline_s: wish.deadline.map(|time| time.as_secs()),
        rate: wish.rate.and_then(Rate::get),
        priority: wish.priority,
        dry_run: true,
        upload: local.as_ref().filter(|_| wish.dry_run).map(|local| local.size),
    };
    if let Some(local) = local.as_ref().filter(|_| !wish.dry_run) {
        local.upload(client, &mut live, screen)?;
    }
    let uploaded = local.as_ref().filter(|_| !wish.dry_run);
    let plan = plan(client, screen, &mut live, &request, uploaded)?;
    live.clear();
    if wish.dry_run {
        screen.show(&plan)?;
        return Ok(planned(&plan.value));
    }
    live.event(screen, "plan", "plan", &plan.text)?;
    if live.is_for_people() {
        screen.announce(&plan.value);
    }
    request.dry_run = false;
    let begun: Answer<PushBody> = begin(client, &Target::v1("pushes"), &request)?;
    if wish.detach {
        finish(screen, &live, &begun)?;
        screen.tell(&[Note::Hint(how_to_go_on(&begun.value.id))]);
        return Ok(Outcome::Yes);
    }
    follow(client, screen, &mut live, &begun.value.id)
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
) -> Result<Answer<PushPlan>, ClientError> {
    let target = Target::v1("pushes");
    let patience = SEEN + Duration::from_secs(uploaded.map_or(0, |local| local.size / READ));
    let (begun, mut told) = (Instant::now(), false);
    loop {
        match client.send::<PushPlan>(&target, request, None) {
            Err(error) if uploaded.is_some() && is_unheard_of(&error) && begun.elapsed() < patience => {
                if !told {
                    live.remark(screen, "waiting until the library's agent has seen the image");
                    told = true;
                }
                pause(LOOK);
            }
            answer => return answer,
        }
    }
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
