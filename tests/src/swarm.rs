//! A transfer to many nodes without machines: the real fetchers, offers and mesh, joined by links of a given rate.
//!
//! Time is counted in nanoseconds and everything follows from one seed. A node's link carries one span after the other
//! each way, the way a queue in front of a shaped link does; what is asked, offered and cancelled takes a latency.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sifleet_agent::fetch::set::SpanSet;
use sifleet_agent::fetch::{Action, Event, Fetch, Limits, PeerId};
use sifleet_agent::serve::offer::{FollowerId, Offer, Offers};
use sifleet_common::chunk::span::SpanId;
use sifleet_common::time::Monotonic;
use sifleet_coordinator::plan::mesh;

/// What the links and nodes do.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// Nodes that want the image; one more has it.
    pub nodes: usize,
    /// Spans of the image.
    pub spans: u32,
    /// Time that one span takes on a link.
    pub span: Duration,
    /// Time a question or an offer takes.
    pub latency: Duration,
    /// Each span takes up to this share longer or shorter, in percent.
    pub jitter: u32,
    /// Nodes that die on the way, in percent.
    pub dying: u32,
    /// Nodes with links of a fifth of the rate, in percent.
    pub slow: u32,
    /// Spans a source gives at a time.
    pub turns: usize,
    /// How fetchers pull.
    pub limits: Limits,
    /// Batches of what a node has gained are told this often.
    pub gather: Duration,
}

impl World {
    /// 128 MiB behind 100 Mbit/s.
    #[must_use]
    pub const fn of(nodes: usize) -> Self {
        Self {
            nodes,
            spans: 512,
            span: Duration::from_micros(20_972),
            latency: Duration::from_micros(300),
            jitter: 0,
            dying: 0,
            slow: 0,
            turns: 2,
            limits: Limits {
                asked: 24,
                asked_of_one: 2,
                patience: Duration::from_secs(5),
                overdue: Duration::from_secs(2),
            },
            gather: Duration::from_millis(50),
        }
    }
}

/// How a transfer went. Times are multiples of the time the whole image takes on one link.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Until the last node that did not die had everything.
    pub last: f64,
    /// Until half of them had.
    pub median: f64,
    /// Copies that the first source sent.
    pub egress: f64,
    /// Spans that arrived and were there already, in copies for each node.
    pub wasted: f64,
}

/// Fetchers look at the clock this often.
const TICK: u64 = 500_000_000;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Wanted { source: usize, by: usize },
    Turned { to: usize, by: usize },
    Passed { source: usize },
    Asked { source: usize, by: usize, span: SpanId },
    Cancelled { source: usize, by: usize, span: SpanId },
    Sent { source: usize, to: usize, span: SpanId },
    Arrived { at: usize, from: usize, span: SpanId },
    Offered { to: usize, by: usize, spans: Vec<SpanId> },
    Gathered { at: usize },
    Ticked { at: usize },
    Died { at: usize },
}

struct Node {
    fetch: Option<Fetch>,
    offers: Offers,
    /// Nanoseconds a span takes on its link.
    span: u64,
    /// Who wants something of it.
    waiting: VecDeque<usize>,
    queue: VecDeque<(usize, SpanId)>,
    /// Turns given and not answered yet.
    turns: usize,
    sending: bool,
    busy_until: u64,
    gained: Vec<SpanId>,
    done: Option<u64>,
    dead: bool,
    sent: u64,
}

struct Swarm {
    world: World,
    nodes: Vec<Node>,
    queue: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    happened: u64,
    now: u64,
    wasted: u64,
    random: StdRng,
}

/// Runs a transfer to its end.
///
/// # Errors
/// When a node that lives never gets everything, with how much it lacks.
pub fn run(world: World, seed: u64) -> Result<Outcome, String> {
    let mut swarm = Swarm::new(world, seed);
    swarm.start();
    while let Some(Reverse((at, _, happening))) = swarm.queue.pop() {
        swarm.now = at;
        swarm.happen(happening);
        if at > 100 * u64::from(world.spans) * nanos(world.span) {
            break;
        }
    }
    swarm.outcome()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Swarm {
    fn new(world: World, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let nodes = (0..=world.nodes).map(|at| {
            let wants = at > 0;
            let empty = SpanSet::empty(world.spans);
            let slow = wants && random.random_range(0..100) < world.slow;
            Node {
                fetch: wants.then(|| Fetch::new(world.spans, &empty, world.limits, random.random())),
                offers: if wants { Offers::share(empty) } else { Offers::seed(world.spans) },
                span: nanos(world.span) * if slow { 5 } else { 1 },
                waiting: VecDeque::new(),
                queue: VecDeque::new(),
                turns: 0,
                sending: false,
                busy_until: 0,
                gained: Vec::new(),
                done: None,
                dead: false,
                sent: 0,
            }
        });
        let nodes = nodes.collect();
        Self { world, nodes, queue: BinaryHeap::new(), happened: 0, now: 0, wasted: 0, random }
    }

    fn start(&mut self) {
        let whole = u64::from(self.world.spans) * nanos(self.world.span);
        for at in 1..self.nodes.len() {
            for peer in mesh::neighbours(self.nodes.len(), at) {
                self.tell(at, Event::Joined(PeerId(u32::try_from(peer).unwrap_or(0))));
                let offers =
                    self.nodes[peer].offers.join(FollowerId(at as u64), SpanSet::full(self.world.spans));
                self.offer(peer, offers);
            }
            self.after(TICK, Happening::Ticked { at });
            if self.random.random_range(0..100) < self.world.dying {
                let when = self.random.random_range(0..whole);
                self.after(when, Happening::Died { at });
            }
        }
    }

    fn after(&mut self, wait: u64, happening: Happening) {
        self.happened += 1;
        self.queue.push(Reverse((self.now + wait, self.happened, happening)));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wanted { source, by } => {
                self.nodes[source].waiting.push_back(by);
                self.give_turns(source);
            }
            Happening::Turned { to, by } => {
                if self.nodes[to].dead {
                    self.after(nanos(Duration::from_secs(1)), Happening::Passed { source: by });
                }
                self.tell(to, Event::Turn(PeerId(u32::try_from(by).unwrap_or(0))));
            }
            Happening::Passed { source } => {
                self.nodes[source].turns -= 1;
                self.give_turns(source);
            }
            Happening::Asked { source, by, span } => {
                self.nodes[source].turns -= 1;
                self.nodes[source].queue.push_back((by, span));
                self.send(source);
            }
            Happening::Cancelled { source, by, span } => {
                self.nodes[source].queue.retain(|asked| *asked != (by, span));
                self.give_turns(source);
            }
            Happening::Sent { source, to, span } => self.sent(source, to, span),
            Happening::Arrived { at, from, span } => self.arrived(at, from, span),
            Happening::Offered { to, by, spans } => {
                self.tell(to, Event::Offered(PeerId(u32::try_from(by).unwrap_or(0)), spans));
            }
            Happening::Gathered { at } => {
                let gained = std::mem::take(&mut self.nodes[at].gained);
                let offers = self.nodes[at].offers.gained(&gained);
                self.offer(at, offers);
            }
            Happening::Ticked { at } => {
                if self.nodes[at].done.is_none() && !self.nodes[at].dead {
                    self.tell(at, Event::Tick);
                    self.after(TICK, Happening::Ticked { at });
                }
            }
            Happening::Died { at } => {
                self.nodes[at].dead = true;
                self.nodes[at].queue.clear();
            }
        }
    }

    fn tell(&mut self, at: usize, event: Event) {
        let now = Monotonic(Duration::from_nanos(self.now));
        let latency = nanos(self.world.latency);
        let node = &mut self.nodes[at];
        let Some(fetch) = node.fetch.as_mut().filter(|_| !node.dead) else { return };
        for action in fetch.handle(event, now) {
            match action {
                Action::Want(PeerId(peer)) => {
                    self.after(latency, Happening::Wanted { source: peer as usize, by: at });
                }
                Action::Pass(PeerId(peer)) => {
                    self.after(latency, Happening::Passed { source: peer as usize })
                }
                Action::Ask(PeerId(peer), span) => {
                    self.after(latency, Happening::Asked { source: peer as usize, by: at, span });
                }
                Action::Cancel(PeerId(peer), span) => {
                    self.after(latency, Happening::Cancelled { source: peer as usize, by: at, span });
                }
                Action::Drop(PeerId(peer), _) => {
                    let offers = self.nodes[peer as usize].offers.leave(FollowerId(at as u64));
                    self.offer(peer as usize, offers);
                }
                Action::Complete => self.nodes[at].done = Some(self.now),
            }
        }
    }

    /// Lets so many choose that the link is never without work.
    fn give_turns(&mut self, source: usize) {
        let latency = nanos(self.world.latency);
        loop {
            let node = &mut self.nodes[source];
            if node.dead || node.turns + node.queue.len() + usize::from(node.sending) >= self.world.turns {
                return;
            }
            let Some(to) = node.waiting.pop_front() else { return };
            node.turns += 1;
            self.after(latency, Happening::Turned { to, by: source });
        }
    }

    /// Puts the next span on a node's link.
    fn send(&mut self, source: usize) {
        let jitter = f64::from(self.world.jitter) / 100.0;
        let node = &mut self.nodes[source];
        if node.sending || node.dead {
            return;
        }
        let Some((to, span)) = node.queue.pop_front() else { return };
        node.sending = true;
        node.sent += 1;
        let factor = 1.0 + jitter * self.random.random_range(-1.0..=1.0);
        let took = Duration::from_nanos(node.span).mul_f64(factor);
        self.after(nanos(took), Happening::Sent { source, to, span });
    }

    fn sent(&mut self, source: usize, to: usize, span: SpanId) {
        if self.nodes[source].dead {
            return;
        }
        self.nodes[source].sending = false;
        let offers = self.nodes[source].offers.got(FollowerId(to as u64), &[span]);
        self.offer(source, offers);
        let receiver = &mut self.nodes[to];
        let arrival = self.now.max(receiver.busy_until + receiver.span);
        receiver.busy_until = arrival;
        let wait = arrival - self.now + nanos(self.world.latency);
        self.after(wait, Happening::Arrived { at: to, from: source, span });
        self.send(source);
        self.give_turns(source);
    }

    fn arrived(&mut self, at: usize, from: usize, span: SpanId) {
        let node = &mut self.nodes[at];
        let Some(fetch) = &node.fetch else { return };
        if node.dead {
            return;
        }
        if fetch.missing().contains(span) {
            if node.gained.is_empty() {
                self.after(nanos(self.world.gather), Happening::Gathered { at });
            }
            self.nodes[at].gained.push(span);
        } else {
            self.wasted += 1;
        }
        self.tell(at, Event::Got(PeerId(u32::try_from(from).unwrap_or(0)), span));
    }

    fn offer(&mut self, by: usize, offers: Vec<Offer>) {
        for Offer { to: FollowerId(to), spans, .. } in offers {
            if !spans.is_empty() {
                let to = usize::try_from(to).unwrap_or(0);
                self.after(nanos(self.world.latency), Happening::Offered { to, by, spans });
            }
        }
    }

    fn outcome(&self) -> Result<Outcome, String> {
        let whole = (u64::from(self.world.spans) * nanos(self.world.span)) as f64;
        let mut times = Vec::new();
        for (at, node) in self.nodes.iter().enumerate().filter(|(_, node)| !node.dead) {
            match (&node.fetch, node.done) {
                (Some(_), Some(done)) => times.push(done as f64 / whole),
                (Some(fetch), None) => {
                    return Err(format!("node {at} lacks {} spans", fetch.missing().count()));
                }
                (None, _) => {}
            }
        }
        times.sort_by(f64::total_cmp);
        let spans = f64::from(self.world.spans);
        Ok(Outcome {
            last: times.last().copied().unwrap_or(0.0),
            median: times.get(times.len() / 2).copied().unwrap_or(0.0),
            egress: self.nodes.first().map_or(0.0, |first| first.sent as f64 / spans),
            wasted: self.wasted as f64 / spans / self.world.nodes as f64,
        })
    }
}
