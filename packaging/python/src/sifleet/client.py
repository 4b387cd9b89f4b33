"""The client: one method for each question, no state but connections.

:mod:`sifleet.pushing` and :mod:`sifleet.deciding` have the rest of it.

It may be shared by the threads of one process. Make one in each process: after ``fork`` connections are of the parent.
"""

import os
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Optional, Union

import httpx

from sifleet import address
from sifleet.calls import json_of, listed, segment, without_none
from sifleet.deciding import Deciding
from sifleet.decode import decode
from sifleet.errors import Unavailable, UnexpectedAnswer
from sifleet.http import Http
from sifleet.models import (
    Availability,
    BatchEntry,
    Drift,
    Event,
    ImageDetail,
    ImageSummary,
    NodeDetail,
    NodeSummary,
    PartitionDetail,
    PartitionSummary,
    Query,
    Rescan,
)
from sifleet.models.answers import Require
from sifleet.pushing import Pushing

MAX_QUERIES = 1_000
"""Most questions of one request; :meth:`Client.batch` splits."""


class Client(Pushing, Deciding):
    """Asks one coordinator.

    >>> client = sifleet.Client("https://head01:7440", token_file="/etc/portal/token")  # doctest: +SKIP
    >>> client.available("vnc_gnome", partition="viz").is_ready                        # doctest: +SKIP
    True
    """

    def __init__(
        self,
        url: Optional[str] = None,
        *,
        token: Optional[str] = None,
        token_file: Union[str, os.PathLike[str], None] = None,
        ca: Union[str, os.PathLike[str], None] = None,
        timeout: float = 5.0,
        language: Optional[str] = None,
        transport: Optional[httpx.BaseTransport] = None,
    ) -> None:
        """Read what says where and who; connect to nobody yet.

        Args:
            url: ``https://HOST:PORT``, ``http://`` for loopback, or ``unix:PATH``; else ``SIFLEET_URL``, else this
                machine's socket if there is one, else ``http://127.0.0.1:7440``.
            token: What ``sifleet token create`` showed.
            token_file: A file that holds it, which nobody else may read; else ``SIFLEET_TOKEN_FILE``,
                ``SIFLEET_TOKEN``.
            ca: PEM file of the certificates to trust for https; else the system's.
            timeout: Seconds that connecting may take, and each wait for bytes.
            language: In which verdicts speak to people, ``en`` or ``ko``.
            transport: Carries requests instead, for tests: an ``httpx.MockTransport``.

        Raises:
            BadArgument: When any of it cannot be used.

        """
        found = address.find(url)
        secret = address.token(token, token_file)
        base, carrier = address.transport(found, ca, secret)
        super().__init__(Http(base, transport or carrier, secret, timeout, language))

    def __enter__(self) -> "Client":
        """Return the client; leaving closes it."""
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def available(self, image: str, *, partition: str, require: Require = "all") -> Availability:
        """Tell whether an image is ready on a partition: on ``all`` its nodes, on ``any``, or on so many.

        The answer is from memory and comes at once. It is ``unknown`` rather than a guess. Ask for ``any`` only to
        send the job to one of ``nodes.ready``: Slurm may choose any other node.

        Raises:
            NotFound: When nobody ever heard of the image or the partition.
            Unavailable: When the coordinator does not answer, which says nothing about the image.
            SifleetError: Whatever else keeps it from answering.

        """
        params = {"image": image, "partition": partition, "require": str(require)}
        return self._get(Availability, "/v1/availability", params)

    def batch(self, queries: Iterable[Query]) -> tuple[BatchEntry, ...]:
        """Answer all questions of a page at once, in their order; more than 1,000 take several requests.

        >>> page = client.batch(sifleet.Query(name, "viz") for name in names)         # doctest: +SKIP
        >>> [entry.satisfied for entry in page]                                      # doctest: +SKIP
        ['yes', 'unknown', 'no']

        Raises:
            SifleetError: When there are no answers; a problem with one question is in its entry.

        """
        asked = list(queries)
        answers: list[BatchEntry] = []
        for start in range(0, len(asked), MAX_QUERIES):
            part = asked[start : start + MAX_QUERIES]
            body = {"queries": [without_none(vars(query)) for query in part]}
            entries = listed(BatchEntry, "answers", self._http.ask("POST", "/v1/availability", body=body))
            if len(entries) != len(part):
                raise UnexpectedAnswer(f"{len(part)} questions got {len(entries)} answers")
            answers += entries
        return tuple(answers)

    def images(self, query: Optional[str] = None, *, partition: Optional[str] = None) -> Iterator[ImageSummary]:
        """Go through the images by name, those whose name contains ``query``, on nodes of ``partition``.

        Raises:
            SifleetError: When there is no answer, on the way too.

        """
        cursor: Optional[str] = None
        while True:
            params = {"q": query, "partition": partition, "cursor": cursor}
            page = self._http.ask("GET", "/v1/images", params)
            yield from listed(ImageSummary, "images", page)
            cursor = page.get("next_cursor") if isinstance(page, dict) else None
            if cursor is None:
                return

    def image(self, image: str) -> ImageDetail:
        """Show where an image is and what it says of itself; a name, a path below a root, or 12 digits of a digest.

        Raises:
            NotFound: When nobody ever heard of it.
            SifleetError: When there is no answer.

        """
        return self._get(ImageDetail, f"/v1/images/{segment(image)}")

    def nodes(self) -> tuple[NodeSummary, ...]:
        """List the nodes in natural order.

        Raises:
            SifleetError: When there is no answer.

        """
        return listed(NodeSummary, "nodes", self._http.ask("GET", "/v1/nodes"))

    def node(self, name: str) -> NodeDetail:
        """Show a node, its roots and what is below them.

        Raises:
            NotFound: When no agent and no partition ever named it.
            SifleetError: When there is no answer.

        """
        return self._get(NodeDetail, f"/v1/nodes/{segment(name)}")

    def rescan(self, nodes: str) -> Rescan:
        """Have nodes (``viz[001-016]``) compare what they know with their disks. Needs the role operator.

        Raises:
            SifleetError: When there is no answer.

        """
        answer = self._http.ask("POST", f"/v1/nodes/{segment(nodes)}/rescan")
        return decode(Rescan, answer)

    def partitions(self) -> tuple[PartitionSummary, ...]:
        """List the partitions by name.

        Raises:
            SifleetError: When there is no answer.

        """
        return listed(PartitionSummary, "partitions", self._http.ask("GET", "/v1/partitions"))

    def partition(self, name: str) -> PartitionDetail:
        """Show a partition and where each image stands on it.

        Raises:
            NotFound: When no source ever named it.
            SifleetError: When there is no answer.

        """
        return self._get(PartitionDetail, f"/v1/partitions/{segment(name)}")

    def drift(self) -> tuple[Drift, ...]:
        """List the names under which nodes hold different bytes.

        Raises:
            SifleetError: When there is no answer.

        """
        return listed(Drift, "drift", self._http.ask("GET", "/v1/drift"))

    def events(self) -> Iterator[Event]:
        """Follow what changes, without an end of its own.

        Read the lists after connecting, and whenever ``missed`` comes.

        Raises:
            Unavailable: When the stream breaks off: begin again.
            SifleetError: When there is no stream.

        """
        with self._http.stream("/v1/events") as told:
            for event in told:
                yield decode(Event, json_of(event.data), "the event")
        raise Unavailable("the stream of events has ended")
