"""Score some published rows of the test split again, and compare.

    python studies/paper/rescore.py CORPUS

Instances are drawn at random, each is scored by one method, and its scores must be those of
``emdn/benchmark/results/test.csv.xz`` but for rounding. Methods of other packages are left
out. Prints the largest difference of each score, and fails if one is larger than the limit.
"""

import argparse
from pathlib import Path

import numpy as np

from emdn.benchmark.instances import BenchmarkConfig
from emdn.benchmark.methods import STANDARD
from emdn.benchmark.rows import RESULTS, SCORES, read_about, read_rows
from emdn.benchmark.run import score_instance

LIMIT = 1e-5  # absolute, of scores from 0 to 1
RELATIVE_LIMIT = 1e-4  # rows are published with five digits, rounded by up to 5e-5


def main() -> None:
    """Print the largest differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    path = RESULTS / "test.csv.xz"
    about, rows = read_about(path)["config"], read_rows(path)
    settings = {name: about[name] for name in ("split", "instances", "crop", "seed")}
    config = BenchmarkConfig(arguments.corpus, **settings)
    rng = np.random.default_rng(arguments.seed)
    rows = rows.set_index(["dose_range", "instance", "method"])
    largest = dict.fromkeys(SCORES, 0.0)
    for n in range(arguments.rows):
        method = STANDARD[n % len(STANDARD)]
        dose_range = config.dose_ranges[n // len(STANDARD) % len(config.dose_ranges)]
        number = int(rng.integers(config.instances))
        (row,) = score_instance(config, dose_range, number, [method])
        published = rows.loc[dose_range, number, method.name]
        if row.file != published["file"]:
            raise SystemExit(f"instance {number} is of {row.file}: another corpus")
        differences = {name: abs(getattr(row, name) - published[name]) for name in SCORES}
        shares = [differences[name] / max(published[name], LIMIT) for name in SCORES]
        if max(shares) > RELATIVE_LIMIT:
            raise SystemExit(
                f"{method.name}, {dose_range} {number}: {row} is not as scored"
            )
        print(f"{dose_range:9}{number:5} {method.name:20}", end="")
        print(f"{max(differences.values()):.1e}", flush=True)
        largest = {name: max(largest[name], differences[name]) for name in SCORES}
    print(", ".join(f"{name} {largest[name]:.1e}" for name in SCORES))
    if max(largest.values()) > LIMIT:
        raise SystemExit(f"scores differ by more than {LIMIT}")


if __name__ == "__main__":
    main()
