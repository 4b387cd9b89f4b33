"""Verdicts and job templates."""

from typing import Any

import httpx
import pytest
from answers import AVAILABILITY, PUSH, body_of, client

import sifleet
from sifleet.models import TemplateBody

VERDICT: dict[str, Any] = {
    "kind": "template",
    "ref": "openfoam-small",
    "image": "openfoam.sif",
    "partition": "compute",
    "require": "all",
    "verdict": "no",
    "reason": "missing",
    "message": "it is not there",
    "hint": "push it",
    "language": "en",
    "counts": AVAILABILITY["counts"],
    "nodes": AVAILABILITY["nodes"],
    "paths": [],
    "reasons": [],
    "expected_digest": None,
    "push": PUSH["id"],
    "push_problem": None,
    "as_of": "2026-11-21T10:31:07.512Z",
    "generation": 7,
}

TEMPLATE = {
    "id": "a b",
    "image": "openfoam.sif",
    "partition": "compute",
    "source": "api",
    "changed": "",
    "require": "any",
}


def test_a_verdict_is_asked_with_what_was_said_and_has_no_truth_value() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/verdicts"
        assert body_of(request) == {"kind": "template", "ref": "openfoam-small", "require": "2", "ensure": True}
        return httpx.Response(200, json=VERDICT)

    verdict = client(answer).verdict(kind="template", ref="openfoam-small", require=2, ensure=True)
    assert (verdict.is_ready, verdict.reason, verdict.push) == (False, "missing", "p-000042")
    with pytest.raises(TypeError, match="is_ready"):
        bool(verdict)


@pytest.mark.parametrize(("said", "ready"), [("yes", True), ("no", False), ("unknown", False)])
def test_only_a_yes_is_ready(said: str, ready: bool) -> None:
    verdict = client(lambda _: httpx.Response(200, json={**VERDICT, "verdict": said})).verdict("x", partition="viz")
    assert verdict.is_ready is ready


def test_sentences_come_in_the_language_of_the_client() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["accept-language"] == "ko"
        return httpx.Response(200, json={**VERDICT, "language": "ko"})

    carrier = httpx.MockTransport(answer)
    korean = sifleet.Client("http://127.0.0.1:1", language="ko", transport=carrier)
    assert korean.verdict("x", partition="viz").language == "ko"


def test_templates_are_put_listed_and_deleted() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.raw_path.decode()}")
        if request.method == "PUT":
            assert body_of(request) == {"image": "openfoam.sif", "partition": "compute", "require": "any"}
        mistake = {"file": "x.yaml", "line": 3, "column": None, "message": "no image"}
        every = {"templates": [TEMPLATE], "mistakes": [mistake], "as_of": ""}
        return httpx.Response(200, json=every if request.url.path == "/v1/templates" else TEMPLATE)

    fleet = client(answer)
    assert fleet.put_template("a b", TemplateBody("openfoam.sif", "compute", require="any")).require == "any"
    assert fleet.template("a b").mistake is None
    assert fleet.templates().mistakes[0].line == 3
    assert fleet.delete_template("a b").id == "a b"
    one = "/v1/templates/a%20b"
    assert asked == [f"PUT {one}", f"GET {one}", "GET /v1/templates", f"DELETE {one}"]
