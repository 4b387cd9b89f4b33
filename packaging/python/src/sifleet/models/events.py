"""Changes, as they happen."""

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Event:
    """One change. A gap in ``seq``, or the kind ``missed``, means: read the lists again.

    ``kind`` is ``node_online``, ``node_offline``, ``node_roots``, ``node_enrolled``, ``node_revoked``, ``image_ready``,
    ``image_gone``, ``push_changed``, ``removal_changed``, ``limits_changed``, ``partition_changed`` or ``missed``;
    ignore any other.
    """

    seq: int
    time: str
    kind: str
    node: Optional[str] = None
    image: Optional[str] = None
    digest: Optional[str] = None
    detail: Optional[str] = None
