"""Whether a job that needs an image would find it."""

from dataclasses import dataclass
from typing import Literal, NoReturn, Optional

from sifleet.models.answers import Counts, Satisfied
from sifleet.models.availability import Nodes, PathNodes, Reason
from sifleet.models.problem import Problem

VerdictKind = Literal["image", "template", "vnc"]
"""What is asked about: an image on a partition, a job template, an image for remote desktops."""


@dataclass(frozen=True)
class VerdictAnswer:
    """The verdict with its reason: ``reason`` is a stable code, ``message`` and ``hint`` are for people.

    Ask it :attr:`is_ready`, or decide by :attr:`verdict`; like an availability it has no truth value. Where ``ensure``
    was asked for, ``push`` names the push that brings the image, or ``push_problem`` says why there is none.
    """

    kind: VerdictKind
    ref: Optional[str]
    image: str
    partition: str
    require: str
    verdict: Satisfied
    reason: str
    message: str
    hint: Optional[str]
    language: str
    counts: Counts
    nodes: Optional[Nodes]
    paths: tuple[PathNodes, ...]
    reasons: tuple[Reason, ...]
    expected_digest: Optional[str]
    push: Optional[str]
    push_problem: Optional[Problem]
    as_of: str
    generation: int

    @property
    def is_ready(self) -> bool:
        """Whether it is certain that the job would find its image."""
        return self.verdict == "yes"

    def __bool__(self) -> NoReturn:
        """Refuse to be a yes or a no."""
        raise TypeError("a verdict is yes, no or unknown: ask .is_ready, or compare .verdict")
