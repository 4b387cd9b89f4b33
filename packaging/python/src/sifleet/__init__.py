"""Which container image is ready on which node: a small client of a Sifleet coordinator.

    import sifleet

    fleet = sifleet.Client("https://head01:7440", token_file="/etc/portal/token")
    answer = fleet.available("vnc_gnome", partition="viz")
    print(answer.is_ready, answer.satisfied, answer.message)

An answer is ``yes``, ``no`` or ``unknown``. Whatever keeps the coordinator from answering is a :class:`SifleetError`,
never an answer.
"""

from importlib.metadata import version

from sifleet.client import Client
from sifleet.errors import (
    ApiError,
    BadArgument,
    NotAllowed,
    NotFound,
    NotReady,
    SifleetError,
    TooManyRequests,
    Unavailable,
    UnexpectedAnswer,
)
from sifleet.models import Availability, BatchEntry, Query

__version__ = version("sifleet")

__all__ = [
    "ApiError",
    "Availability",
    "BatchEntry",
    "Client",
    "BadArgument",
    "NotAllowed",
    "NotFound",
    "NotReady",
    "Query",
    "SifleetError",
    "TooManyRequests",
    "Unavailable",
    "UnexpectedAnswer",
    "__version__",
]
