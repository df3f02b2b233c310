"""HTTP as this engine wants it: says nothing of this machine, reads no more than it must."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import httpx2

from ..errors import ReplyError

MAX_REPLY_BYTES: Final = 4 * 1024 * 1024
_USER_AGENT: Final = "iqagpt"
_TELLTALE: Final = b"x-stainless-"


class Transport(httpx2.AsyncHTTPTransport):
    """Drops headers that describe this machine; ends a reply that grows beyond all reason.

    The SDK adds operating system, architecture and Python version to every request. They are
    nobody's business: only text made from captions leaves.
    """

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request.

        Raises:
            ReplyError: the reply is compressed, so its size could not be bounded.
        """
        # A copy, because the SDK reads its own headers on the original again afterwards.
        headers = httpx2.Headers(
            [pair for pair in request.headers.raw if not pair[0].lower().startswith(_TELLTALE)]
        )
        headers["user-agent"] = _USER_AGENT
        headers["accept-encoding"] = "identity"
        sent = httpx2.Request(
            request.method,
            request.url,
            headers=headers,
            stream=request.stream,
            extensions=request.extensions,
        )
        response = await super().handle_async_request(sent)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise ReplyError("the reply is compressed although it was asked for plain")
        if isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _Bounded(response.stream)
        return response


class _Bounded(httpx2.AsyncByteStream):
    """A body of at most `MAX_REPLY_BYTES`."""

    def __init__(self, body: httpx2.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._body:
            size += len(part)
            if size > MAX_REPLY_BYTES:
                raise ReplyError(f"the reply is larger than {MAX_REPLY_BYTES} bytes")
            yield part

    async def aclose(self) -> None:
        await self._body.aclose()
