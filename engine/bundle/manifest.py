"""`manifest.json`: what a bundle is, said once and checked by pydantic in both directions.

The export writes a `Manifest`, the store reads one. Everything the runtime needs to know about the
graphs (shapes, token ids, image windows, calibration) is here, so no code guesses from a graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..backends.base import CacheType
from ..errors import TemplateError
from ..prepare import ImageSpec, Resampling, Window
from ..template import ATTRIBUTES, CT_IQA, LEVELS, Template

FORMAT_VERSION: Final = 1
MANIFEST_NAME: Final = "manifest.json"
ENCODER, DECODER, TOKENIZER = "encoder.onnx", "decoder.onnx", "tokenizer.json"

Count = Annotated[int, Field(ge=1)]
TokenId = Annotated[int, Field(ge=0)]
Precision = Literal["fp32", "fp16", "int8"]
ScoreOrigin = Literal["simulated readers", "human readers", "unknown readers", "random weights"]
Target = Literal["cpu", "cuda", "tensorrt", "tensorrt-rtx"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    """Frozen, no unknown keys, no NaN and no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class WindowPart(_Part):
    """One channel: display window in HU, and the mean and deviation its 0 … 1 are normalised by."""

    low: float
    high: float
    mean: float = 0.5
    std: Annotated[float, Field(gt=0.0)] = 0.5

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"window low {self.low:g} is not below high {self.high:g}")
        return self


class ImagePart(_Part):
    """Square side in pixels, one channel per window, and the interpolation."""

    size: Annotated[int, Field(ge=1, le=4096)]
    windows: Annotated[list[WindowPart], Field(min_length=1)]
    resampling: Resampling = "bicubic"

    def spec(self) -> ImageSpec:
        """The same facts as `engine.prepare` takes them."""
        windows = tuple(Window(**window.model_dump()) for window in self.windows)
        return ImageSpec(size=self.size, windows=windows, resampling=self.resampling)


class DecoderPart(_Part):
    """Shapes of the decoder graph: `max_length` is L_max of its cache, `source_length` is S.

    `cache` is the type of all keys and values, own and cross-attention.
    """

    layers: Count
    heads: Count
    head_dim: Count
    max_length: Count
    source_length: Count
    vocab_size: Count
    cache: CacheType = "float32"


class TokensPart(_Part):
    """Token ids that decoding needs: prompt (BOS …), end, level words bad … excellent."""

    prompt: Annotated[list[TokenId], Field(min_length=1)]
    end: TokenId
    levels: Annotated[list[TokenId], Field(min_length=len(LEVELS), max_length=len(LEVELS))]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({*self.levels, self.end}) != len(LEVELS) + 1:
            raise ValueError("the level ids and the end id must all differ")
        return self


class CalibrationPart(_Part):
    """score = clip(intercept + slope * expected level, 0, 4), fitted on held-out data."""

    slope: float
    intercept: float


class ClausePart(_Part):
    """One attribute of a bundle's own template: its sentence at every level, bad … excellent."""

    attribute: str
    sentences: list[str]


TemplatePart = Literal["ct-iqa-1", "none"] | list[ClausePart]
"""The project's own template, none, or a bundle's own clauses in the order of its captions."""


def template_part(template: Template | None) -> TemplatePart:
    """A template as a manifest holds it; None: captions follow none."""
    if template is None:
        return "none"
    if template == CT_IQA:
        return "ct-iqa-1"
    return [ClausePart(attribute=name, sentences=list(s)) for name, s in template.clauses.items()]


def read_template(clauses: Sequence[ClausePart]) -> Template:
    """A template from its clauses.

    Raises:
        TemplateError: they do not make one.
    """
    if len({clause.attribute for clause in clauses}) < len(clauses):
        raise TemplateError("the template names an attribute twice")
    return Template({clause.attribute: tuple(clause.sentences) for clause in clauses})


class FilePart(_Part):
    """SHA-256 and size of one file of the bundle."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]


class ProfilePart(_Part):
    """The range of one engine's inputs: B, and T for a decoder (1 … 1 for an encoder)."""

    batch: tuple[Count, Count, Count]
    length: tuple[Count, Count, Count] = (1, 1, 1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for low, best, high in (self.batch, self.length):
            if not low <= best <= high:
                raise ValueError(f"profile {low}, {best}, {high} is not ordered")
        return self


class EnginePart(_Part):
    """One compiled engine: graph, runtime and GPU it is for, and trtexec's words for how.

    No engine was executed when the export wrote it; parity is measured on the ONNX graphs.
    """

    file: Annotated[str, Field(min_length=1)]
    graph: Literal["encoder", "decoder"]
    runtime: Literal["tensorrt", "tensorrt-rtx"]
    runtime_version: str
    compute_capability: Annotated[str, Field(pattern=r"^\d+\.\d$")]
    profile: ProfilePart
    settings: str


class Manifest(_Part):
    """Everything a bundle says about itself.

    Attributes:
        quantization: how an INT8 bundle was made; empty otherwise.
        kept_fp32: nodes of an FP16 or INT8 bundle that stayed FP32, and why.
        target: the device the bundle was made for; its ONNX graphs open on a CPU in any case.
        engines: compiled engines; each is also among `files`.
        template: what captions follow, and drafts come from; "none": the captioner writes freely,
            and is decoded a token a pass. See `captions`.
        provenance: versions of what wrote the bundle.
    """

    format_version: Literal[1] = FORMAT_VERSION
    name: Annotated[str, Field(min_length=1)]
    version: Annotated[str, Field(min_length=1)]
    family: str
    precision: Precision
    quantization: str = ""
    kept_fp32: list[str] = []
    target: Target = "cpu"
    engines: list[EnginePart] = []
    opset: Count
    image: ImagePart
    decoder: DecoderPart
    tokens: TokensPart
    template: TemplatePart = "ct-iqa-1"
    calibration: dict[str, CalibrationPart]
    files: dict[str, FilePart]
    source_sha256: str
    licence: str
    data: str
    provenance: dict[str, str] = {}
    score_origin: ScoreOrigin
    parity: dict[str, float]
    metrics: dict[str, float]

    @cached_property
    def captions(self) -> Template | None:
        """The template that captions follow; None: they follow none.

        Raises:
            TemplateError: the clauses do not make one; never after the manifest was read.
        """
        if isinstance(self.template, list):
            return read_template(self.template)
        return CT_IQA if self.template == "ct-iqa-1" else None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        _ = self.captions  # a `ValueError` where the clauses make no template
        if missing := sorted({ENCODER, DECODER, TOKENIZER} - self.files.keys()):
            raise ValueError(f"files lacks {', '.join(missing)}")
        if missing := sorted({engine.file for engine in self.engines} - self.files.keys()):
            raise ValueError(f"engines names {', '.join(missing)}, which files lacks")
        if self.calibration.keys() != set(ATTRIBUTES):
            raise ValueError(f"calibration must name exactly {', '.join(ATTRIBUTES)}")
        ids = [*self.tokens.prompt, self.tokens.end, *self.tokens.levels]
        if max(ids) >= self.decoder.vocab_size:
            raise ValueError("a token id lies outside the vocabulary")
        if len(self.tokens.prompt) >= self.decoder.max_length:
            raise ValueError("the prompt fills the decoder's whole cache")
        return self
