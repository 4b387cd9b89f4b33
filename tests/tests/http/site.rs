//! A small site without sockets: the real state, store and router, and agents that say what they are told to say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use serde_json::Value;
use sifleet_common::capability::Signer;
use sifleet_common::chunk::MapDigest;
use sifleet_common::clock::Clock;
use sifleet_common::digest::Digest;
use sifleet_common::epoch::Epoch;
use sifleet_common::image::{Arch, Format, ImageMetadata};
use sifleet_common::inventory::{
    Change, Content, Generation, Image, Inventory, Pending, Replica, ReplicaKey, Root, RootId, RootKind,
    RootState, Unusable, UnusableCode,
};
use sifleet_common::name::NodeName;
use sifleet_common::role::Role;
use sifleet_common::task::Tasks;
use sifleet_common::time::UnixMillis;
use sifleet_common::wire::assignment::{Mapped, Order, Report};
use sifleet_common::wire::control::{
    Described, Heartbeat, Hello, Snapshot, Stamp, StreamId, ToAgent, ToCoordinator,
};
use sifleet_coordinator::access::Peer;
use sifleet_coordinator::access::secret::Secret;
use sifleet_coordinator::http::health::Part;
use sifleet_coordinator::http::{AppState, Limits, router};
use sifleet_coordinator::state::run::{Handle, OUTBOX, Stopped, ToSession, prepare};
use sifleet_coordinator::state::{self, Caller, Event, SessionId, State};
use sifleet_coordinator::store::sqlite::{self, Store};
use sifleet_coordinator::store::token::{TokenNo, TokenRecord};
use tokio::sync::mpsc;
use tower::ServiceExt as _;

/// Far longer than anything here should take.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A coordinator that listens to nobody but this process.
pub(crate) struct Site {
    pub(crate) router: Router,
    pub(crate) app: AppState,
    pub(crate) handle: Handle,
    pub(crate) tasks: Tasks,
    store: Store,
    secrets: BTreeMap<&'static str, String>,
    asked: AtomicU32,
    _folder: tempfile::TempDir,
}

/// The tokens of a site: how each is called here, its role, until when it is good, and when it was revoked.
const TOKENS: [(&str, Role, UnixMillis, Option<UnixMillis>); 5] = [
    ("viewer", Role::Viewer, FAR, None),
    ("operator", Role::Operator, FAR, None),
    ("admin", Role::Admin, FAR, None),
    ("expired", Role::Admin, UnixMillis(1), None),
    ("revoked", Role::Admin, FAR, Some(UnixMillis(1))),
];
const FAR: UnixMillis = UnixMillis(i64::MAX);

/// Makes the tokens of a site.
fn tokens() -> (Vec<TokenRecord>, BTreeMap<&'static str, String>) {
    let token = |(no, (name, role, expires, revoked)): (u64, (&'static str, Role, _, _))| {
        let secret = Secret::make(TokenNo(no));
        let (created, last_used, hash) = (UnixMillis(0), None, secret.hash());
        let name_of = name.to_owned();
        let record =
            TokenRecord { no: secret.no, name: name_of, role, hash, created, expires, last_used, revoked };
        (record, (name, secret.reveal()))
    };
    let (records, mut secrets): (Vec<_>, BTreeMap<_, _>) = (1..).zip(TOKENS).map(token).unzip();
    secrets.insert("wrong", Secret::make(TokenNo(3)).reveal());
    (records, secrets)
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

impl Site {
    /// Starts a coordinator that knows nothing.
    pub(crate) fn empty(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, restored) = sqlite::open(&folder.path().join("coordinator.db")).unwrap();
        let signer = Signer::from_seed(&[7; 32]).unwrap();
        let state = State::restore(state::Limits::default(), restored).with_signer(signer);
        let (owner, handle) = prepare(state, store.clone(), Clock::start());
        let tasks = Tasks::new();
        tasks.spawn("owner", owner.run(tasks.token(), || {}));
        let (records, secrets) = tokens();
        let app = AppState::new(handle.clone(), store.clone(), records, limits, tasks.token());
        Self {
            router: router(&app),
            app,
            handle,
            tasks,
            store,
            secrets,
            asked: AtomicU32::new(1),
            _folder: folder,
        }
    }

    /// Starts a coordinator with three agents, two partitions and one node nobody ever heard.
    pub(crate) async fn new(limits: Limits) -> Self {
        let site = Self::empty(limits);
        for part in [Part::Store, Part::Listeners, Part::View] {
            site.app.readiness().started(part);
        }
        let members = [("head", vec!["head"]), ("viz", vec!["viz001", "viz002", "viz003"])];
        let members: BTreeMap<_, BTreeSet<NodeName>> = members
            .into_iter()
            .map(|(name, nodes)| {
                (name.parse().unwrap(), nodes.iter().map(|node| node.parse().unwrap()).collect())
            })
            .collect();
        site.handle.send(Event::Members { source: "file", members }).await.unwrap();
        let library = root("/shared/apptainer/images", RootKind::Library, RootState::Watched);
        let local = root("/opt/apptainers", RootKind::Plain, RootState::Watched);
        let reason = "the limit of inotify watches is reached: raise fs.inotify.max_user_watches".to_owned();
        let scanned = root("/opt/apptainers", RootKind::Plain, RootState::Degraded { reason });
        site.agent(1, "head", vec![library, image("openfoam.sif", b"2312")]).await;
        site.agent(
            2,
            "viz001",
            vec![local, image("vnc_desktop.sif", b"vnc"), image("openfoam.sif", b"2312")],
        )
        .await;
        let truncated =
            Unusable { code: UnusableCode::Truncated, detail: "ends at 17 of 4096 bytes".to_owned() };
        let others = vec![
            scanned,
            image("openfoam.sif", b"2306"),
            put("sub/paraview.sif", 7, Content::Pending(Pending::BeingWritten)),
            put("broken.sif", 17, Content::Unusable(truncated)),
        ];
        site.agent(3, "viz002", others).await;
        site.until("three nodes are online", |site| {
            site.handle.views.load().stats(site.handle.clock.now()).online == 3
        })
        .await;
        site
    }

    /// Waits for a condition, but not for ever.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(LONG, waiting).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
    }

    /// Connects an agent that says its inventory and answers what it is asked.
    pub(crate) async fn agent(&self, session: u64, node: &str, changes: Vec<Change>) {
        let (outbox, inbox) = mpsc::channel(OUTBOX);
        let mut inventory = Inventory::default();
        for change in &changes {
            inventory.apply(change.clone());
        }
        let hello = Hello {
            stream: StreamId(session),
            generation: Generation(1),
            digest: inventory.digest(),
            build: "0.1.0".to_owned(),
            arch: Arch::Amd64,
            partitions: Vec::new(),
            transfer_port: 7_442,
        };
        let session = SessionId(session);
        let (node, epoch) = (node.parse().unwrap(), Epoch::default());
        let caller = Caller { node, epoch, address: [10, 0, 0, 1].into(), reached: None };
        self.handle.open(session, caller, hello, outbox).await.unwrap();
        let agent = Agent { session, handle: self.handle.clone(), changes, digest: inventory.digest() };
        self.tasks.spawn("agent", agent.run(inbox));
    }

    /// Waits until the store holds what was learned.
    pub(crate) async fn flush(&self) {
        self.store.flush().await.unwrap();
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = Request::post(path).header("content-type", "application/json");
        self.ask(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// Returns the secret of one of the [`TOKENS`], or of none: `wrong`.
    pub(crate) fn secret(&self, name: &str) -> &str {
        &self.secrets[name]
    }

    /// Returns what the bearer of one of the [`TOKENS`] sends.
    pub(crate) fn bearer(&self, name: &str) -> String {
        format!("Bearer {}", self.secret(name))
    }

    /// Asks as an administrator, unless the request says as whom.
    pub(crate) async fn ask(&self, mut request: Request<Body>) -> Answer {
        let bearer = self.bearer("admin").parse().unwrap();
        request.headers_mut().entry(header::AUTHORIZATION).or_insert(bearer);
        self.ask_bare(request).await
    }

    /// Asks with the token of that name; `none` brings none.
    pub(crate) async fn ask_as(&self, name: &str, mut request: Request<Body>) -> Answer {
        if name != "none" {
            let bearer = self.bearer(name).parse().unwrap();
            request.headers_mut().insert(header::AUTHORIZATION, bearer);
        }
        self.ask_bare(request).await
    }

    /// Asks as the request is.
    ///
    /// Each request comes from an address of its own, unless it says from which: what is asked here is not asked often.
    pub(crate) async fn ask_bare(&self, mut request: Request<Body>) -> Answer {
        if request.extensions().get::<Peer>().is_none() {
            let count = self.asked.fetch_add(1, Ordering::Relaxed);
            request.extensions_mut().insert(Peer::Net(Ipv4Addr::from_bits(0x0a00_0000 + count).into()));
        }
        let endless = request.uri().path() == "/v1/events";
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        // The stream of all events has no end.
        let body = if endless && parts.status.is_success() { Body::empty() } else { body };
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }
}

struct Agent {
    session: SessionId,
    handle: Handle,
    changes: Vec<Change>,
    digest: sifleet_common::inventory::InventoryDigest,
}

impl Agent {
    /// Answers until the coordinator is gone.
    async fn run(self, mut inbox: mpsc::Receiver<ToSession>) {
        while let Some(ToSession::Message(message)) = inbox.recv().await {
            let said = match message {
                ToAgent::Welcome(welcome) => self.introduce(welcome.stamp).await,
                ToAgent::Describe { digest } => self.describe(digest).await,
                ToAgent::Order(order) => self.obey(*order).await,
                ToAgent::Reconcile { request } => self.say(ToCoordinator::Reconciled { request }).await,
                ToAgent::Ack { .. }
                | ToAgent::Resync { .. }
                | ToAgent::Rescan
                | ToAgent::Renewed(_)
                | ToAgent::RenewNow
                | ToAgent::Pulled(_) => Ok(()),
            };
            if said.is_err() {
                return;
            }
        }
    }

    async fn introduce(&self, stamp: Stamp) -> Result<(), Stopped> {
        let (generation, changes) = (Generation(1), self.changes.clone());
        let snapshot = Snapshot { generation, part: 0, last: true, changes };
        self.say(ToCoordinator::Snapshot(snapshot)).await?;
        self.say(ToCoordinator::Heartbeat(Heartbeat { generation, digest: self.digest, stamp })).await
    }

    async fn describe(&self, digest: Digest) -> Result<(), Stopped> {
        let mut metadata = ImageMetadata::bare(Format::Sif, 4096);
        metadata.labels = [("org.label-schema.usage".to_owned(), "apptainer run".to_owned())].into();
        let sidecar = Some("{\"note\":\"for display\"}".to_owned());
        let described = Described { digest, metadata: Some(metadata), sidecar };
        self.say(ToCoordinator::Described(Box::new(described))).await
    }

    /// Makes chunk maps; of everything else tests say what became of it.
    async fn obey(&self, order: Order) -> Result<(), Stopped> {
        let Order::MakeMap { image } = order else { return Ok(()) };
        let map = Some(MapDigest::from_bytes(*image.as_bytes()));
        let mapped = Report::Mapped(Mapped { image, map, detail: String::new() });
        self.say(ToCoordinator::Report(Box::new(mapped))).await
    }

    async fn say(&self, message: ToCoordinator) -> Result<(), Stopped> {
        self.handle.send(Event::Message { session: self.session, message }).await
    }
}

pub(crate) fn root(path: &str, kind: RootKind, state: RootState) -> Change {
    Change::Root(RootId(0), Root { path: path.to_owned(), kind, state })
}

pub(crate) fn image(name: &str, content: &[u8]) -> Change {
    let digest = Digest::from(blake3::hash(content));
    let image = Image { digest, format: Format::Sif, arch: Arch::Amd64, mutable: false };
    put(name, 4096, Content::Image(image))
}

fn put(name: &str, size: u64, content: Content) -> Change {
    let key = ReplicaKey { root: RootId(0), name: name.parse().unwrap() };
    Change::Put(key, Replica { size, modified: UnixMillis(1_700_000_000_000), content })
}

/// Replaces what differs from run to run: times, generations, request ids.
pub(crate) fn steady(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| match (name.as_str(), value) {
                ("generation", Value::Number(_)) => (name, "[generation]".into()),
                (
                    "as_of" | "last_seen" | "last_scanned" | "changed" | "time" | "created" | "ended"
                    | "deadline" | "started",
                    Value::String(_),
                ) => (name, "[time]".into()),
                ("request_id", Value::String(_)) => (name, "[request id]".into()),
                (_, value) => (name, steady(value)),
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(steady).collect(),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
    }
}
