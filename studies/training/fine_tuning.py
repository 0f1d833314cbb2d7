"""What fine-tuning on one's own micrographs gains, and what it costs on all others.

    python studies/training/fine_tuning.py runs/fine-tuning

The specimen is one that the shipped weights do badly on: bent lamellae of two phases, as of
a eutectic or of a block copolymer. Eight images of it serve training and validation.
The recipe `fine-tune` gets them clean, `fine-tune-noisy` exposed once, to 60 counts at the
brightest pixel. Both trainings live in RUNS and go on there. Then the shipped network and
both of the new ones denoise images that no training has seen, two of each specimen, with
the gain of 1 told. The error is the mean squared one in squares of counts.

It writes `emdn/benchmark/results/fine_tuning.csv`.
"""

import argparse
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emdn import Denoiser
from emdn.benchmark.rows import RESULTS
from emdn.io import write_micrograph
from emdn.noise import add_shot_noise
from emdn.specimens.fields import Image, smooth
from emdn.specimens.micrographs import film, lattice, membranes, particles
from emdn.training.recipe import read_recipe
from emdn.training.run import train

SIDE = 256  # pixels, of images to train on
TEST_SIDE = 128  # pixels
IMAGES = {"train": 6, "val": 2}
COUNTS = 60.0  # at the brightest pixel, of the noisy images to train on
TESTED = (20.0, 60.0)  # counts at the brightest pixel
TESTS = 2  # images of each specimen and number of counts
NETWORKS = ("shipped", "fine-tune", "fine-tune-noisy")


def lamellae(
    shape: tuple[int, int], rng: np.random.Generator, *, period: float = 10.0
) -> Image:
    """Draw bent lamellae of two phases, a period of pixels apart."""
    y, x = np.indices(shape) / period
    angle = rng.uniform(0, np.pi)
    bent = x * np.cos(angle) + y * np.sin(angle) + 1.5 * smooth(shape, rng, 150)
    return (0.5 + 0.5 * np.tanh(3 * np.sin(2 * np.pi * bent))).astype(np.float32)


SPECIMENS = {
    "lamellae": lamellae,
    "lattice": lattice,
    "membranes": membranes,
    "particles": particles,
    "film": film,
}


def write_images(folder: Path, counts: float | None) -> None:
    """Write the specimen's micrographs, clean or exposed, by split."""
    for split, number in IMAGES.items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        for seed in range(number):
            rng = np.random.default_rng([split == "val", seed])
            image = lamellae((SIDE, SIDE), rng)
            if counts is not None:
                image = add_shot_noise(image, counts, rng)
            write_micrograph(folder / split / f"{seed}.tif", image, overwrite=True)


def trained(recipe: str, runs: Path, counts: float | None, steps: int) -> Path:
    """Train by a recipe for some steps, or go on; return the weights."""
    write_images(runs / f"{recipe}-data", counts)
    config = read_recipe(recipe, runs / f"{recipe}-data")
    warm_up, cool_down = config.schedule
    cool_down = replace(cool_down, steps=steps - warm_up.steps)
    config = replace(config, schedule=(warm_up, cool_down))
    weights = train(config, runs / f"{recipe}-{steps}", progress=True)
    assert weights is not None, "interrupted; call again"
    return weights


def errors(noise_remover: Denoiser, name: str, counts: float) -> list[float]:
    """Return the mean squared errors of images that no training has seen."""

    def error(seed: int) -> float:
        rng = np.random.default_rng([2, seed])
        clean = SPECIMENS[name]((TEST_SIDE, TEST_SIDE), rng)
        noisy: NDArray = add_shot_noise(clean, counts, rng)
        denoised = noise_remover.denoise(noisy, gain=1)
        return float(np.mean((denoised - counts * clean) ** 2))

    return [error(seed) for seed in range(TESTS)]


def network(name: str, runs: Path, steps: int) -> Denoiser:
    """Return the shipped network, or one that is trained by the recipe of a name."""
    if name == "shipped":
        return Denoiser(progress=False)
    counts = COUNTS if name == "fine-tune-noisy" else None
    return Denoiser(trained(name, runs, counts, steps), progress=False)


def main() -> None:
    """Train and score what is wanted; write the table once all are scored."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, help="folder of the trainings")
    parser.add_argument("--steps", type=int, default=200, help="the recipes' 200")
    parser.add_argument("--only", choices=NETWORKS, help="one network of the three")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    for name in [options.only] if options.only else NETWORKS:
        noise_remover = network(name, options.runs, options.steps)
        rows = [
            [
                name,
                specimen,
                counts,
                f"{np.mean(errors(noise_remover, specimen, counts)):.4g}",
            ]
            for specimen in SPECIMENS
            for counts in TESTED
        ]
        with (options.runs / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    parts = [options.runs / f"{name}.csv" for name in NETWORKS]
    if all(part.exists() for part in parts):
        text = "".join(part.read_text() for part in parts)
        (RESULTS / "fine_tuning.csv").write_text("network,specimen,counts,mse\n" + text)


if __name__ == "__main__":
    main()
