"""Repeat the learning curves of the paper's Figs. 9 and 10 at a small budget.

    python studies/paper/learning_curves.py --seed 0

Network, micrographs and dose are those of `ablations.py` beside this script, so that the
results need not hold for the paper's network. Fig. 9 compares trainings with batches of 2,
whose outputs are clipped in the loss as the paper's were; Fig. 10 those with batches of 10.
Rows are added to the results after each training, so an interrupted script goes on with the
next one.
"""

import argparse
import csv
import tempfile
from dataclasses import replace
from pathlib import Path

import keras
from ablations import base, draw_micrographs, variants

from emdn.benchmark.rows import RESULTS
from emdn.training.log import read_log
from emdn.training.recipe import TrainingConfig
from emdn.training.run import train

CURVES = RESULTS / "learning_curves.csv"
COLUMNS = ("figure", "variant", "seed", "step", "mse")
EVERY = 20
"""Steps that a row is the mean of."""


def experiments(folder: Path) -> dict[tuple[int, str], TrainingConfig]:
    """Return the recipes by the figure that shows them and their names in its legend."""
    two = replace(base(folder), batch=2, clip=True, log_every=EVERY)
    ten = replace(base(folder), batch=10, log_every=EVERY)
    of_two, of_ten = variants(two), variants(ten)
    return {
        (9, "β₁ = 0.5"): of_two["base"],
        (9, "β₁ = 0.2"): of_two["beta1 0.2"],
        (9, "β₁ = 0.9"): of_two["beta1 0.9"],
        (9, "ReLU"): of_two["ReLU"],
        (9, "batch renormalization"): of_two["batch renormalisation"],
        (10, "no clipping"): of_ten["base"],
        (10, "clipping"): of_ten["clipping in the loss"],
        (10, "1 - SSIM added"): of_ten["SSIM loss x 1"],
        (10, "2.5 (1 - SSIM) added"): of_ten["SSIM loss x 2.5"],
        (10, "RMSProp"): of_ten["RMSProp"],
    }


def done() -> set[tuple[int, str, int]]:
    """Return figure, name and seed of the trainings in the results."""
    if not CURVES.is_file():
        return set()
    with CURVES.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return {(int(row["figure"]), row["variant"], int(row["seed"])) for row in rows}


def run(figure: int, name: str, recipe: TrainingConfig, folder: Path) -> None:
    """Train once and add the rows of its log to the results."""
    keras.backend.clear_session()
    if train(recipe, folder) is None:
        raise SystemExit("interrupted; the same command goes on")
    new = not CURVES.is_file()
    with CURVES.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        for row in read_log(folder / "log.csv"):
            step, error = int(row["step"]), f"{row['mse']:.5g}"
            writer.writerow([figure, name, recipe.seed, step, error])
    print(figure, name, recipe.seed, error, flush=True)


def main() -> None:
    """Train what is not in the results yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="of all trainings")
    seed = parser.parse_args().seed
    with tempfile.TemporaryDirectory() as scratch:
        micrographs = Path(scratch) / "micrographs"
        micrographs.mkdir()
        draw_micrographs(micrographs)
        for (figure, name), recipe in experiments(micrographs).items():
            if (figure, name, seed) not in done():
                run(figure, name, replace(recipe, seed=seed), Path(scratch) / "runs" / name)


if __name__ == "__main__":
    main()
