"""A local HTTP server that answers like an OpenAI-compatible one, or misbehaves on purpose.

It stands in for OpenAI's own service, which tests cannot reach; every byte still crosses a real
socket. A behaviour gets the parsed request and a writer, and may write whatever it likes.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from engine.template import ATTRIBUTES, LEVELS, parse

Behaviour = Callable[[dict[str, Any], asyncio.StreamWriter], Awaitable[None]]


class FakeServer:
    """Records requests byte by byte; `behaviours` are used up in turn, the last one stays."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self.behaviours = list(behaviours) or [good]
        self.received: list[bytes] = []
        self.base_url = ""

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The JSON bodies received."""
        return [json.loads(raw.partition(b"\r\n\r\n")[2]) for raw in self.received]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.partition(b":")[2])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                )
                body = await reader.readexactly(length)
                self.received.append(head + body)
                several = len(self.behaviours) > 1
                behaviour = self.behaviours.pop(0) if several else self.behaviours[0]
                await behaviour(json.loads(body), writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@contextmanager
def serve(*behaviours: Behaviour) -> Iterator[FakeServer]:
    """A running server on loopback."""
    server = FakeServer(*behaviours)
    loop = asyncio.new_event_loop()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(server.handle, "127.0.0.1", 0, limit=2**22)

    listening = loop.run_until_complete(start())
    port = listening.sockets[0].getsockname()[1]
    server.base_url = f"http://127.0.0.1:{port}/v1"
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:

        async def stop() -> None:
            listening.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """A whole HTTP response."""
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", *headers]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


def completion(content: str | None, **message: Any) -> bytes:
    """A chat completion's body."""
    finish = message.pop("finish_reason", "stop")
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": content, **message},
    }
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "model-2026",
            "system_fingerprint": "fp_1",
            "choices": [choice],
            "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150},
        }
    ).encode()


def reply(scores: list[dict[str, float]]) -> str:
    """A reply of the schema, an item for each set of scores."""
    line = {name: f"{name} as described" for name in ATTRIBUTES}
    report = {
        "findings": line,
        "impression": "As described.",
        "suitability": "limited",
        "recommendation": "None.",
        "limits": "Description only.",
    }
    items = [
        {
            "id": place,
            "scores": {n: {"reason": line[n], "score": values[n]} for n in ATTRIBUTES},
            "report": report,
        }
        for place, values in enumerate(scores)
    ]
    return json.dumps({"reports": items})


def truthful(request: dict[str, Any]) -> str:
    """The scores that the captions state; 2 where a caption states none."""
    data = json.loads(request["messages"][-1]["content"])
    if "descriptions" not in data:
        return reply([data["mean"]])
    return reply([_stated(item["text"]) for item in data["descriptions"]])


def _stated(text: str) -> dict[str, float]:
    try:
        return {name: float(level) for name, level in parse(text).items()}
    except ValueError:
        found = dict.fromkeys(ATTRIBUTES, 2.0)
        for level, word in enumerate(LEVELS):
            if f"Noise level is {word}" in text:
                found["noise"] = float(level)
        return found


async def good(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    """Answers as it should: structured or streamed."""
    if request.get("stream"):
        writer.write(sse(["Slice 0 ", "is ", "fair."]))
        writer.close()
    else:
        writer.write(http(completion(truthful(request))))


def sse(pieces: list[str], *, finish: bool = True) -> bytes:
    """A streamed completion; without `finish` it ends in the middle."""
    events = [{"delta": {"content": piece}, "index": 0} for piece in pieces]
    if finish:
        events.append({"delta": {}, "index": 0, "finish_reason": "stop"})
    lines = [
        "data: " + json.dumps({"id": "1", "object": "chat.completion.chunk", "choices": [event]})
        for event in events
    ]
    if finish:
        lines.append("data: [DONE]")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    return head + "".join(f"{line}\n\n" for line in lines).encode()


def raw(data: bytes) -> Behaviour:
    """Writes bytes and hangs up."""

    async def behave(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return behave


def answers(content: str | None, **message: Any) -> Behaviour:
    """A well-formed completion with that content."""
    return raw(http(completion(content, **message)))


def status(line: str, *headers: str) -> Behaviour:
    """An error status with a message."""
    body = json.dumps({"error": {"message": "as asked", "type": "test"}}).encode()
    return raw(http(body, line, *headers))


async def stall(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    """Promises a body, sends a part, and falls silent."""
    body = completion(truthful(request))
    writer.write(http(body)[: -len(body) // 2])
    await writer.drain()
    await asyncio.sleep(60)


async def drip(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    """A byte now and then: no single read ever times out."""
    for byte in http(completion(truthful(request))):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def flood(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    """A body without end."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    while True:
        writer.write(b" " * 65536)
        await writer.drain()
