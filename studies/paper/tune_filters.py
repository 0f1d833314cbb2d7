"""Tune the filters and peers of `emdn.benchmark` on the validation split, by dose range.

    python studies/paper/tune_filters.py CORPUS
    python studies/paper/tune_filters.py CORPUS --peers    # which must be installed

Each setting is the one of a grid with the least mean MSE, results clipped to [0, 1], over
an instance of each validation image. Writes them to ``emdn/benchmark/settings.json``, and
says where the best lies at an end of its grid.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from emdn.benchmark.instances import BenchmarkConfig, Instance, make_instance
from emdn.benchmark.method import Denoise
from emdn.benchmark.methods import METHODS, PEERS, SETTINGS
from emdn.benchmark.peers import R_EM_NETWORKS
from emdn.files import written_whole
from emdn.metrics import mse

Grid = tuple[str, list[Any]]  # keyword of a method, and its values
GRIDS: dict[str, Grid] = {
    "gaussian-aware": ("strength", [1.5, 2, 2.5, 3, 3.5, 4, 5]),
    "bilateral-aware": ("strength", [1, 1.5, 2, 2.5, 3, 4, 5]),
    "median-tuned": ("side", [3, 5]),
    "wiener-aware": ("strength", [0.7, 1, 1.4, 2, 3, 4, 6]),
    "wavelet-aware": ("strength", [0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2]),
    "chambolle-tv-aware": ("strength", [0.2, 0.3, 0.4, 0.6, 0.8, 1]),
    "bregman-tv-aware": ("strength", [0.6, 0.8, 1, 1.3, 1.7, 2.2, 3]),
    "nl-means-aware": ("strength", [0.4, 0.5, 0.6, 0.7, 0.8, 1]),
    "chambolle-tv-vst": ("strength", [0.2, 0.3, 0.4, 0.6, 0.8, 1]),
    "nl-means-vst": ("strength", [0.4, 0.5, 0.6, 0.7, 0.8, 1]),
    "wavelet-vst": ("strength", [0.8, 0.9, 1, 1.1, 1.2, 1.4]),
    "bm3d-vst": ("strength", [0.9, 1.0, 1.1, 1.2, 1.3]),
    "ffdnet-vst": ("strength", [0.9, 0.95, 1.0, 1.05, 1.1]),
    "r-em": ("network", list(R_EM_NETWORKS)),
}


def mean_error(method: Denoise, instances: list[Instance]) -> float:
    """Return the mean MSE of a method."""
    return float(
        np.mean([mse(i.clean, np.clip(method(i.noisy, i.gain), 0, 1)) for i in instances])
    )


def main() -> None:
    """Write the best settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--instances", type=int, default=14)
    parser.add_argument("--peers", action="store_true", help="tune peers in their place")
    arguments = parser.parse_args()
    of_peers = {method.name for method in PEERS}
    names = [name for name in GRIDS if (name in of_peers) == arguments.peers]
    config = BenchmarkConfig(arguments.corpus, "val", arguments.instances, crop=256)
    settings = json.loads(SETTINGS.read_text())
    for dose_range in config.dose_ranges:
        instances = [make_instance(config, dose_range, n) for n in range(config.instances)]
        for name in names:
            keyword, grid = GRIDS[name]
            trials = [
                replace(METHODS[name], settings={dose_range: {keyword: value}})
                for value in grid
            ]
            errors = [mean_error(trial.at(dose_range), instances) for trial in trials]
            best = int(np.argmin(errors))
            settings.setdefault(name, {})[dose_range] = {keyword: grid[best]}
            ends = keyword == "strength" and best in (0, len(grid) - 1)
            at_end = "  at an end of its grid" if ends else ""
            print(
                f"{dose_range} {name}: {grid[best]},  {errors[best]:.3e}{at_end}",
                flush=True,
            )
    lines = [f' "{name}": {json.dumps(entry)}' for name, entry in settings.items()]
    with written_whole(SETTINGS) as temporary:
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
