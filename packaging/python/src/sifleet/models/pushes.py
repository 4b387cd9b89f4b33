"""Images on their way to nodes."""

from dataclasses import dataclass
from typing import Optional

from sifleet.models.availability import PathNodes


@dataclass(frozen=True)
class PushReason:
    """Nodes with one reason; ``code`` is stable, ``message`` and ``hint`` are for people."""

    code: str
    count: int
    nodes: str
    message: str
    hint: str


@dataclass(frozen=True)
class PushPlan:
    """What a push would do; answers a dry run."""

    image: str
    digest: str
    size: int
    nodes: str
    count: int
    ready: str
    deferred: str
    refused: tuple[PushReason, ...]
    sources: str
    bytes: int
    seconds: Optional[int]
    upload: Optional[int] = None
    replaces: str = ""
    roots: tuple[PathNodes, ...] = ()


@dataclass(frozen=True)
class PhaseNodes:
    """Nodes in one phase, from ``waiting`` to ``done``, ``failed``, ``deferred`` or ``cancelled``."""

    phase: str
    count: int
    nodes: str


@dataclass(frozen=True)
class PushBytes:
    """Bytes of a push, by where they come from; ``rate`` is bytes a second at present."""

    total: int
    fetched: int
    reused: int
    resumed: int
    present: int
    wasted: int
    rate: int


@dataclass(frozen=True)
class DroppedSource:
    """A source that is left alone, what it did, and to whom."""

    node: str
    fault: str
    by: str


@dataclass(frozen=True)
class PushBody:
    """One push as a whole. ``state`` is ``running``, ``done``, ``partial``, ``failed`` or ``cancelled``."""

    id: str
    image: str
    digest: str
    size: int
    state: str
    completion: str
    from_: Optional[str]
    root: Optional[str]
    created: str
    ended: Optional[str]
    deadline: str
    rate: Optional[int]
    priority: int
    nodes: int
    phases: tuple[PhaseNodes, ...]
    reasons: tuple[PushReason, ...]
    bytes: PushBytes
    dropped: tuple[DroppedSource, ...]

    @property
    def is_running(self) -> bool:
        """Whether anything is under way. A push that is ``partial`` may run again when nodes come back."""
        return self.state == "running"

    @property
    def is_done(self) -> bool:
        """Whether it has come to what was asked for."""
        return self.state == "done"


@dataclass(frozen=True)
class SourceBytes:
    """What one source gave."""

    node: str
    bytes: int


@dataclass(frozen=True)
class PushNode:
    """One node of a push, and why it failed, is deferred or waits, if it does."""

    node: str
    phase: str
    code: Optional[str]
    message: Optional[str]
    hint: Optional[str]
    root: Optional[str]
    fetched: int
    reused: int
    resumed: int
    wasted: int
    rate: int
    sources: tuple[SourceBytes, ...]
    started: Optional[str]
    ended: Optional[str]
