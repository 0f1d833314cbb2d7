"""Tune the strengths of `emdn.baselines` on the validation split, for each dose range.

    python benchmarks/tune_baselines.py CORPUS

Each strength is the one of a grid with the least mean MSE, results clipped to [0, 1], over
the middles of all validation images. Prints what `emdn.baselines.STRENGTHS` holds,
and says where the best lies at an end of its grid.
"""

import argparse
from pathlib import Path

import numpy as np
from score import read_crops

from emdn.baselines import STABILISED, TOLD, Image, tuned_methods
from emdn.metrics import mse
from emdn.noise import SCALE_SAMPLERS, NoisyPair, noisy_pair, sample_scale

SIDE, SEED = 256, 2018
GRIDS: dict[str, list[float]] = {
    "Gaussian, told": [1.5, 2, 2.5, 3, 3.5, 4, 5],
    "bilateral, told": [1, 1.5, 2, 2.5, 3, 4, 5],
    "median, told": [3, 5],
    "Wiener, told": [0.7, 1, 1.4, 2, 3, 4, 6],
    "wavelet, told": [0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2],
    "Chambolle TV, told": [0.2, 0.3, 0.4, 0.6, 0.8, 1],
    "Bregman TV, told": [0.6, 0.8, 1, 1.3, 1.7, 2.2, 3],
    "NL means, told": [0.4, 0.5, 0.6, 0.7, 0.8, 1],
    "Chambolle TV, stabilised": [0.2, 0.3, 0.4, 0.6, 0.8, 1],
    "NL means, stabilised": [0.4, 0.5, 0.6, 0.7, 0.8, 1],
    "wavelet, stabilised": [0.8, 0.9, 1, 1.1, 1.2, 1.4],
}


def noisy_pairs(crops: list[Image], dose_range) -> list[NoisyPair]:
    """Return one pair for the middle of each image."""
    pairs = []
    for number, crop in enumerate(crops):
        y, x = ((side - SIDE) // 2 for side in crop.shape)
        rng = np.random.default_rng([SEED, number])
        middle = crop[y : y + SIDE, x : x + SIDE]
        pairs.append(noisy_pair(middle, sample_scale(dose_range, rng), rng))
    return pairs


def mean_error(name: str, strength: float, pairs: list[NoisyPair]) -> float:
    """Return the mean MSE of a method with a strength."""
    method = tuned_methods(dict.fromkeys([*TOLD, *STABILISED], strength))[name]
    return float(
        np.mean(
            [
                mse(clean, np.clip(method(noisy, scaling.scale), 0, 1))
                for noisy, clean, scaling in pairs
            ]
        )
    )


def main() -> None:
    """Print the best strengths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    crops = [crop for _, crop in read_crops(parser.parse_args().corpus, "val")]
    for dose_range in SCALE_SAMPLERS:
        pairs = noisy_pairs(crops, dose_range)
        for name, grid in GRIDS.items():
            errors = [mean_error(name, strength, pairs) for strength in grid]
            best = int(np.argmin(errors))
            at_end = "  at an end of its grid" if best in (0, len(grid) - 1) else ""
            print(
                f"{dose_range} {name!r}: {grid[best]},  {errors[best]:.3e}{at_end}",
                flush=True,
            )


if __name__ == "__main__":
    main()
