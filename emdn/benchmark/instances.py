"""Instances of noise: number n is a function of the seed and of n alone."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from emdn.benchmark.method import PaperDose
from emdn.data.corpus import Entry, Split, read_manifest
from emdn.io import read_micrograph
from emdn.noise import noisy_pair, sample_scale

DOSE_RANGES: tuple[PaperDose, ...] = get_args(PaperDose)


@dataclass(frozen=True)
class BenchmarkConfig:
    """Which instances to score.

    Parameters
    ----------
    folder : Path
        Folder of micrographs with a manifest, see `emdn.data.corpus.read_manifest`.
    split : {"train", "val", "test"}
        Part of the micrographs to use.
    instances : int
        Number of instances of each dose range; the paper's is 20,000. Micrographs take
        turns.
    crop : int
        Largest side of a crop, in pixels; smaller micrographs are taken whole.
    dose_ranges : tuple of str
        Dose ranges, "low" or "ordinary" or both.
    seed : int
        Seed of crops, scales and noise.
    """

    folder: Path
    split: Split = "test"
    instances: int = 20_000
    crop: int = 512
    dose_ranges: tuple[PaperDose, ...] = DOSE_RANGES
    seed: int = 2018

    def __post_init__(self) -> None:
        if self.instances < 1:
            raise ValueError(f"instances must be at least 1, got {self.instances}")
        if self.crop < 16:
            raise ValueError(f"crop must be at least 16 pixels, got {self.crop}")
        if not self.dose_ranges or not {*self.dose_ranges} <= {*DOSE_RANGES}:
            raise ValueError(
                f"dose_ranges must be of {', '.join(DOSE_RANGES)}, got {self.dose_ranges}"
            )


class Instance(NamedTuple):
    """A noisy and a clean crop of a micrograph.

    Parameters
    ----------
    noisy, clean : (H, W) float32 array
        Images in [0, 1], see `emdn.noise.NoisyPair`.
    gain : float
        What one electron adds to a pixel of `noisy`.
    scale : float
        Counts expected at the brightest pixel.
    entry : Entry
        Micrograph that was cropped, as the manifest describes it.
    """

    noisy: NDArray[np.float32]
    clean: NDArray[np.float32]
    gain: float
    scale: float
    entry: Entry

    @property
    def dose(self) -> float:
        """Mean counts per pixel."""
        return float(self.noisy.mean(dtype=np.float64)) / self.gain


def make_instance(config: BenchmarkConfig, dose_range: PaperDose, number: int) -> Instance:
    """Return the instance of a number, always the same."""
    images = micrographs(config.folder, config.split)
    entry, image = images[number % len(images)]
    rng = np.random.default_rng([config.seed, DOSE_RANGES.index(dose_range), number])
    sides = [min(config.crop, length) for length in image.shape]
    y, x = (
        int(rng.integers(length - side + 1))
        for length, side in zip(image.shape, sides, strict=True)
    )
    scale = sample_scale(dose_range, rng)
    crop = image[y : y + sides[0], x : x + sides[1]]
    return Instance(*noisy_pair(crop, scale, rng), scale, entry)


@cache
def micrographs(folder: Path, split: Split) -> list[tuple[Entry, NDArray]]:
    """Return the micrographs of a split, read once in a process.

    Raises
    ------
    ValueError
        If the manifest is of no use, or a micrograph is no single image of finite pixels.
    """
    entries = [entry for entry in read_manifest(folder) if entry.split == split]
    if not entries:
        raise ValueError(
            f"{folder / 'manifest.csv'}: names no micrograph of the split {split!r}"
        )
    return [(entry, _single_image(folder / entry.file)) for entry in entries]


def _single_image(path: Path) -> NDArray:
    image = read_micrograph(path)[0]
    if image.ndim != 2:
        raise ValueError(
            f"{path}: is a stack of {len(image)} images; name a file for each of them"
        )
    if not np.isfinite(image).all():
        raise ValueError(
            f"{path}: has pixels that are NaN or infinite; mend it, or take it from the "
            "manifest"
        )
    return image
