"""Who takes part: the engine's variants and the peers, each with what it needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

Model = Literal["blip-base", "default", "vit-gpt2-base", "blip-tiny", "vit-gpt2-tiny"]
Precision = Literal["fp32", "int8", "fp16"]

FEATURES: Final = "features.onnx"
WHOLE: Final = "whole.onnx"
GROWING: Final = "growing.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One way to caption the slices.

    Attributes:
        name: as the command line and the tables say it.
        about: one line for the tables' legend.
        kind: module:class of its worker.
        ours: whether it is the engine.
        bundle: precision of the bundle it opens.
        graphs: files of `baseline_graphs` that it opens.
        checkpoint: whether it opens the checkpoint itself.
        environment: file of `requirements/` without its suffix; None: this interpreter's own.
        gpu: whether it needs one.
        families: starts of the models' names that it can run.
        options: for its worker.
    """

    name: str
    about: str
    kind: str
    ours: bool = False
    bundle: Precision | None = None
    graphs: tuple[str, ...] = ()
    checkpoint: bool = False
    environment: str | None = None
    gpu: bool = False
    families: tuple[str, ...] = ("blip", "default", "vit")
    options: dict[str, Any] = field(default_factory=dict)


def _ours(name: str, about: str, precision: Precision, **more: Any) -> Contestant:
    kind = "benchmarks.peers.ours:Ours"
    return Contestant(name=name, about=about, kind=kind, ours=True, bundle=precision, **more)


def _torch(name: str, about: str, kind: str, **more: Any) -> Contestant:
    kind = f"benchmarks.peers.hugging_face:{kind}"
    return Contestant(name=name, about=about, kind=kind, checkpoint=True, **more)


def _growing(name: str, about: str, kind: str, **more: Any) -> Contestant:
    return Contestant(name=name, about=about, kind=kind, bundle="fp32", graphs=(GROWING,), **more)


_ORT_GROWING: Final = "benchmarks.peers.onnx_runtime:GrowingCache"
_OPENVINO: Final = "benchmarks.peers.openvino:OpenVino"

REFERENCE: Final = "hf-eager"
"""Whose tokens are right."""

CONTESTANTS: Final = (
    _ours("ours-fp32", "the engine, FP32 bundle", "fp32"),
    _ours("ours-int8", "the engine, INT8 bundle", "int8"),
    _torch(REFERENCE, "torch, the checkpoint's own generate", "Eager"),
    _torch("hf-compile", "torch.compile of both halves, static cache", "Compiled"),
    _torch(
        "hf-static", "generate with a static cache", "StaticCacheEager", families=("blip", "vit")
    ),
    Contestant(
        name="ort-no-cache",
        about="ONNX Runtime, every token runs the whole caption",
        kind="benchmarks.peers.onnx_runtime:NoCache",
        graphs=(FEATURES, WHOLE),
    ),
    _growing("ort-growing", "ONNX Runtime, KV cache grown by concatenation", _ORT_GROWING),
    _growing("openvino", "OpenVINO FP32, growing cache", _OPENVINO, environment="openvino"),
    _growing(
        "openvino-bf16",
        "OpenVINO at the BF16 it prefers on this CPU",
        _OPENVINO,
        environment="openvino",
        options={"precision": "bf16"},
    ),
    Contestant(
        name="optimum",
        about="optimum-onnx: its own export and generate",
        kind="benchmarks.peers.optimum:Optimum",
        checkpoint=True,
        environment="optimum",
        families=("vit",),
    ),
    _ours(
        "ours-fp16-gpu",
        "the engine, FP16 bundle, CUDA",
        "fp16",
        gpu=True,
        options={"device": "cuda"},
    ),
    _torch("hf-fp16-gpu", "torch FP16 on CUDA", "HalfGpu", gpu=True),
    _growing(
        "tensorrt-gpu",
        "TensorRT FP16 through ONNX Runtime, growing cache",
        _ORT_GROWING,
        gpu=True,
        options={"provider": "TensorrtExecutionProvider"},
    ),
)


def chosen(names: list[str] | None, model: str) -> list[Contestant]:
    """The contestants of these names; None: all that can run the model.

    Raises:
        ValueError: a name is unknown, or that contestant cannot run the model.
    """
    able = [c for c in CONTESTANTS if model.startswith(c.families)]
    if names is None:
        return able
    if odd := sorted(set(names) - {c.name for c in able}):
        known = ", ".join(c.name for c in able)
        raise ValueError(f"{', '.join(odd)}: not a contestant for {model}; there are {known}")
    return [c for c in able if c.name in names]
