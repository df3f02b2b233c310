"""`training.json` of a checkpoint folder: what the manifest says and no weights file can."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engine.bundle.manifest import CalibrationPart, ScoreOrigin
from engine.template import ATTRIBUTES

from .errors import CheckpointError

FILE: Final = "training.json"
_NEUTRAL: Final = {name: CalibrationPart(slope=1.0, intercept=0.0) for name in ATTRIBUTES}


class About(BaseModel):
    """Every key may be left out; unknown ones are the trainer's own business.

    Attributes:
        windows: HU window of each channel, low and high.
        calibration: score = intercept + slope * expected level, of each attribute.
        metrics: agreement with readers, as the trainer measured it.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, strict=True)

    name: Annotated[str, Field(min_length=1)] | None = None
    version: Annotated[str, Field(min_length=1)] = "1"
    licence: str = "not stated"
    data: str = "not stated"
    score_origin: ScoreOrigin = "unknown readers"
    windows: list[tuple[float, float]] | None = None
    calibration: dict[str, CalibrationPart] = _NEUTRAL
    metrics: dict[str, float] = {}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.calibration.keys() != set(ATTRIBUTES):
            raise ValueError(f"calibration must name exactly {', '.join(ATTRIBUTES)}")
        if odd := [window for window in self.windows or () if window[0] >= window[1]]:
            raise ValueError(f"windows {odd}: low must be below high")
        return self


def read(checkpoint: Path) -> About:
    """What the folder's `training.json` says; the defaults if there is none.

    Raises:
        CheckpointError: it is malformed.
    """
    file = checkpoint / FILE
    if not file.is_file():
        return About()
    try:
        return About.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise CheckpointError(f"{file} is malformed: {error}") from error
