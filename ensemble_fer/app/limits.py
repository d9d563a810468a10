"""What the page's server takes from a client: so many bytes, so many requests at once, and within so many seconds.

gradio looks at the size of an upload while it writes it down, and at that of other requests not at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

_LOG = logging.getLogger(__name__)

MOST_AT_ONCE = 16
"""Requests with a body that are under way at the same time; more are refused."""
SECONDS = 20.0
"""In which a body must be here."""

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
    seconds : float
    """

    def __init__(self, app: Any, most: int, seconds: float = SECONDS) -> None:
        self.app, self.most, self.seconds = app, most, seconds
        self.reading = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        refusal = self._refused(dict(scope["headers"]))
        if refusal is not None:
            await _answer(send, *refusal)
            return
        self.reading += 1
        body = _Body(receive, send, self.seconds)
        try:
            await self.app(scope, body.receive, body.send)
        except Exception as error:
            # What is no question of the page fails somewhere in gradio: a line for each, not a traceback. Whoever
            # waits for a body that is late was told that the client has gone.
            if not body.late:
                _LOG.warning("%r could not be answered: %r", scope["path"], error)
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
        return None


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
