"""What the coordinator says when it cannot answer (RFC 9457)."""

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Problem:
    """Says what went wrong, to what, and what to do. Decide by ``code``, show ``detail`` and ``hint``."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: Optional[str] = None
    candidates: tuple[str, ...] = ()
    request_id: Optional[str] = None
