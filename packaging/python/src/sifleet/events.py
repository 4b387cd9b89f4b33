"""Reads server-sent events (the HTML standard, "Server-sent events"), as much of it as the coordinator writes."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sifleet.errors import UnexpectedAnswer

MAX_EVENT = 16 * 1024 * 1024
"""Most characters of one event: a push to 10,000 nodes, each with a reason of its own, takes about 3 Mi."""


class Told(NamedTuple):
    """One event as it was written."""

    kind: str
    data: str


def lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Cut bytes into lines at line feeds alone: JSON may hold any other sign that Python takes for a line's end.

    Raises:
        UnexpectedAnswer: When a line has no end.

    """
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line.rstrip(b"\r").decode("utf-8", "replace")
        if len(rest) > MAX_EVENT:
            raise UnexpectedAnswer(f"a line of the stream has more than {MAX_EVENT} bytes")


def parse(told: Iterable[str]) -> Iterator[Told]:
    r"""Put lines together to events; comments, identifiers and waiting times are skipped.

    >>> list(parse([": connected", "", "event: push", "data: {", "data: }", ""]))
    [Told(kind='push', data='{\n}')]

    Raises:
        UnexpectedAnswer: When an event has no end.

    """
    kind, data, length = "message", list[str](), 0
    for line in told:
        if not line:
            if data:
                yield Told(kind, "\n".join(data))
            kind, data, length = "message", [], 0
            continue
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        length += len(line)
        if length > MAX_EVENT:
            raise UnexpectedAnswer(f"an event has more than {MAX_EVENT} characters")
        if field == "event":
            kind = value
        elif field == "data":
            data.append(value)
