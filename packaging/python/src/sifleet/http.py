"""Sends one request and reads one bounded answer, or one stream; turns whatever goes wrong into our errors."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Optional

import httpx

from sifleet import errors, events
from sifleet.decode import decode
from sifleet.models import Problem

MAX_ANSWER = 64 * 1024 * 1024
"""Most bytes read of an answer: 10,000 nodes take about 3 MiB."""

SILENCE = 60.0
"""How long a stream may be silent, in seconds: four of the coordinator's signs of life."""


class Http:
    """One coordinator, over connections that are kept."""

    def __init__(
        self, base: str, transport: httpx.BaseTransport, token: Optional[str], timeout: float, language: Optional[str]
    ) -> None:
        """Connect to nobody yet."""
        headers = {"Accept": "application/json, application/problem+json", "User-Agent": "sifleet-python"}
        if language is not None:
            headers["Accept-Language"] = language
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._timeout = timeout
        # The environment's proxies and .netrc are nobody's business between a dashboard and its head node.
        self._client = httpx.Client(
            base_url=base, transport=transport, headers=headers, timeout=timeout, trust_env=False
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ask(
        self,
        method: str,
        path: str,
        params: Optional[Mapping[str, Optional[str]]] = None,
        body: Optional[object] = None,
        key: Optional[str] = None,
    ) -> object:
        """Return the JSON of a good answer.

        Raises:
            SifleetError: When there is none.

        """
        headers = {} if key is None else {"Idempotency-Key": key}
        query = {name: value for name, value in (params or {}).items() if value is not None}
        request = self._client.build_request(method, path, params=query or None, json=body, headers=headers)
        with self._send(request) as response:
            text = _read(response)
        if not response.is_success:
            raise _refusal(response, text)
        return _json(text)

    @contextmanager
    def stream(self, path: str) -> Iterator[Iterator[events.Told]]:
        """Follow server-sent events.

        Raises:
            SifleetError: When there is no stream, or it breaks off.

        """
        timeout = httpx.Timeout(self._timeout, read=SILENCE)
        headers = {"Accept": "text/event-stream, application/problem+json"}
        request = self._client.build_request("GET", path, headers=headers, timeout=timeout)
        with self._send(request) as response:
            if not response.is_success:
                raise _refusal(response, _read(response))
            yield events.parse(events.lines(response.iter_bytes()))

    @contextmanager
    def _send(self, request: httpx.Request) -> Iterator[httpx.Response]:
        try:
            response = self._client.send(request, stream=True)
            try:
                yield response
            finally:
                response.close()
        except httpx.TimeoutException as error:
            raise errors.Unavailable(f"no answer from the coordinator at {request.url} in time") from error
        except httpx.TransportError as error:
            raise errors.Unavailable(f"no answer from the coordinator at {request.url}: {error}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise errors.UnexpectedAnswer(f"{request.url}: {error}") from error


def _read(response: httpx.Response) -> bytes:
    pieces, length = [], 0
    for piece in response.iter_bytes():
        length += len(piece)
        if length > MAX_ANSWER:
            raise errors.UnexpectedAnswer(f"the answer has more than {MAX_ANSWER} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _json(text: bytes) -> object:
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise errors.UnexpectedAnswer("the answer is no JSON: is this the coordinator's address?") from error
    return value


def _refusal(response: httpx.Response, text: bytes) -> errors.SifleetError:
    """Understand why not; a proxy in front of nobody says it in HTML."""
    try:
        problem = decode(Problem, _json(text), "the problem")
    except errors.UnexpectedAnswer:
        if response.status_code in (502, 503, 504):
            return errors.Unavailable(f"{response.url} answered {response.status_code}: nobody is behind it")
        return errors.UnexpectedAnswer(f"{response.url} answered {response.status_code} and does not say why")
    after = response.headers.get("Retry-After", "")
    return errors.of_problem(problem, float(after) if after.isdecimal() else None)
