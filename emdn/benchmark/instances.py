"""Instances of noise: number n is a function of the seed and of n alone."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emdn.benchmark.filters import STRENGTHS
from emdn.benchmark.method import PaperDose
from emdn.io import read_micrograph
from emdn.noise import noisy_pair, sample_scale


@dataclass(frozen=True)
class BenchmarkConfig:
    """Which instances to score.

    Parameters
    ----------
    folder : Path
        Holds a ``manifest.csv`` with columns file, split and source, and maybe modality.
    split : {"train", "val", "test"}
        Which of its micrographs to use.
    instances : int
        Per dose range; the paper's are 20,000. Micrographs take turns.
    crop : int
        Largest side of a crop, in pixels; smaller micrographs are taken whole.
    dose_ranges : tuple of str
        Of "low" and "ordinary", the paper's.
    seed : int
        Of crops, scales and noise.
    """

    folder: Path
    split: Literal["train", "val", "test"] = "test"
    instances: int = 20_000
    crop: int = 512
    dose_ranges: tuple[PaperDose, ...] = ("low", "ordinary")
    seed: int = 2018

    def __post_init__(self) -> None:
        if self.instances < 1:
            raise ValueError(f"instances must be at least 1, got {self.instances}")
        if self.crop < 16:
            raise ValueError(f"crop must be at least 16 pixels, got {self.crop}")
        unknown = [name for name in self.dose_ranges if name not in STRENGTHS]
        if unknown or not self.dose_ranges:
            raise ValueError(
                f"dose_ranges must be of {', '.join(STRENGTHS)}, got {self.dose_ranges}"
            )


class Instance(NamedTuple):
    """A noisy and a clean crop of a micrograph, and where they come from."""

    noisy: NDArray[np.float32]
    clean: NDArray[np.float32]
    gain: float
    scale: float
    facts: Mapping[str, str]


def make_instance(config: BenchmarkConfig, dose_range: PaperDose, number: int) -> Instance:
    """Return the instance of a number, always the same."""
    images = micrographs(config.folder, config.split)
    facts, image = images[number % len(images)]
    rng = np.random.default_rng(
        [config.seed, ("low", "ordinary").index(dose_range), number]
    )
    sides = [min(config.crop, length) for length in image.shape]
    y, x = (
        int(rng.integers(length - side + 1))
        for length, side in zip(image.shape, sides, strict=True)
    )
    scale = sample_scale(dose_range, rng)
    crop = image[y : y + sides[0], x : x + sides[1]]
    return Instance(*noisy_pair(crop, scale, rng), scale, facts)


@cache
def micrographs(folder: Path, split: str) -> list[tuple[dict[str, str], NDArray]]:
    """Return rows of the manifest and images of a split, read once in a process."""
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        raise ValueError(
            f"{manifest}: does not exist; emdn.data.corpus.write_manifest makes one"
        )
    with manifest.open(newline="") as file:
        facts = [row for row in csv.DictReader(file) if row["split"] == split]
    if not facts:
        raise ValueError(f"{manifest}: names no micrograph of the split {split!r}")
    return [(row, read_micrograph(folder / row["file"])[0]) for row in facts]
