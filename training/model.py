"""The small captioner: a vision encoder with a second-order stem, and a text decoder.

Noise is an amplitude, and a plain patch embedding does not see amplitudes. The stem therefore
measures them: a bank of small zero-mean filters (4 x 4 DCT) on every window at four scales,
squared. Per cell of 32 x 32 pixels it takes the logarithm of the mean, the mean of the logarithms
(an edge raises the one, not the other), and which way slanted structure runs. A few convolutions
look at the pixels beside them, so that the same energy may mean noise in muscle and anatomy in
lung. Four cells make a token; a transformer mixes the tokens, a head guesses the levels for the
first draft, and a small decoder writes the caption with cross-attention to the tokens.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from engine.prepare import ImageSpec, Window
from engine.template import ATTRIBUTES, LEVELS
from engine.whole_file import written_whole

from .data.maps import CELL_PX

DEFAULT_WINDOWS = (
    Window(low=-160.0, high=240.0),
    Window(low=-1350.0, high=150.0),
    Window(low=-1000.0, high=2000.0),
)
"""Soft tissue, lung and wide window, HU."""

FILTER = 4
FILTERS = FILTER**2 - 1
STRIDES = (4, 4, 2, 1)
"""Of the filters at full, half, quarter and eighth resolution: side by side, overlapping where
pixels are few."""
SQUARE_PX = 8
"""Finest squares that energies are kept of; 4 x 4 of them make a cell."""
SLANTS = ((0, 3), (5, 8))
"""Pairs of filters that transposing swaps: their correlation is the sign of a slant."""
FLOOR = 1e-5
"""Energy that counts as none, in squared pixel values."""

Statistics = tuple[Tensor, Tensor]
"""What the filters measured (B, F, cells, cells) and pixels at quarter size (B, C, size/4, size/4).

F is windows x scales x (15 logarithms of means, 15 means of logarithms, 2 slants), grouped by kind.
"""

Cross = list[tuple[Tensor, Tensor]]
"""Cross-attention keys and values of each decoder layer, each (B, heads, S, head_dim)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionerConfig:
    """Shape of a captioner.

    Attributes:
        level_ids: the tokens of the level words, bad … excellent.
        physics: outputs of the physics head, which only training uses: what was measured and done.
        maps: outputs of the head of maps, for every token, which only training uses: where.
    """

    vocab_size: int
    level_ids: tuple[int, ...]
    size: int = 512
    windows: int = 3
    width: int = 192
    heads: int = 4
    encoder_layers: int = 6
    decoder_layers: int = 2
    mlp_ratio: int = 3
    max_length: int = 96
    dropout: float = 0.1
    physics: int = 0
    maps: int = 0

    @property
    def cells(self) -> int:
        """Cells per side."""
        return self.size // CELL_PX

    @property
    def grid(self) -> int:
        """Tokens per side: two cells by two make a token."""
        return self.cells // 2

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads


def image_spec(size: int = 512) -> ImageSpec:
    """The image specification of the default captioner."""
    return ImageSpec(size=size, windows=DEFAULT_WINDOWS)


def turned(statistics: Statistics, *, transpose: bool, flip: bool, mirror: bool) -> Statistics:
    """The statistics of the transposed, flipped (rows) or mirrored (columns) slice, exactly.

    A DCT filter's energy does not change when the slice is mirrored, but a slant then runs the
    other way; transposing swaps the two frequencies of each filter, and leaves a slant as it is.
    """
    measured, quarter = statistics
    slants = measured.shape[1] * len(SLANTS) // (2 * FILTERS + len(SLANTS))
    energy, slant = measured[:, :-slants], measured[:, -slants:]
    if transpose:
        order = torch.arange(FILTER**2).reshape(FILTER, FILTER).T.flatten()[1:] - 1
        energy = energy.unflatten(1, (-1, FILTERS))[:, :, order].flatten(1, 2)
        energy, slant, quarter = (part.transpose(-1, -2) for part in (energy, slant, quarter))
    measured = torch.cat([energy, -slant if flip != mirror else slant], 1)
    dims = [d for d, wanted in ((-2, flip), (-1, mirror)) if wanted]
    return measured.flip(dims), quarter.flip(dims)


def dct_bank() -> Tensor:
    """The filters of the 4 x 4 DCT-II, orthonormal: (16, 1, 4, 4).

    The first, a mean, is not used; but sixteen channels are a block of ONNX Runtime's layout, and
    fifteen are not.
    """
    n = np.arange(FILTER)
    basis = np.sqrt(2.0 / FILTER) * np.cos(np.pi * (2 * n[None] + 1) * n[:, None] / (2 * FILTER))
    basis[0] /= np.sqrt(2.0)
    bank = np.einsum("ik,jl->ijkl", basis, basis).reshape(-1, 1, FILTER, FILTER)
    return torch.from_numpy(bank.astype(np.float32))


class SecondOrderStem(nn.Module):
    """Pixels (B, C, size, size) -> statistics -> tokens (B, grid*grid, width)."""

    bank: Tensor

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("bank", dct_bank(), persistent=False)
        banks = len(STRIDES) * config.windows
        logs, slants = 2 * FILTERS * banks, len(SLANTS) * banks
        self.scale = nn.Parameter(torch.cat([torch.full((logs,), 0.4), torch.ones(slants)]))
        self.shift = nn.Parameter(torch.cat([torch.full((logs,), 2.5), torch.zeros(slants)]))
        look = config.width // 4
        self.look = nn.Sequential(
            *(_halving(config.windows, look), nn.GELU()),
            *(_halving(look, look), nn.GELU()),
            *(_halving(look, look), nn.GELU()),
        )
        self.mlp = nn.Sequential(
            nn.Linear(logs + slants + look, 256),
            nn.GELU(),
            nn.Linear(256, config.width // 2),
            nn.GELU(),
        )
        self.merge = nn.Linear(2 * config.width, config.width)

    def statistics(self, pixels: Tensor) -> Statistics:
        """The part that nothing is learned in, so training computes it once per slice."""
        scales = [pixels]
        for _ in STRIDES[1:]:
            scales.append(_halved(scales[-1]))
        found = [self._measure(*scale) for scale in zip(scales, STRIDES, strict=True)]
        means, logs, products = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
        # In units of the floor: ONNX export rounds a term as small as its square away.
        power = means.unflatten(1, (-1, FILTERS)) / FLOOR
        slants = [
            products[:, i :: len(SLANTS)] / FLOOR / (power[:, :, a] * power[:, :, b] + 1.0).sqrt()
            for i, (a, b) in enumerate(SLANTS)
        ]
        return torch.cat([torch.log(means + FLOOR), logs, *slants], 1), scales[2]

    def forward(self, measured: Tensor, quarter: Tensor) -> Tensor:
        scaled = measured.flatten(2).transpose(1, 2) * self.scale + self.shift
        seen = self.look(quarter).flatten(2).transpose(1, 2)
        cells = self.mlp(torch.cat([scaled, seen], dim=-1))
        grid, width = self.config.grid, self.config.width // 2
        fours = cells.reshape(-1, grid, 2, grid, 2, width).transpose(2, 3)
        tokens: Tensor = self.merge(fours.reshape(-1, grid * grid, 4 * width))
        return tokens

    def _measure(self, pixels: Tensor, stride: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of one scale: mean energy per filter, mean of its logarithms, products of slanted pairs.

        Each (B, C * 15 or 2, cells, cells).
        """
        margin = (FILTER + 1 - stride) // 2
        if margin:
            pixels = functional.pad(pixels, (margin,) * 4, mode="replicate")
        batch, windows, side, _ = pixels.shape
        response = functional.conv2d(pixels.reshape(-1, 1, side, side), self.bank, stride=stride)
        pairs = torch.stack([response[:, 1 + a] * response[:, 1 + b] for a, b in SLANTS], 1)
        squares = response * response
        if stride == 1:  # one response too many, so that both borders are alike
            squares, pairs = (functional.avg_pool2d(x, 2, stride=1) for x in (squares, pairs))
        squares = functional.avg_pool2d(squares, squares.shape[-1] * SQUARE_PX // self.config.size)
        square = CELL_PX // SQUARE_PX
        parts = (
            functional.avg_pool2d(squares, square)[:, 1:],
            _blocks(torch.log(squares[:, 1:] + FLOOR), square),
            _blocks(pairs, pairs.shape[-1] // self.config.cells),
        )
        means, logs, products = (x.unflatten(0, (batch, windows)).flatten(1, 2) for x in parts)
        return means, logs, products


def _halved(x: Tensor) -> Tensor:
    """Means of 2 x 2 pixels, by a convolution: ONNX Runtime pools three times as slowly."""
    weight = x.new_full((x.shape[1], 1, 2, 2), 0.25)
    return functional.conv2d(x, weight, stride=2, groups=x.shape[1])


def _halving(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)


def _blocks(x: Tensor, side: int) -> Tensor:
    """Means of blocks of side x side; one axis at a time runs fastest in ONNX Runtime."""
    if side == 1:
        return x
    rows, columns = x.shape[-2] // side, x.shape[-1] // side
    return x.unflatten(-1, (columns, side)).mean(-1).unflatten(-2, (rows, side)).mean(-2)


class Attention(nn.Module):
    """Multi-head attention whose keys and values may come from elsewhere."""

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.heads, self.head_dim = config.heads, config.head_dim
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, config.width)

    def split(self, x: Tensor) -> Tensor:
        """(B, T, width) -> (B, heads, T, head_dim)."""
        return x.reshape(x.shape[0], -1, self.heads, self.head_dim).transpose(1, 2)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of `x`, each (B, heads, T, head_dim)."""
        return self.split(self.key(x)), self.split(self.value(x))

    def forward(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        query = self.split(self.query(x))
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        flat: Tensor = self.out(mixed.transpose(1, 2).reshape(x.shape))
        return flat


def _mlp(config: CaptionerConfig) -> nn.Sequential:
    hidden = config.width * config.mlp_ratio
    return nn.Sequential(
        nn.Linear(config.width, hidden),
        nn.GELU(),
        nn.Linear(hidden, config.width),
        nn.Dropout(config.dropout),
    )


class EncoderLayer(nn.Module):
    """Pre-norm transformer layer over the image tokens."""

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attention, self.mlp = Attention(config), _mlp(config)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = x + self.attention(normed, *self.attention.keys_values(normed))
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


class DecoderLayer(nn.Module):
    """Pre-norm layer: causal self-attention, cross-attention, MLP."""

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width)
        self.norm2 = nn.LayerNorm(config.width)
        self.norm3 = nn.LayerNorm(config.width)
        self.own, self.cross, self.mlp = Attention(config), Attention(config), _mlp(config)

    def forward(
        self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor, cross: tuple[Tensor, Tensor]
    ) -> Tensor:
        """`key`, `value` and `mask` are those of the self-attention, cache included."""
        x = x + self.own(self.norm1(x), key, value, mask)
        x = x + self.cross(self.norm2(x), *cross)
        result: Tensor = x + self.mlp(self.norm3(x))
        return result


class Captioner(nn.Module):
    """The whole model; `encode` and `decode` are the two halves that export turns into graphs."""

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = SecondOrderStem(config)
        self.places = nn.Parameter(0.02 * torch.randn(1, config.grid**2, config.width))
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.encoder_norm = nn.LayerNorm(config.width)
        self.attend = nn.Linear(config.width, config.heads)
        self.draft_head = nn.Linear(config.width, len(ATTRIBUTES) * len(LEVELS))
        self.physics_head = nn.Linear(config.width, config.physics) if config.physics else None
        self.maps_head = nn.Linear(config.width, config.maps) if config.maps else None
        self.words = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Embedding(config.max_length, config.width)
        nn.init.normal_(self.words.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocab_size)

    def features(self, statistics: Statistics, kept: Tensor | None = None) -> Tensor:
        """The stem's statistics -> image tokens (B, S, width).

        With `kept`, (B, S) indices, only those tokens: training leaves some out, for a score must
        not hang on one place.
        """
        x = self.dropout(self.stem(*statistics) + self.places)
        if kept is not None:
            x = x.gather(1, kept[..., None].expand(-1, -1, x.shape[2]))
        for layer in self.encoder:
            x = layer(x)
        normed: Tensor = self.encoder_norm(x)
        return normed

    def pooled(self, features: Tensor) -> Tensor:
        """Image tokens (B, S, width) -> (B, width): every head averages where it looks."""
        weights = self.attend(features).softmax(1)
        split = features.unflatten(-1, (self.config.heads, -1))
        return (split * weights[..., None]).sum(1).flatten(1)

    def encode(self, pixels: Tensor) -> Cross:
        """Pixels (B, C, size, size) -> cross-attention keys and values of every decoder layer."""
        return self.cross(self.features(self.stem.statistics(pixels)))

    def guess(self, features: Tensor) -> Tensor:
        """Image tokens (B, S, width) -> logits of each attribute's level, (B, A, K)."""
        logits: Tensor = self.draft_head(self.pooled(features))
        return logits.unflatten(-1, (len(ATTRIBUTES), len(LEVELS)))

    def cross(self, features: Tensor) -> Cross:
        """Image tokens (B, S, width) -> cross-attention keys and values of every layer."""
        return [layer.cross.keys_values(features) for layer in self._decoder_layers()]

    def matrices(self) -> list[nn.Parameter]:
        """Weights between hidden layers, of encoder and decoder; no embedding, no head."""
        layers = (self.stem.mlp, self.stem.merge, self.encoder, self.decoder)
        return [p for layer in layers for p in layer.parameters() if p.ndim == 2]

    def text_half(self) -> tuple[nn.Module, ...]:
        """All that `decode` uses; the cross-attention's keys and values, too."""
        return self.words, self.positions, self.decoder, self.decoder_norm, self.head

    def _decoder_layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.decoder if isinstance(layer, DecoderLayer)]

    def decode(self, tokens: Tensor, cross: Cross) -> Tensor:
        """Teacher-forced: tokens (B, T) -> logits (B, T, vocabulary) for each next token."""
        length = tokens.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
        x = self.words(tokens) + self.positions.weight[:length]
        for layer, pair in zip(self._decoder_layers(), cross, strict=True):
            key, value = layer.own.keys_values(layer.norm1(x))
            x = layer(x, key, value, mask, pair)
        logits: Tensor = self.head(self.decoder_norm(x))
        return logits

    @torch.no_grad()
    def generate(self, pixels: Tensor, prompt: list[int], end: int) -> list[list[int]]:
        """Greedy captions without any cache: slow and plain, the oracle of the parity check.

        Returns the generated ids of each slice, `end` included where it was reached.
        """
        self.eval()
        cross = self.encode(pixels)
        tokens = torch.tensor([prompt] * len(pixels))
        while tokens.shape[1] < self.config.max_length:
            following = self.decode(tokens, cross)[:, -1].argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, following], 1)
            if bool((tokens[:, len(prompt) :] == end).any(1).all()):
                break
        rows = [row[len(prompt) :].tolist() for row in tokens]
        return [row[: row.index(end) + 1] if end in row else row for row in rows]

    def save(self, folder: Path) -> None:
        """`config.json` and `model.safetensors`, each replaced atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        with written_whole(folder / "model.safetensors") as part:
            save_file(tensors, part)
        with written_whole(folder / "config.json") as part:
            part.write_text(json.dumps(asdict(self.config), indent=1))

    @classmethod
    def load(cls, folder: Path) -> Captioner:
        """Read what `save` wrote, in evaluation mode."""
        raw = json.loads((folder / "config.json").read_text())
        model = cls(CaptionerConfig(**{**raw, "level_ids": tuple(raw["level_ids"])}))
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model.eval()
