"""No network: while it is forbidden, every attempt to leave this machine is an error.

Python announces each socket operation to audit hooks before it happens, whichever package asks for
it, so one hook sees them all (but not a C library that opens sockets by itself: none of ours does).
Loopback and Unix sockets stay open: a local model answers there.
"""

from __future__ import annotations

import ipaddress
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from .errors import OfflineError

_EVENTS: Final = {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"}
_lock = threading.Lock()
_forbidden = 0
_hooked = False


@contextmanager
def forbid_network() -> Iterator[None]:
    """Within the block, in all threads, leaving this machine raises `OfflineError`."""
    global _forbidden, _hooked  # noqa: PLW0603 (audit hooks are global to the process and stay)
    with _lock:
        if not _hooked:
            sys.addaudithook(_watch)
            _hooked = True
        _forbidden += 1
    try:
        yield
    finally:
        with _lock:
            _forbidden -= 1


def check_url(url: str) -> None:
    """A server that may not be reached now is an error at once, not at the first request.

    Raises:
        OfflineError: the network is forbidden and `url` is not on this machine.
    """
    host = urlsplit(url).hostname
    if _forbidden and not _is_loopback(host):
        raise OfflineError(
            f"the network is forbidden (offline), but the reporter is at {host}; use a local "
            "model or the template"
        )


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _forbidden or event not in _EVENTS:
        return
    host = _host(event, arguments)
    if host is not None and not _is_loopback(host):
        raise OfflineError(f"the network is forbidden (offline), but {event} wants {host}")


def _host(event: str, arguments: tuple[Any, ...]) -> str | None:
    """The host an event is about; None for sockets that cannot leave the machine."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
        return host.decode("ascii", "replace") if isinstance(host, bytes) else host
    address = arguments[1]
    return str(address[0]) if isinstance(address, tuple) and address else None


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
