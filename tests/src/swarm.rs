//! A transfer to many nodes without machines: the real fetchers, givers and circle, joined by links of a given rate.
//!
//! Time is counted in nanoseconds and everything follows from one seed. What runs is what agents run
//! (`agent/src/fetch.rs`, `agent/src/serve/giving.rs`) and what the coordinator tells them (`coordinator/src/plan/ring.rs`);
//! this file stands in for the loops around them, `swarm/node.rs` for the links, `swarm/planner.rs` for the owner task. It
//! knows no packets: a span is sent as a whole.

mod node;
mod planner;

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sifleet_agent::fetch::limits::{GATHER, Limits};
use sifleet_agent::fetch::{Action, Event, PeerId};
use sifleet_agent::serve::giving;
use sifleet_agent::serve::offer::{FollowerId, Offer};
use sifleet_common::chunk::span::SpanId;
use sifleet_common::digest::Digest;
use sifleet_common::time::Monotonic;
use sifleet_common::wire::chunk::Run;

use node::{Connection, Node, Sending};
use planner::Planner;

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
    /// Turns a source gives at a time.
    pub turns: usize,
    /// How fetchers pull.
    pub limits: Limits,
    /// What a node has gained is told at most this often.
    pub gather: Duration,
}

impl World {
    /// 128 MiB behind 100 Mbit/s.
    #[must_use]
    pub fn of(nodes: usize) -> Self {
        Self {
            nodes,
            spans: 1_024,
            span: Duration::from_micros(10_486),
            latency: Duration::from_micros(300),
            jitter: 0,
            dying: 0,
            slow: 0,
            turns: giving::TURNS,
            limits: Limits::default(),
            gather: GATHER,
        }
    }

    /// The time that the whole image takes on one link, in nanoseconds.
    fn whole(&self) -> u64 {
        u64::from(self.spans) * nanos(self.span)
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
/// A turn that takes longer is said to be lagging, and one without an answer ends (`agent/src/serve/turn.rs`).
const LAGGING: u64 = 1_000_000_000;
/// A turn of which nothing is taken ends.
const NOT_TAKEN: u64 = 10_000_000_000;
/// A connection of which nothing is heard ends (`common/src/quic.rs`).
const SILENCE: u64 = 20_000_000_000;

/// Numbers a connection: what the fetcher knows as a peer and the giver as a follower.
type Line = u32;
/// Numbers a turn.
type Turn = u64;

#[derive(Debug)]
enum Happening {
    Named { at: usize, peers: Vec<usize> },
    Followed { line: Line, lacks: Vec<Run> },
    Left { line: Line },
    Lost { line: Line },
    Wanted { line: Line },
    Got { line: Line, spans: Vec<SpanId> },
    Turned { line: Line, turn: Turn },
    Asked { line: Line, turn: Turn, span: SpanId },
    Cancelled { line: Line, span: SpanId },
    Sent { by: usize },
    Arrived { line: Line, turn: Turn, span: SpanId },
    Lagged { line: Line, turn: Turn },
    Ended { line: Line, turn: Turn, span: Option<SpanId> },
    Offered { line: Line, spans: Vec<SpanId>, alone: bool },
    Gathered { at: usize },
    Ticked { at: usize },
    Died { at: usize },
    Missed { at: usize },
    News,
}

/// Something that will happen; what comes first is the greatest.
struct Due {
    at: u64,
    /// What was foreseen first happens first.
    order: u64,
    happening: Happening,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

struct Swarm {
    world: World,
    nodes: Vec<Node>,
    lines: Vec<Connection>,
    planner: Planner,
    queue: BinaryHeap<Due>,
    happened: u64,
    now: u64,
    turns: Turn,
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
    while let Some(Due { at, happening, .. }) = swarm.queue.pop() {
        swarm.now = at;
        swarm.happen(happening);
        if at > 100 * world.whole() {
            break;
        }
    }
    swarm.outcome()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The only image there is.
const fn image() -> Digest {
    Digest::from_bytes([1; 32])
}

impl Swarm {
    fn new(world: World, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let nodes = (0..=world.nodes).map(|at| {
            let slow = at > 0 && random.random_range(0..100) < world.slow;
            Node::new(&world, at > 0, slow, random.random())
        });
        Self {
            world,
            nodes: nodes.collect(),
            lines: Vec::new(),
            planner: Planner::new(world.nodes),
            queue: BinaryHeap::new(),
            happened: 0,
            now: 0,
            turns: 0,
            wasted: 0,
            random,
        }
    }

    fn start(&mut self) {
        for at in 1..self.nodes.len() {
            self.after(TICK, Happening::Ticked { at });
            if self.random.random_range(0..100) < self.world.dying {
                let when = self.random.random_range(0..self.world.whole());
                self.after(when, Happening::Died { at });
            }
        }
        self.happen(Happening::News);
    }

    fn after(&mut self, wait: u64, happening: Happening) {
        self.happened += 1;
        self.queue.push(Due { at: self.now + wait, order: self.happened, happening });
    }

    /// The same, after the time that a message takes.
    fn soon(&mut self, happening: Happening) {
        self.after(nanos(self.world.latency), happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Named { at, peers } => self.named(at, peers),
            Happening::Followed { line, lacks } => {
                self.give(line, giving::Event::Followed(follower(line), image(), lacks));
            }
            Happening::Left { line } => self.give(line, giving::Event::Left(follower(line))),
            Happening::Lost { line } => self.lost(line),
            Happening::Wanted { line } => self.give(line, giving::Event::Wanted(follower(line))),
            Happening::Got { line, spans } => self.give(line, giving::Event::Got(follower(line), spans)),
            Happening::Turned { line, turn } => self.turned(line, turn),
            Happening::Asked { line, turn, span } => {
                let by = self.lines[line as usize].giver;
                self.nodes[by].queue.push_back(Sending { line, turn, span });
                self.send(by);
            }
            Happening::Cancelled { line, span } => self.cancelled(line, span),
            Happening::Sent { by } => self.sent(by),
            Happening::Arrived { line, turn, span } => self.arrived(line, turn, span),
            Happening::Lagged { line, turn } => {
                if self.giver(line).lags(turn) {
                    self.give(line, giving::Event::Lagging(follower(line)));
                }
            }
            Happening::Ended { line, turn, span } => {
                if let Some(lagged) = self.giver(line).turns.remove(&turn) {
                    self.give(line, giving::Event::Ended(follower(line), span, lagged));
                }
            }
            Happening::Offered { line, spans, alone } => {
                if alone {
                    self.lines[line as usize].alone.extend(&spans);
                }
                self.tell(self.lines[line as usize].fetcher, Event::Offered(PeerId(line), spans));
            }
            Happening::Gathered { at } => self.gathered(at),
            Happening::Ticked { at } => {
                if self.nodes[at].done.is_none() && !self.nodes[at].dead {
                    self.tell(at, Event::Tick);
                    self.after(TICK, Happening::Ticked { at });
                }
            }
            Happening::Died { at } => self.died(at),
            Happening::Missed { at } => self.planner.missed(at),
            Happening::News => self.news(),
        }
    }

    fn giver(&mut self, line: Line) -> &mut Node {
        &mut self.nodes[self.lines[line as usize].giver]
    }

    fn tell(&mut self, at: usize, event: Event) {
        let now = Monotonic(Duration::from_nanos(self.now));
        let node = &mut self.nodes[at];
        let Some(fetch) = node.fetch.as_mut().filter(|_| !node.dead && node.done.is_none()) else { return };
        for action in fetch.handle(event, now) {
            self.act(at, action);
        }
    }

    fn act(&mut self, at: usize, action: Action) {
        match action {
            Action::Want(PeerId(line)) => self.soon(Happening::Wanted { line }),
            Action::Cancel(PeerId(line), span) => self.soon(Happening::Cancelled { line, span }),
            Action::Drop(PeerId(line), _) => self.hang_up(line),
            Action::Complete => {
                self.nodes[at].done = Some(self.now);
                for (_, line) in std::mem::take(&mut self.nodes[at].peers) {
                    self.soon(Happening::Left { line });
                }
            }
            // Only a turn makes one ask or pass.
            Action::Ask(..) | Action::Pass(_) => {}
        }
    }

    fn give(&mut self, line: Line, event: giving::Event) {
        let by = self.lines[line as usize].giver;
        self.give_by(by, event);
    }

    fn give_by(&mut self, by: usize, event: giving::Event) {
        if self.nodes[by].dead {
            return;
        }
        for action in self.nodes[by].giving.handle(event) {
            match action {
                giving::Action::Offer(Offer { to: FollowerId(to), spans, alone }) => {
                    let line = Line::try_from(to).unwrap_or(Line::MAX);
                    self.soon(Happening::Offered { line, spans, alone });
                }
                giving::Action::Turn(FollowerId(to)) => {
                    let line = Line::try_from(to).unwrap_or(Line::MAX);
                    self.turns += 1;
                    let turn = self.turns;
                    self.nodes[by].turns.insert(turn, false);
                    self.soon(Happening::Turned { line, turn });
                    self.after(LAGGING, Happening::Lagged { line, turn });
                }
                // Everybody has something of the image, if only room for it.
                giving::Action::Absent(_) => {}
            }
        }
    }

    fn turned(&mut self, line: Line, turn: Turn) {
        let at = self.lines[line as usize].fetcher;
        let now = Monotonic(Duration::from_nanos(self.now));
        let node = &mut self.nodes[at];
        if node.dead {
            self.after(LAGGING, Happening::Ended { line, turn, span: None });
            return;
        }
        let Some(fetch) = node.fetch.as_mut().filter(|_| node.done.is_none()) else { return };
        let mut asked = false;
        for action in fetch.handle(Event::Turn(PeerId(line)), now) {
            match action {
                Action::Ask(_, span) => {
                    asked = true;
                    self.soon(Happening::Asked { line, turn, span });
                }
                Action::Pass(_)
                | Action::Want(_)
                | Action::Cancel(..)
                | Action::Drop(..)
                | Action::Complete => {
                    self.act(at, action);
                }
            }
        }
        if !asked {
            self.soon(Happening::Ended { line, turn, span: None });
        }
    }

    fn outcome(&self) -> Result<Outcome, String> {
        let whole = self.world.whole() as f64;
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

const fn follower(line: Line) -> FollowerId {
    FollowerId(line as u64)
}
