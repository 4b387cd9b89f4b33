"""Where the coordinator is, who asks and whom to trust."""

import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import sifleet
from sifleet import address


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SIFLEET_URL", "SIFLEET_TOKEN", "SIFLEET_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:7440", "http://localhost", "http://LOCALHOST:1/", "http://[::1]:7440"]
)
def test_loopback_is_sent_a_token_in_the_clear(url: str) -> None:
    sifleet.Client(url, token="sifleet_1_00").close()


@pytest.mark.parametrize(
    "url",
    [
        "http://head01:7440",
        "http://10.0.0.1",
        "http://[::2]",
        "http://localhost.evil.example",
        "http://127.0.0.1@evil.example",
    ],
)
def test_nobody_else_is(url: str) -> None:
    with pytest.raises(sifleet.BadArgument, match="https"):
        sifleet.Client(url, token="sifleet_1_00")
    sifleet.Client(url).close()


@pytest.mark.parametrize("url", ["head01", "ftp://head01", "http://", "https:///x", "127.0.0.1:7440"])
def test_what_is_no_address_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(sifleet.BadArgument, match="unix:PATH"):
        sifleet.Client(url)


@pytest.mark.parametrize("token", ["", " ", "two words", "a\nb", "\u00e9"])
def test_a_token_is_one_word(token: str) -> None:
    with pytest.raises(sifleet.BadArgument, match="one word"):
        sifleet.Client("http://localhost", token=token)


def test_a_token_is_read_from_a_file_that_nobody_else_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text("sifleet_1_00\n")
    path.chmod(0o600)
    assert address.token(None, path) == "sifleet_1_00"
    monkeypatch.setenv("SIFLEET_TOKEN_FILE", str(path))
    assert address.token(None, None) == "sifleet_1_00"
    assert address.token("sifleet_2_00", None) == "sifleet_2_00"
    path.chmod(0o640)
    with pytest.raises(sifleet.BadArgument, match="mode 640"):
        address.token(None, path)
    with pytest.raises(sifleet.BadArgument, match="cannot read a token"):
        address.token(None, tmp_path / "nothing")


def test_the_environment_says_where_and_who(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIFLEET_URL", "unix:/tmp/x.sock")
    monkeypatch.setenv("SIFLEET_TOKEN", "sifleet_3_00")
    assert address.find(None) == "unix:/tmp/x.sock"
    assert address.find("http://localhost") == "http://localhost"
    assert address.token(None, None) == "sifleet_3_00"
    monkeypatch.delenv("SIFLEET_URL")
    assert address.find(None) in (address.LOOPBACK, address.UNIX + address.SOCKET)


class Coordinator(BaseHTTPRequestHandler):
    """As much of a coordinator as can be asked for its nodes."""

    def do_GET(self) -> None:
        """Answer that there are none."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"nodes": []}')

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with HTTPServer(("127.0.0.1", 0), Coordinator) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with sifleet.Client(f"http://127.0.0.1:{server.server_port}") as fleet:
            assert fleet.nodes() == ()


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for text in (None, "no certificate"):
        path = tmp_path / "ca.pem"
        if text is not None:
            path.write_text(text)
        with pytest.raises(sifleet.BadArgument, match=os.fspath(path)):
            sifleet.Client("https://head01", ca=path)
