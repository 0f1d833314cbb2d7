"""Tune the filters and peers of `emdn.benchmark` on the validation split, by dose range.

    python studies/paper/tune_filters.py CORPUS
    python studies/paper/tune_filters.py CORPUS --peers    # which must be installed

Each setting is the one of a grid with the least mean MSE, results clipped to [0, 1], over
an instance of each validation image. Prints what `emdn.benchmark.filters.STRENGTHS` or
`emdn.benchmark.peers.SETTINGS` holds, and says where the best lies at an end of its grid.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from emdn.benchmark.filters import STABILISED, TOLD, tuned_methods
from emdn.benchmark.instances import BenchmarkConfig, Instance, make_instance
from emdn.benchmark.method import Method
from emdn.benchmark.peers import PEERS, R_EM_NETWORKS
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


PEER_GRIDS: dict[str, dict[str, list]] = {
    "BM3D, stabilised": {"strength": [0.9, 1.0, 1.1, 1.2, 1.3]},
    "FFDNet, stabilised": {"strength": [0.9, 0.95, 1.0, 1.05, 1.1]},
    "r_em": {"network": list(R_EM_NETWORKS)},
}


def with_setting(name: str, keyword: str, value: float | str) -> Method:
    """Return a method with one of the settings of its grid."""
    if name in PEER_GRIDS:
        return partial(PEERS[name], **{keyword: value})
    return tuned_methods(dict.fromkeys([*TOLD, *STABILISED], float(value)))[name]


def mean_error(method: Method, instances: list[Instance]) -> float:
    """Return the mean MSE of a method."""
    errors = [
        mse(each.clean, np.clip(method(each.noisy, each.gain), 0, 1)) for each in instances
    ]
    return float(np.mean(errors))


def main() -> None:
    """Print the best settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--instances", type=int, default=14)
    parser.add_argument(
        "--peers", action="store_true", help="tune emdn.benchmark.peers in their place"
    )
    arguments = parser.parse_args()
    grids = {name: {"strength": grid} for name, grid in GRIDS.items()}
    config = BenchmarkConfig(arguments.corpus, "val", arguments.instances, crop=256)
    for dose_range in config.dose_ranges:
        instances = [make_instance(config, dose_range, n) for n in range(config.instances)]
        for name, settings in (PEER_GRIDS if arguments.peers else grids).items():
            ((keyword, grid),) = settings.items()
            errors = [
                mean_error(with_setting(name, keyword, value), instances) for value in grid
            ]
            best = int(np.argmin(errors))
            ends = keyword == "strength" and best in (0, len(grid) - 1)
            at_end = "  at an end of its grid" if ends else ""
            print(
                f"{dose_range} {name!r}: {grid[best]},  {errors[best]:.3e}{at_end}",
                flush=True,
            )


if __name__ == "__main__":
    main()
