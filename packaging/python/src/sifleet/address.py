"""Where the coordinator is, who asks and whom to trust: read once, checked before anything is sent."""

import ipaddress
import os
import ssl
from pathlib import Path
from typing import Optional, Union
from urllib.parse import urlsplit

import httpx

from sifleet.errors import BadArgument

SOCKET = "/run/sifleet-coordinator/http.sock"
"""The socket of a coordinator on this machine."""

LOOPBACK = "http://127.0.0.1:7440"
"""Where the coordinator is if nobody says, and this machine has no socket of it."""

UNIX = "unix:"
"""What an address begins with that is a socket's."""

# Whoever may write the file, or read it, is the caller for the coordinator.
_OTHERS = 0o077


def find(url: Optional[str]) -> str:
    """Return the address as the command line finds it: named, else ``SIFLEET_URL``, else of this machine."""
    named = url or os.environ.get("SIFLEET_URL")
    if named:
        return named
    return UNIX + SOCKET if Path(SOCKET).exists() else LOOPBACK


def token(given: Optional[str], file: Union[str, os.PathLike[str], None]) -> Optional[str]:
    """Return the token: given, out of a file, else out of ``SIFLEET_TOKEN_FILE`` or ``SIFLEET_TOKEN``.

    Raises:
        BadArgument: When the file cannot be read, others may read it, or it holds no token.

    """
    path = file or (None if given else os.environ.get("SIFLEET_TOKEN_FILE"))
    if given is None and path is not None:
        given = _of_file(Path(path))
    if given is None:
        given = os.environ.get("SIFLEET_TOKEN") or None
    if given is None:
        return None
    word = given.strip()
    if not word or any(not "!" <= sign <= "~" for sign in word):
        raise BadArgument("what should be a token is none: one word is expected")
    return word


def _of_file(path: Path) -> str:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            if mode & _OTHERS:
                raise BadArgument(f"others may read or change the token in {path} (mode {mode:o}): chmod 600 {path}")
            return file.read(1_024)
    except OSError as error:
        raise BadArgument(f"cannot read a token from {path}: {error.strerror}") from error


def stays_here(url: str) -> bool:
    """Tell whether what is sent to an address in the clear stays on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def transport(
    url: str, ca: Union[str, os.PathLike[str], None], token: Optional[str]
) -> tuple[str, httpx.HTTPTransport]:
    """Return the base of every request, and what carries them there.

    Raises:
        BadArgument: When the address is none, or the certificates cannot be read, or a token would go in the clear.

    """
    # What goes in the clear trusts nobody's certificate, and reads no bundle of them.
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    limits = httpx.Limits(max_connections=32, max_keepalive_connections=8, keepalive_expiry=5.0)
    if url.startswith(UNIX):
        return "http://localhost", httpx.HTTPTransport(uds=url[len(UNIX) :], verify=nobody, limits=limits)
    base = url.rstrip("/")
    if not base.startswith(("http://", "https://")) or not urlsplit(base).hostname:
        raise BadArgument(f"{url!r} is no address: write http://HOST:PORT, https://HOST:PORT or unix:PATH")
    if base.startswith("http://"):
        if token is not None and not stays_here(base):
            raise BadArgument(f"the token is not sent to {url}: whoever listens could read it; ask over https")
        return base, httpx.HTTPTransport(verify=nobody, limits=limits)
    try:
        trust = ssl.create_default_context(cafile=None if ca is None else os.fspath(ca))
    except (OSError, ssl.SSLError) as error:
        raise BadArgument(f"cannot read certificates from {ca}: {error}") from error
    return base, httpx.HTTPTransport(verify=trust, limits=limits)
