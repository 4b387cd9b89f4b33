"""Nodes and what is on them."""

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class NodeSummary:
    """One node.

    Only while ``state`` is ``online`` do its answers count; else it is ``syncing``, ``offline`` or ``never_seen``.
    """

    name: str
    state: str
    degraded: tuple[str, ...]
    epoch: int
    enrolled: Optional[str]
    revoked: Optional[str]
    busy: Optional[str]
    partitions: tuple[str, ...]
    images: int
    last_seen: Optional[str]
    build: Optional[str]
    arch: Optional[str]


@dataclass(frozen=True)
class RootBody:
    """One watched directory; ``state`` is ``watched``, ``degraded``, ``partial`` or ``unknown``."""

    path: str
    state: str
    reason: Optional[str]
    library: bool
    trusted: bool


@dataclass(frozen=True)
class ReplicaBody:
    """One entry below a root; ``state`` is ``ready``, ``pending``, ``unusable`` or ``last_known``."""

    name: str
    root: str
    state: str
    code: Optional[str]
    detail: Optional[str]
    digest: Optional[str]
    size: int
    modified: str


@dataclass(frozen=True)
class NodeDetail:
    """One node with its roots and what is below them; ``truncated`` after 10,000 entries."""

    summary: NodeSummary
    roots: tuple[RootBody, ...]
    replicas: tuple[ReplicaBody, ...]
    truncated: bool
    generation: int


@dataclass(frozen=True)
class Rescan:
    """Which nodes were told to look at their disks."""

    told: str
    offline: str
    unheard_of: str
