"""The simulated scanner: parallel-beam projection and filtered back-projection of one slice.

Parallel geometry keeps the texture of CT noise and streaks; astra-toolbox does the work.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import astra
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

VIEWS = 240
WATER_PER_MM = 0.0193
"""Linear attenuation of water at 70 keV in 1/mm (NIST XCOM)."""


class Scanner:
    """Projects slices of one size and reconstructs sinograms.

    Args:
        size: side of the square slice in pixels.
        spacing: pixel spacing in mm.
    """

    def __init__(self, size: int, spacing: float) -> None:
        self.size = size
        self.per_hu = WATER_PER_MM * spacing / 1000.0
        self.detectors = int(np.ceil(size * np.sqrt(2.0)))
        self.angles = np.linspace(0.0, np.pi, VIEWS, endpoint=False)
        self._volume = astra.create_vol_geom(size, size)

    def _projector(self, angles: NDArray[np.float64]) -> Any:
        geometry = astra.create_proj_geom("parallel", 1.0, self.detectors, angles)
        return astra.create_projector("linear", geometry, self._volume)

    @cached_property
    def _full(self) -> Any:
        return self._projector(self.angles)

    def project(self, hu: Array) -> Array:
        """Line integrals of a slice: (size, size) HU -> (VIEWS, detectors), dimensionless."""
        attenuation = np.maximum(hu + 1000.0, 0.0) * self.per_hu
        sinogram_id, sinogram = astra.create_sino(attenuation, self._full)
        astra.data2d.delete(sinogram_id)
        return np.asarray(sinogram, np.float32)

    def reconstruct(self, sinogram: Array, views: slice | NDArray[np.intp] | None = None) -> Array:
        """Filtered back-projection (Ram-Lak) to HU differences: zero sinogram gives zero.

        Args:
            sinogram: (VIEWS, detectors).
            views: which views to use; all by default. The rest count as never measured.
        """
        angles = self.angles if views is None else self.angles[views]
        projector = self._full if views is None else self._projector(angles)
        data = sinogram if views is None else sinogram[views]
        geometry = astra.projector.projection_geometry(projector)
        sinogram_id = astra.data2d.create("-sino", geometry, np.ascontiguousarray(data))
        image_id = astra.data2d.create("-vol", self._volume)
        config = astra.astra_dict("FBP")
        config["ProjectorId"] = projector
        config["ProjectionDataId"] = sinogram_id
        config["ReconstructionDataId"] = image_id
        algorithm = astra.algorithm.create(config)
        astra.algorithm.run(algorithm)
        image = np.asarray(astra.data2d.get(image_id), np.float32) / np.float32(self.per_hu)
        astra.algorithm.delete(algorithm)
        astra.data2d.delete([sinogram_id, image_id])
        if views is not None:
            astra.projector.delete(projector)
        return image
