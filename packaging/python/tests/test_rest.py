"""Images, nodes, pushes and streams."""

import json
from collections.abc import Callable

import httpx
import pytest
from answers import PUSH, body_of, client

import sifleet
from sifleet import events


def saying(*answers: tuple[str, object]) -> Callable[[httpx.Request], httpx.Response]:
    """Answer each request in its turn, and see that it is the one."""
    rest = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        wanted, body = rest.pop(0)
        assert f"{request.method} {request.url.raw_path.decode()}" == wanted
        return body if isinstance(body, httpx.Response) else httpx.Response(200, json=body)

    return answer


def test_images_come_page_by_page() -> None:
    image = {"name": "a.sif", "digests": [], "drift": False, "nodes": "viz001", "count": 1, "last_known": ""}
    answer = saying(
        ("GET /v1/images?q=a%26b&partition=viz", {"images": [image], "next_cursor": "c/1", "as_of": ""}),
        ("GET /v1/images?q=a%26b&partition=viz&cursor=c%2F1", {"images": [{**image, "name": "b.sif"}], "as_of": ""}),
    )
    assert [image.name for image in client(answer).images("a&b", partition="viz")] == ["a.sif", "b.sif"]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("compute/openfoam.sif", "/v1/nodes/compute%2Fopenfoam.sif"),
        ("viz[001-004]", "/v1/nodes/viz%5B001-004%5D"),
        ("../tokens", "/v1/nodes/..%2Ftokens"),
        ("a?b#c%2F", "/v1/nodes/a%3Fb%23c%252F"),
        ("\u00fc b", "/v1/nodes/%C3%BC%20b"),
    ],
)
def test_what_somebody_wrote_cannot_change_the_path(text: str, path: str) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path.decode())
        return httpx.Response(200, json={"told": "", "offline": "", "unheard_of": ""})

    client(answer).rescan(text)
    assert seen == [path + "/rescan"]


@pytest.mark.parametrize("text", ["", ".", ".."])
def test_what_would_leave_the_path_is_refused(text: str) -> None:
    with pytest.raises(sifleet.BadArgument):
        client(lambda _: httpx.Response(200, json={})).partition(text)


def test_a_push_says_what_is_wanted_and_nothing_else() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["idempotency-key"] == "night"
        assert body_of(request) == {"image": "a.sif", "to": {"missing_on": "viz"}, "from": "head", "rate": 100_000}
        return httpx.Response(201, json=PUSH)

    push = client(answer).push("a.sif", missing_on="viz", source="head", rate=100_000, idempotency_key="night")
    assert (push.id, push.from_, push.is_running, push.is_done) == ("p-000042", "head", True, False)


def test_a_push_has_one_target() -> None:
    fleet = client(lambda _: httpx.Response(500))
    with pytest.raises(sifleet.BadArgument, match="one of"):
        fleet.push("a.sif")
    with pytest.raises(sifleet.BadArgument, match="one of"):
        fleet.plan_push("a.sif", partition="viz", nodes="viz001")


def told(*pushes: dict[str, object]) -> httpx.Response:
    text = "".join(f"event: push\ndata: {json.dumps(push, ensure_ascii=False)}\n\n" for push in pushes)
    return httpx.Response(200, content=("retry: 2000\n: connected\n\n" + text).encode())


def test_a_push_is_followed_to_its_end() -> None:
    done = {**PUSH, "state": "done", "ended": "2026-11-21T10:32:00.000Z"}
    answer = saying(("GET /v1/pushes/p-000042/events", told(PUSH, done)))
    assert [push.state for push in client(answer).follow_push("p-000042")] == ["running", "done"]


def test_a_stream_that_breaks_off_is_no_end_of_the_push() -> None:
    answer = saying(("GET /v1/pushes/7/events", told(PUSH)))
    with pytest.raises(sifleet.Unavailable, match="before the push"):
        list(client(answer).follow_push("7"))


def test_signs_that_python_takes_for_line_ends_do_not_cut_an_event() -> None:
    odd = {**PUSH, "state": "done", "image": "a\u2028b\u0085c.sif"}
    answer = saying(("GET /v1/pushes/7/events", told(odd)))
    assert [push.image for push in client(answer).follow_push("7")] == ["a\u2028b\u0085c.sif"]


def test_lines_and_events_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_EVENT", 10)
    with pytest.raises(sifleet.UnexpectedAnswer, match="line"):
        list(events.lines([b"data: 12", b"345678"]))
    with pytest.raises(sifleet.UnexpectedAnswer, match="event"):
        list(events.parse(["data: 1", "data: 2"]))


def test_bytes_are_cut_at_line_feeds_wherever_pieces_end() -> None:
    assert list(events.lines([b"a\r", b"\nb\n\n", "\u00fc".encode()[:1], "\u00fc".encode()[1:] + b"\n"])) == [
        "a",
        "b",
        "",
        "\u00fc",
    ]
