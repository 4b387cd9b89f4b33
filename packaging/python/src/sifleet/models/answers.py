"""The words of answers: ready, outdated, missing, unknown, and whether that is enough."""

from dataclasses import dataclass
from typing import Literal, Union

Require = Union[str, int]
"""How many nodes are enough: ``all``, ``any`` or a number."""

Satisfied = Literal["yes", "no", "unknown"]
"""Whether as many nodes are ready as were asked for; ``unknown`` means that it depends on nodes that are silent."""

Verdict = Literal["ready", "partial", "missing", "unknown"]
"""The sum over all nodes of the partition, whatever was required."""

NodeAnswer = Literal["ready", "outdated", "missing", "unknown"]
"""The answer for one node."""


@dataclass(frozen=True)
class Counts:
    """How many nodes gave which answer."""

    ready: int
    outdated: int
    missing: int
    unknown: int
