"""Names under which nodes hold different bytes."""

from dataclasses import dataclass
from typing import Optional

from sifleet.models.availability import DigestNodes


@dataclass(frozen=True)
class Drift:
    """One name, the digest that the library holds under it, and who holds what."""

    name: str
    expected_digest: Optional[str]
    digests: tuple[DigestNodes, ...]
