"""The bodies of the coordinator's answers, one module a noun, named as the OpenAPI document names them.

Everything is frozen: an answer is what was true at ``as_of``. Node lists are folded node sets such as
``viz[001-004]``, digests ``blake3:`` and 64 hexadecimal digits, times RFC 3339 text in UTC. A coordinator may send
fields that are not here; they are ignored. ``tests/test_document.py`` holds all of it against the document.
"""

from sifleet.models.answers import Counts, NodeAnswer, Satisfied, Verdict
from sifleet.models.availability import (
    Availability,
    BatchEntry,
    Degraded,
    DigestNodes,
    Nodes,
    PathNodes,
    Query,
    Reason,
)
from sifleet.models.drift import Drift
from sifleet.models.events import Event
from sifleet.models.images import (
    App,
    Described,
    DigestUse,
    ImageDetail,
    ImageMetadata,
    ImageSummary,
    SifPartition,
    Signature,
)
from sifleet.models.nodes import NodeDetail, NodeSummary, ReplicaBody, Rescan, RootBody
from sifleet.models.partitions import Membership, PartitionDetail, PartitionImage, PartitionSummary
from sifleet.models.problem import Problem
from sifleet.models.pushes import (
    DroppedSource,
    PhaseNodes,
    PushBody,
    PushBytes,
    PushNode,
    PushPlan,
    PushReason,
    SourceBytes,
)
from sifleet.models.templates import Template, TemplateBody, TemplateList, TemplateMistake
from sifleet.models.verdicts import VerdictAnswer, VerdictKind

__all__ = [
    "App",
    "Availability",
    "BatchEntry",
    "Counts",
    "Degraded",
    "Described",
    "DigestNodes",
    "DigestUse",
    "Drift",
    "DroppedSource",
    "Event",
    "ImageDetail",
    "ImageMetadata",
    "ImageSummary",
    "Membership",
    "NodeAnswer",
    "NodeDetail",
    "NodeSummary",
    "Nodes",
    "PartitionDetail",
    "PartitionImage",
    "PartitionSummary",
    "PathNodes",
    "PhaseNodes",
    "Problem",
    "PushBody",
    "PushBytes",
    "PushNode",
    "PushPlan",
    "PushReason",
    "Query",
    "Reason",
    "ReplicaBody",
    "Rescan",
    "RootBody",
    "Satisfied",
    "SifPartition",
    "Signature",
    "SourceBytes",
    "Template",
    "TemplateBody",
    "TemplateList",
    "TemplateMistake",
    "Verdict",
    "VerdictAnswer",
    "VerdictKind",
]
