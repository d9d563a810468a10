"""What the page's server takes from a client: so many bytes, so many requests at once, and within so many seconds.

gradio looks at the size of an upload while it writes it down, and at that of other requests not at all. Nor does its
server ask who sends a request: a browser does so for any page that it shows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ensemble_fer.errors import brief

_LOG = logging.getLogger(__name__)

MOST_AT_ONCE = 16
"""Requests with a body that are under way at the same time; more are refused."""
SECONDS = 20.0
"""In which a body, and before it the head of a request, must be here."""
MOST_CONNECTIONS = 200
MOST_KEPT = 300_000_000
"""Bytes of pictures that lie on disk until they are removed, some minutes later."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Limits:
    """An ASGI application in front of another one, which reads no body that is too large, too slow or one too many.

    A body must say how long it is. What says too much is answered before a byte of it is read.

    Parameters
    ----------
    app : ASGI application
    most : int
        Bytes of a body.
    hosts : set of str
        By which names it may be asked, as the page of this machine alone; empty for any. Without, a name that somebody
        lets point to this machine would open the page to scripts of theirs.
    folder : Path, optional
        Where pictures are kept for a while.
    seconds : float
    """

    def __init__(
        self,
        app: Any,
        most: int,
        hosts: frozenset[str] = frozenset(),
        folder: Path | None = None,
        seconds: float = SECONDS,
    ) -> None:
        self.app, self.most, self.hosts, self.folder, self.seconds = app, most, hosts, folder, seconds
        self.reading = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, plain = dict(scope["headers"]), scope["method"] in ("GET", "HEAD", "OPTIONS")
        refusal = self._foreign(headers) or (None if plain else self._refused(headers))
        if refusal is not None:
            await _answer(send, *refusal)
            return
        if plain:
            await self.app(scope, receive, send)
            return
        self.reading += 1
        body = _Body(receive, send, self.seconds)
        try:
            await self.app(scope, body.receive, body.send)
        except Exception as error:
            # What is no question of the page fails somewhere in gradio: a line for each, not a traceback. Whoever
            # waits for a body that is late was told that the client has gone.
            if not body.late:
                _LOG.warning("%s could not be answered: %s", brief(scope["path"]), brief(error))
            if not body.answered and not body.late:
                await _answer(send, 500, "the request could not be answered")
        finally:
            self.reading -= 1
        if body.late and not body.answered:
            await _answer(send, 408, f"the request was not here within {self.seconds:.0f} seconds")

    def _refused(self, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """Status and reason, if the body is not to be read."""
        said = headers.get(b"content-length", b"")
        if not said.isdigit():
            return 411, "the request does not say how long it is"
        if int(said) > self.most:
            return 413, f"the request has {int(said) / 1e6:.0f} MB; at most {self.most / 1e6:.0f} are taken"
        if self.reading >= MOST_AT_ONCE:
            return 503, "too many requests at once; try again"
        if self.folder is not None and _bytes_of(self.folder) > MOST_KEPT:
            return 503, "too many pictures at once; try again in some minutes"
        return None

    def _foreign(self, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """Status and reason, if it is asked by another name, or by another page that a browser shows."""
        asked = headers.get(b"host", b"").decode("latin-1")
        if self.hosts and _name_of(asked) not in self.hosts:
            return 403, f"this page answers to {', '.join(sorted(self.hosts))}"
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and origin != "null" and urlsplit(origin).netloc != asked:
            return 403, "another page asks"
        return (403, "another page asks") if origin == "null" else None


def hurried(protocol: type[Any], seconds: float = SECONDS, most: int = MOST_CONNECTIONS) -> type[Any]:
    """A protocol of uvicorn that closes connections on which the head of a request does not come, and too many of them.

    uvicorn waits for a head without end, so that so many as a process may have files open would stop it.
    """

    class Hurried(protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > most:
                transport.close()
            self._begin()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._since = None
            elif self._since is None:
                self._begin()

        def _begin(self) -> None:
            self._since = self.loop.time()
            self.loop.call_later(seconds, self._look)

        def _look(self) -> None:
            if self._since is not None and self.loop.time() - self._since > 0.99 * seconds:
                self.transport.close()

    return Hurried


def _name_of(host: str) -> str:
    """A host without its port."""
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host


def _bytes_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # removed meanwhile
            continue
    return total


class _Body:
    """The messages of one request and its answer: whether the body came in time, and whether an answer has begun."""

    def __init__(self, receive: Receive, send: Send, seconds: float) -> None:
        self._receive, self._send = receive, send
        self._until = asyncio.get_running_loop().time() + seconds
        self.whole = self.late = self.answered = False

    async def receive(self) -> Message:
        if self.whole or self.late:
            return await self._receive()
        left = self._until - asyncio.get_running_loop().time()
        try:
            message = await asyncio.wait_for(self._receive(), max(left, 0.0))
        except TimeoutError:
            self.late = True
            return {"type": "http.disconnect"}
        self.whole = message["type"] == "http.disconnect" or not message.get("more_body")
        return message

    async def send(self, message: Message) -> None:
        self.answered = True
        await self._send(message)


async def _answer(send: Send, status: int, reason: str) -> None:
    content = reason.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def nearby(move: Callable[[Any], Awaitable[str | None]]) -> Callable[[Any], Awaitable[str | None]]:
    """Of gradio's way to a file, what does not lead elsewhere: it would fetch any address that a client names."""

    async def moved(place: Any) -> str | None:
        if place is not None and "://" in str(place):
            raise ValueError("an address was given in place of a picture, and nothing is fetched")
        return await move(place)

    return moved


def understood(read: Callable[..., Awaitable[Any]], refusal: Any) -> Callable[..., Awaitable[Any]]:
    """Of gradio's reading of a request, what ends in a line where it would write a traceback.

    Parameters
    ----------
    read : callable
        ``preprocess_data`` of a page.
    refusal : type of Exception
        ``gradio.Error``, which alone is told to the client.
    """

    async def reading(*args: Any, **kwargs: Any) -> Any:
        try:
            return await read(*args, **kwargs)
        except refusal:
            raise
        except Exception as error:
            _LOG.warning("a request could not be understood: %s", brief(error))
            raise refusal("the request could not be understood", print_exception=False) from None

    return reading
