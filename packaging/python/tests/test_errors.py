"""Whatever goes wrong is one of our errors, and never an answer."""

from collections.abc import Callable

import httpx
import pytest
from answers import client, problem

import sifleet


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "bad_image", sifleet.ApiError),
        (401, "unauthenticated", sifleet.NotAllowed),
        (403, "forbidden", sifleet.NotAllowed),
        (404, "unknown_image", sifleet.NotFound),
        (429, "too_many_requests", sifleet.TooManyRequests),
        (500, "internal", sifleet.ApiError),
        (503, "stopping", sifleet.NotReady),
        (503, "stopping", sifleet.Unavailable),
    ],
)
def test_a_refusal_says_what_the_coordinator_said(status: int, code: str, kind: type[sifleet.ApiError]) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return problem(status, code, hint="do this", candidates=["a", "b"], request_id="5c0-1")

    with pytest.raises(kind) as caught:
        client(answer).available("x", partition="viz")
    error = caught.value
    assert isinstance(error, sifleet.ApiError)
    assert (error.code, error.status, error.message, error.hint) == (code, status, "what happened", "do this")
    assert error.candidates == ("a", "b")
    assert str(error) == f"what happened [{code}]"


def test_when_to_ask_again_is_told() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        refusal = problem(429, "too_many_requests")
        refusal.headers["Retry-After"] = "3"
        return refusal

    with pytest.raises(sifleet.TooManyRequests) as caught:
        client(answer).nodes()
    assert caught.value.retry_after == 3.0


def fails(error: type[httpx.TransportError]) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error("no luck", request=request)

    return answer


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError])
def test_who_does_not_answer_is_unavailable(error: type[httpx.TransportError]) -> None:
    for ask in (
        lambda c: c.available("x", partition="viz"),
        lambda c: c.push("x", partition="viz"),
        lambda c: list(c.events()),
    ):
        with pytest.raises(sifleet.Unavailable, match=r"127\.0\.0\.1:1"):
            ask(client(fails(error)))


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_in_front_of_nobody_is_unavailable(status: int) -> None:
    with pytest.raises(sifleet.Unavailable, match=str(status)):
        client(lambda _: httpx.Response(status, html="<h1>Bad gateway</h1>")).nodes()


@pytest.mark.parametrize("answer", [httpx.Response(200, html="<h1>It works</h1>"), httpx.Response(404, html="gone")])
def test_somebody_else_at_the_address_is_no_answer(answer: httpx.Response) -> None:
    with pytest.raises(sifleet.UnexpectedAnswer):
        client(lambda _: answer).available("x", partition="viz")


@pytest.mark.parametrize("status", [301, 302, 307])
def test_nobody_is_followed_elsewhere_with_the_token(status: int) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "127.0.0.1"
        return httpx.Response(status, headers={"location": "https://evil.example/"})

    with pytest.raises(sifleet.UnexpectedAnswer, match=str(status)):
        client(answer).nodes()


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sifleet.http.MAX_ANSWER", 100)
    with pytest.raises(sifleet.UnexpectedAnswer, match="more than 100 bytes"):
        client(lambda _: httpx.Response(200, content=b" " * 101)).nodes()
