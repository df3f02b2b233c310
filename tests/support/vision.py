"""What a model that sees answers, over the local server of `tests.support.llm`.

It stands in for OpenAI's own service: it decodes the picture it was sent and judges its noise.
"""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from engine.template import ATTRIBUTES
from tests.support import llm


def shown(request: dict[str, Any]) -> Image.Image:
    """The picture within a request."""
    (part,) = [p for p in request["messages"][-1]["content"] if p["type"] == "image_url"]
    head, _, data = part["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def noise_score(picture: Image.Image) -> float:
    """4 for an even picture, less for a rough one."""
    grey = np.asarray(picture, float)
    rough = float(np.median(np.abs(np.diff(grey, axis=1))))
    return float(4.0 * np.exp(-rough / 20.0))


async def sees(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    """Answers by the schema."""
    score = noise_score(shown(request))
    writer.write(llm.http(llm.completion(llm.reply([dict.fromkeys(ATTRIBUTES, score)]))))
