"""Tune the strengths of `emdn.baselines` on the validation split, for each dose range.

    python benchmarks/tune_baselines.py CORPUS

Each strength is the one of a grid with the least mean MSE, results clipped to [0, 1], over
an instance of each validation image. Prints what `emdn.baselines.STRENGTHS` holds,
and says where the best lies at an end of its grid.
"""

import argparse
from pathlib import Path

import numpy as np

from emdn.baselines import STABILISED, TOLD, tuned_methods
from emdn.benchmark import BenchmarkConfig, Instance, make_instance
from emdn.metrics import mse

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


def mean_error(name: str, strength: float, instances: list[Instance]) -> float:
    """Return the mean MSE of a method with a strength."""
    method = tuned_methods(dict.fromkeys([*TOLD, *STABILISED], strength))[name]
    errors = [
        mse(each.clean, np.clip(method(each.noisy, each.counts), 0, 1))
        for each in instances
    ]
    return float(np.mean(errors))


def main() -> None:
    """Print the best strengths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--instances", type=int, default=14)
    arguments = parser.parse_args()
    config = BenchmarkConfig(arguments.corpus, "val", arguments.instances, crop=256)
    for dose_range in config.dose_ranges:
        instances = [make_instance(config, dose_range, n) for n in range(config.instances)]
        for name, grid in GRIDS.items():
            errors = [mean_error(name, strength, instances) for strength in grid]
            best = int(np.argmin(errors))
            at_end = "  at an end of its grid" if best in (0, len(grid) - 1) else ""
            print(
                f"{dose_range} {name!r}: {grid[best]},  {errors[best]:.3e}{at_end}",
                flush=True,
            )


if __name__ == "__main__":
    main()
