r"""Gather the validation scores of trainings in one table, and draw them against the time.

    python studies/weights/curves.py runs/any-dose runs/any-dose-2 runs/any-dose-3 \
        runs/blind-low runs/blind-ordinary runs/compact \
        -o emdn/benchmark/results/trainings.csv
    python studies/weights/curves.py runs/equal_time/* \
        -o emdn/benchmark/results/equal_time.csv

The picture lies beside the table. Errors of trainings for different doses do not compare.
"""

import argparse
import csv
import math
from pathlib import Path

import matplotlib.pyplot as plt

from emdn.training.log import read_log

SCORES = ("val_mse", "val_ssim")
COLUMNS = ("run", "step", "seconds", *SCORES)


def validations(run: Path) -> list[dict[str, float]]:
    """Return the rows of a run's log that have scores."""
    return [row for row in read_log(run / "log.csv") if not math.isnan(row["val_mse"])]


def write_table(runs: list[Path], path: Path) -> None:
    """Write a row a validation, with five digits."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for run in runs:
            for row in validations(run):
                scores = [f"{row[name]:.5g}" for name in SCORES]
                writer.writerow([run.name, int(row["step"]), int(row["seconds"]), *scores])


def draw(runs: list[Path], path: Path) -> None:
    """Draw errors and similarities over minutes."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for run in runs:
        rows = validations(run)
        minutes = [row["seconds"] / 60 for row in rows]
        for panel, name in zip(axes, SCORES, strict=True):
            panel.plot(minutes, [row[name] for row in rows], label=run.name)
    axes[0].set(xlabel="minutes", ylabel="validation MSE", yscale="log")
    axes[1].set(xlabel="minutes", ylabel="validation SSIM")
    axes[1].legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Write the table and the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="folders of trainings")
    parser.add_argument("-o", "--output", type=Path, required=True, help="CSV file")
    arguments = parser.parse_args()
    write_table(arguments.runs, arguments.output)
    draw(arguments.runs, arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
