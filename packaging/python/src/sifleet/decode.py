"""Makes the frozen bodies of :mod:`sifleet.models` out of JSON, and believes nothing that does not fit.

Fields that a body does not know are skipped, for coordinators may add some; one that it needs and misses, or of
another type, is an :class:`~sifleet.errors.UnexpectedAnswer` that names the place.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sifleet.errors import UnexpectedAnswer

T = TypeVar("T")

_PLAIN = {str: "a text", int: "a whole number", bool: "true or false"}


def decode(cls: type[T], value: object, at: str = "the answer") -> T:
    """Read a value as a body.

    >>> from sifleet.models import Counts
    >>> decode(Counts, {"ready": 1, "outdated": 0, "missing": 2, "unknown": 0, "more": "later"})
    Counts(ready=1, outdated=0, missing=2, unknown=0)

    Raises:
        UnexpectedAnswer: When the value does not fit.

    """
    body: T = _any(cls, value, at)
    return body


def json_name(field: str) -> str:
    """Tell how a field is called on the wire: ``from_`` would be a word of Python without its underscore."""
    return field[:-1] if field.endswith("_") else field


@functools.cache
def _fields(cls: Any) -> tuple[tuple[str, str, Any, bool], ...]:
    """List a body's fields: name here, name on the wire, type, whether there is a default."""
    hints = get_type_hints(cls)
    return tuple(
        (
            field.name,
            json_name(field.name),
            hints[field.name],
            field.default is not dataclasses.MISSING,
        )
        for field in dataclasses.fields(cls)
    )


def _any(hint: Any, value: object, at: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Union:
        inner = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _any(inner, value, at)
    if origin is Literal:
        if value not in arguments:
            raise UnexpectedAnswer(f"{at} is {value!r}, not one of {', '.join(arguments)}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise UnexpectedAnswer(f"{at} is no list")
        return tuple(_any(arguments[0], item, f"{at}[{i}]") for i, item in enumerate(value))
    if origin is Mapping:
        return {name: _any(arguments[1], item, f"{at}.{name}") for name, item in _object(value, at).items()}
    if dataclasses.is_dataclass(hint):
        return _body(hint, _object(value, at), at)
    # True is an int for Python, and no number for anybody else.
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UnexpectedAnswer(f"{at} is {value!r:.80}, not {_PLAIN[hint]}")
    return value


def _object(value: object, at: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise UnexpectedAnswer(f"{at} is no object")
    return value


def _body(cls: Any, value: Mapping[str, object], at: str) -> Any:
    arguments = {}
    for name, wire, hint, has_default in _fields(cls):
        if wire in value:
            arguments[name] = _any(hint, value[wire], f"{at}.{wire}")
        elif not has_default:
            # What may be null may be left out.
            arguments[name] = _any(hint, None, f"{at}.{wire}")
    return cls(**arguments)
