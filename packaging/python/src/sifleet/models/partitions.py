"""Partitions and the images on them."""

from dataclasses import dataclass
from typing import Optional

from sifleet.models.answers import Counts, Verdict


@dataclass(frozen=True)
class Membership:
    """Where a partition's list of nodes came from, when it was last confirmed, and whether its source is silent."""

    source: str
    as_of: str
    stale: bool
    reason: Optional[str] = None


@dataclass(frozen=True)
class PartitionSummary:
    """One partition; ``not_online`` are those of its nodes whose answers are unknown."""

    name: str
    nodes: str
    count: int
    online: int
    not_online: str
    membership: Membership


@dataclass(frozen=True)
class PartitionImage:
    """One image on a partition: the sum over its nodes, and how many gave which answer."""

    name: str
    verdict: Verdict
    counts: Counts


@dataclass(frozen=True)
class PartitionDetail:
    """A partition and the images on at least one of its nodes."""

    summary: PartitionSummary
    images: tuple[PartitionImage, ...]
    as_of: str
