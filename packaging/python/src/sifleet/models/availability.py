"""Where an image stands on a partition."""

from dataclasses import dataclass
from typing import NoReturn, Optional

from sifleet.models.answers import Counts, NodeAnswer, Satisfied, Verdict
from sifleet.models.partitions import Membership
from sifleet.models.problem import Problem


@dataclass(frozen=True)
class Query:
    """One question of a batch: is ``image`` ready on ``all`` nodes of ``partition``, on ``any``, or on so many."""

    image: str
    partition: str
    require: Optional[str] = None


@dataclass(frozen=True)
class Nodes:
    """Folded node sets by answer; empty text for none."""

    ready: str
    outdated: str
    missing: str
    unknown: str


@dataclass(frozen=True)
class DigestNodes:
    """Nodes that hold one digest."""

    digest: str
    count: int
    nodes: str


@dataclass(frozen=True)
class PathNodes:
    """Nodes that hold the image at one absolute path."""

    path: str
    count: int
    nodes: str


@dataclass(frozen=True)
class Reason:
    """Nodes with the same reason for their answer; ``code`` is stable, ``message`` is for people."""

    answer: NodeAnswer
    code: str
    message: str
    count: int
    nodes: str


@dataclass(frozen=True)
class Degraded:
    """Nodes whose watching is impaired; their answer rests on scans alone."""

    reason: str
    nodes: str


@dataclass(frozen=True)
class Availability:
    """The answer with its evidence. Ask it :attr:`is_ready`, or decide by :attr:`satisfied`.

    It has no truth value of its own: ``if not client.available(…)`` would take "unknown" for "missing", so that raises
    ``TypeError``.

    >>> answer = client.available("vnc_gnome", partition="viz")                # doctest: +SKIP
    >>> answer.is_ready, answer.satisfied, answer.nodes.ready                   # doctest: +SKIP
    (True, 'yes', 'viz[001-003]')
    """

    image: str
    partition: str
    verdict: Verdict
    require: str
    satisfied: Satisfied
    message: str
    expected_digest: Optional[str]
    counts: Counts
    nodes: Nodes
    digests: tuple[DigestNodes, ...]
    paths: tuple[PathNodes, ...]
    reasons: tuple[Reason, ...]
    degraded: tuple[Degraded, ...]
    membership: Membership
    as_of: str
    generation: int

    @property
    def is_ready(self) -> bool:
        """Whether it is certain that as many nodes as required can run the image at this moment."""
        return self.satisfied == "yes"

    @property
    def is_known(self) -> bool:
        """Whether the answer is certain, be it yes or no."""
        return self.satisfied != "unknown"

    def __bool__(self) -> NoReturn:
        """Refuse to be a yes or a no."""
        raise TypeError("an availability is yes, no or unknown: ask .is_ready, or compare .satisfied")


@dataclass(frozen=True)
class BatchEntry:
    """One answer of a batch: either an ``answer`` or the ``problem`` with the question, never both."""

    answer: Optional[Availability] = None
    problem: Optional[Problem] = None

    @property
    def is_ready(self) -> bool:
        """Whether there is an answer and it is a certain yes."""
        return self.answer is not None and self.answer.is_ready

    @property
    def satisfied(self) -> Satisfied:
        """What the answer says. Without one it is ``unknown``, but for an image that certainly no node of it has."""
        if self.answer is not None:
            return self.answer.satisfied
        # Said only once every node of the partition was looked at as a whole.
        unheard_of = self.problem is not None and self.problem.code == "unknown_image"
        return "no" if unheard_of else "unknown"

    @property
    def message(self) -> str:
        """One sentence for people."""
        if self.answer is not None:
            return self.answer.message
        return "no answer" if self.problem is None else self.problem.detail or self.problem.title

    def __bool__(self) -> NoReturn:
        """Refuse to be a yes or a no."""
        raise TypeError("an entry is yes, no, unknown or a problem: ask .is_ready, or compare .satisfied")
