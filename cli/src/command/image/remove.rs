//! `sifleet image rm`: shows what would go, asks, and watches to the end; `image removals` tells of those that go on.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use sifleet_common::api::removals::{RemovalBody, RemovalList, RemovalPlan, RemovalRequest, RemovalState};
use sifleet_common::removal::RemovalPhase;

use crate::args::Removing;
use crate::client::{Answer, Client, ClientError, Target};
use crate::command::wish::{agreed, begin, has_terminal};
use crate::outcome::{Outcome, Wrong};
use crate::output::{Note, Render as _, Screen, gone_from};
use crate::waiting;

/// How often it is asked how the removal stands.
const POLL: Duration = Duration::from_secs(1);
/// How long nobody may answer: far longer than a coordinator needs to start again.
const PATIENCE: Duration = Duration::from_secs(300);

/// Lists removals, or ends one.
pub(super) fn list(client: &Client, screen: &mut Screen, cancel: Option<&str>) -> anyhow::Result<Outcome> {
    match cancel {
        None => screen.show(&client.get::<RemovalList>(&Target::v1("removals"))?)?,
        Some(id) => {
            screen
                .show(&client.post::<RemovalBody>(&Target::v1("removals").segment(id).segment("cancel"))?)?;
        }
    }
    Ok(Outcome::Yes)
}

/// Removes an image from nodes.
pub(super) fn run(client: &Client, screen: &mut Screen, wish: &Removing) -> anyhow::Result<Outcome> {
    let asks = !(wish.yes || wish.dry_run);
    if asks && !has_terminal() {
        let what = "images are removed only after a yes, and there is no terminal to ask on";
        return Err(Wrong::new(what, "add -y, or --dry-run to see what would go").into());
    }
    // The grammar sees to it that it is there.
    let Some(from) = wish.nodes.body() else {
        return Err(Wrong::new("nothing is said of the nodes", "write -p or -w").into());
    };
    let mut request = RemovalRequest {
        image: Some(wish.image.clone()),
        digest: None,
        from,
        root: wish.root.clone(),
        force: wish.force,
        when_idle: wish.when_idle,
        deadline_s: wish.deadline.map(|time| time.as_secs()),
        dry_run: true,
    };
    let plan = client.send::<RemovalPlan>(&Target::v1("removals"), &request, None)?;
    if wish.dry_run {
        screen.show(&plan)?;
        return Ok(planned(&plan.value, wish.force));
    }
    screen.announce(&plan.value);
    screen.tell(&plan.value.notes());
    if asks && !agreed(screen, "Remove it?")? {
        screen.tell(&[Note::Hint("nothing was removed".to_owned())]);
        return Ok(Outcome::No);
    }
    // What was shown is what goes, even if the name means other bytes by now.
    (request.digest, request.dry_run) = (Some(plan.value.digest.clone()), false);
    request.image = Some(plan.value.image.clone());
    let begun = begin(client, &Target::v1("removals"), &request)?;
    watch(client, screen, begun)
}

/// Tells how it goes until it ends, or somebody has seen enough.
fn watch(client: &Client, screen: &mut Screen, begun: Answer<RemovalBody>) -> anyhow::Result<Outcome> {
    let (tell, stop) = sync_channel(1);
    waiting::signals(tell, || ())?;
    let own = Target::v1("removals").segment(&begun.value.id);
    let (mut now, mut said) = (begun, String::new());
    while now.value.state == RemovalState::Running {
        let line = format!("{}\n", gone_from(&now.value));
        if line != said {
            screen.say(&line);
            said = line;
        }
        if is_stopped(&stop) || screen.is_closed() {
            let id = &now.value.id;
            let how = "`sifleet image removals` tells of it, `sifleet image removals --cancel";
            screen.tell(&[Note::Hint(format!("the removal goes on; {how} {id}` ends it"))]);
            return Ok(Outcome::Partial);
        }
        now = ask(client, &own)?;
    }
    screen.show(&now)?;
    Ok(outcome(&now.value))
}

fn is_stopped(stop: &Receiver<()>) -> bool {
    !matches!(stop.recv_timeout(POLL), Err(RecvTimeoutError::Timeout))
}

/// Asks how the removal stands; a coordinator that starts again is waited for.
fn ask(client: &Client, own: &Target) -> Result<Answer<RemovalBody>, ClientError> {
    let begun = Instant::now();
    loop {
        match client.get(own) {
            Err(error) if error.may_pass() && begun.elapsed() < PATIENCE => waiting::pause(POLL),
            answer => return answer,
        }
    }
}

fn in_phase(removal: &RemovalBody, wanted: RemovalPhase) -> u32 {
    removal.phases.iter().filter(|one| one.phase == wanted).map(|one| one.count).sum()
}

fn outcome(removal: &RemovalBody) -> Outcome {
    match removal.state {
        RemovalState::Done => Outcome::Yes,
        RemovalState::Failed => Outcome::No,
        RemovalState::Running | RemovalState::Partial => Outcome::Partial,
        RemovalState::Cancelled if in_phase(removal, RemovalPhase::Done) > 0 => Outcome::Partial,
        RemovalState::Cancelled => Outcome::No,
    }
}

fn planned(plan: &RemovalPlan, force: bool) -> Outcome {
    if plan.last && !force {
        Outcome::No
    } else if plan.refused.is_empty() && plan.deferred.is_empty() {
        Outcome::Yes
    } else if plan.count > 0 || !plan.absent.is_empty() || !plan.deferred.is_empty() {
        Outcome::Partial
    } else {
        Outcome::No
    }
}
