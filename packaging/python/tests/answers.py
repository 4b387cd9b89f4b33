"""Answers as a coordinator gives them, and a client that hears them."""

import json
from collections.abc import Callable
from typing import Any

import httpx

import sifleet

AVAILABILITY: dict[str, Any] = {
    "image": "vnc_gnome.sif",
    "partition": "viz",
    "verdict": "partial",
    "require": "any",
    "satisfied": "yes",
    "message": "vnc_gnome.sif on viz: partial, 1 of 2 nodes ready",
    "expected_digest": None,
    "counts": {"ready": 1, "outdated": 0, "missing": 1, "unknown": 0},
    "nodes": {"ready": "viz001", "outdated": "", "missing": "viz002", "unknown": ""},
    "digests": [{"digest": "blake3:00", "count": 1, "nodes": "viz001"}],
    "paths": [{"path": "/opt/apptainers/vnc_gnome.sif", "count": 1, "nodes": "viz001"}],
    "reasons": [{"answer": "missing", "code": "absent", "message": "it is not there", "count": 1, "nodes": "viz002"}],
    "degraded": [],
    "membership": {"source": "file", "as_of": "2026-11-21T10:30:00.000Z", "stale": False},
    "as_of": "2026-11-21T10:31:07.512Z",
    "generation": 7,
    "added_later": {"by": "a newer coordinator"},
}

PUSH: dict[str, Any] = {
    "id": "p-000042",
    "image": "vnc_gnome.sif",
    "digest": "blake3:00",
    "size": 10,
    "state": "running",
    "completion": "all",
    "from": "head",
    "root": None,
    "created": "2026-11-21T10:31:07.512Z",
    "ended": None,
    "deadline": "2026-11-22T10:31:07.512Z",
    "rate": None,
    "priority": 100,
    "nodes": 1,
    "phases": [{"phase": "fetching", "count": 1, "nodes": "viz002"}],
    "reasons": [],
    "bytes": {"total": 10, "fetched": 1, "reused": 0, "resumed": 0, "present": 0, "wasted": 0, "rate": 5},
    "dropped": [],
}


def problem(status: int, code: str, **more: object) -> httpx.Response:
    """Answer with a problem document."""
    body = {"type": "about:blank", "title": "A title", "status": status, "code": code, "detail": "what happened"}
    return httpx.Response(status, json={**body, **more}, headers={"content-type": "application/problem+json"})


def client(answer: Callable[[httpx.Request], httpx.Response]) -> sifleet.Client:
    """Make a client whose requests are answered here."""
    return sifleet.Client("http://127.0.0.1:1", token="sifleet_1_00", transport=httpx.MockTransport(answer))


def body_of(request: httpx.Request) -> Any:
    """Read what was sent."""
    return json.loads(request.content)
