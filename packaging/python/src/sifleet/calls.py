"""What every part of the client is made of: how it asks, and how paths and lists are read and written."""

import json
from collections.abc import Mapping
from typing import Optional, TypeVar
from urllib.parse import quote

from sifleet.decode import decode
from sifleet.errors import BadArgument, UnexpectedAnswer
from sifleet.http import Http

T = TypeVar("T")


class Calls:
    """Knows whom to ask."""

    def __init__(self, http: Http) -> None:
        """Ask over these connections."""
        self._http = http

    def _get(self, cls: type[T], path: str, params: Optional[Mapping[str, Optional[str]]] = None) -> T:
        return decode(cls, self._http.ask("GET", path, params))


def listed(cls: type[T], name: str, answer: object) -> tuple[T, ...]:
    """Read the list that an answer has under a name.

    Raises:
        UnexpectedAnswer: When it has none.

    """
    items = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(items, list):
        raise UnexpectedAnswer(f"the answer has no list {name}")
    return tuple(decode(cls, item, f"{name}[{i}]") for i, item in enumerate(items))


def segment(text: str) -> str:
    """Encode what somebody wrote so that it cannot change the path.

    >>> segment("viz[001-004]/..")
    'viz%5B001-004%5D%2F..'

    Raises:
        BadArgument: When nothing in it would be left of the path.

    """
    if text in ("", ".", ".."):
        raise BadArgument(f"{text!r} names nothing")
    return quote(text, safe="")


def json_of(text: str) -> object:
    """Read the data of an event.

    Raises:
        UnexpectedAnswer: When it is no JSON.

    """
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise UnexpectedAnswer("an event is no JSON") from error
    return value


def without_none(fields: dict[str, object]) -> dict[str, object]:
    """Leave out what was not said."""
    return {name: value for name, value in fields.items() if value is not None}
