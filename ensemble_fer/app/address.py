"""Where the page is served: an address and port of this machine, and by which names it is asked there."""

from __future__ import annotations

import errno
import socket

from ensemble_fer.errors import UsageError, brief


def names_of(host: str) -> frozenset[str]:
    """By which names a page of this machine alone is asked; empty for one that others may reach."""
    address = socket.gethostbyname(host)
    return frozenset({host, address, "localhost"}) if address.startswith("127.") else frozenset()


def check_place(host: str, port: int) -> None:
    """Raise UsageError unless the page can be served there."""
    if not 1 <= port <= 65535:
        raise UsageError(f"port {port}: expected 1 to 65535.")
    try:
        (*_, address), *_ = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, ValueError) as error:  # a name of more letters than names have is a UnicodeError
        raise UsageError(f"host {brief(host)}: expected an IPv4 address of this machine, or a name of one.") from error
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            what = (
                "is taken. Take another one: --port" if error.errno == errno.EADDRINUSE else f"cannot be had: {error}."
            )
            raise UsageError(f"port {port} of {host} {what}") from error
