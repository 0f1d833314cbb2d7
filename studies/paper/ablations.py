"""Repeat the experiments of the paper's section 5 at a small budget, with several seeds.

    python studies/paper/ablations.py --seed 0        # and 1, and 2, one beside another
    python studies/paper/ablations.py --table

The network is the paper's graph at the width of `TINY`, the micrographs are formulas and
the dose is low, so that the results need not hold for the paper's network. Each variant
differs from the base in one thing. A row is added to the results after each training, so an
interrupted script goes on where it was. The table gives medians over seeds, and the range.
"""

import argparse
import csv
import os
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Operations are too small to share, and several seeds run beside one another.
os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}

import keras
import numpy as np

from emdn.benchmark.rows import RESULTS
from emdn.data.corpus import DataConfig
from emdn.io import write_micrograph
from emdn.networks.dncnn import DnCNNConfig
from emdn.networks.ede2019 import TINY
from emdn.specimens.micrographs import micrograph
from emdn.training.log import read_log
from emdn.training.recipe import Phase, TrainingConfig
from emdn.training.run import train

SCORES = RESULTS / "ablations.csv"
COLUMNS = ("variant", "seed", "steps", "seconds", "val_mse", "val_ssim", "tensorflow")
STEPS = 900
"""Steps of each training, of 8 crops of 32 x 32 pixels; they take a core some minutes."""

MICROGRAPHS = 200
SIDE = 96
"""Side of a micrograph, in pixels."""

SEED = 2018
"""Seed of the micrographs; that of a training is an argument."""

NETWORK = replace(TINY, batch_norm="twice", batch_norm_decay=0.95, output="relu6")
"""The paper's graph, with ReLU6 on its output. At the paper's decay of 0.999 the moving
statistics would lag behind so short a training."""


def base(folder: Path) -> TrainingConfig:
    """Return the recipe that the variants change: the paper's, but for its size.

    Batch normalisations freeze earlier, since batches are small: on feature maps of 2 x 2
    pixels their statistics are so uncertain that little is learnt before.
    """
    return TrainingConfig(
        DataConfig(folder, crop=32, fractions=(0.8, 0.2, 0.0)),
        model=NETWORK,
        schedule=(Phase(STEPS * 2 // 3, 2e-3), Phase(STEPS - STEPS * 2 // 3, 5e-4)),
        batch=8,
        beta_1=0.5,
        l2=5e-5,
        freeze_batch_norm=STEPS // 3,
        validate_every=STEPS,
        validation_pairs=MICROGRAPHS // 5,
        log_every=STEPS,
        checkpoint_every=STEPS,
        examples_every=STEPS,
    )


def variants(recipe: TrainingConfig) -> dict[str, TrainingConfig]:
    """Return the base and the recipes that differ from it in one thing, by name."""
    shallow = DnCNNConfig(depth=6, features=16, batch_norm_decay=0.95)
    return {
        "base": recipe,
        "beta1 0.2": replace(recipe, beta_1=0.2),
        "beta1 0.9": replace(recipe, beta_1=0.9),
        "ReLU": replace(recipe, model=replace(NETWORK, activation="relu")),
        "batch renormalisation": replace(recipe, model=replace(NETWORK, batch_renorm=True)),
        "SSIM loss x 1": replace(recipe, ssim_weight=1.0),
        "SSIM loss x 2.5": replace(recipe, ssim_weight=2.5),
        "clipping in the loss": replace(recipe, clip=True),
        "RMSProp": replace(recipe, optimizer="rmsprop"),
        "Nesterov": replace(recipe, optimizer="nesterov"),
        "bilinear upsampling": replace(
            recipe, model=replace(NETWORK, upsampling="bilinear")
        ),
        "frozen at 2/3, as the paper": replace(recipe, freeze_batch_norm=STEPS * 2 // 3),
        "never frozen": replace(recipe, freeze_batch_norm=None),
        "linear output": replace(recipe, model=replace(NETWORK, output="linear")),
        "shallow": replace(recipe, model=shallow),
    }


def draw_micrographs(folder: Path) -> None:
    """Write the micrographs to train and validate on, each a source of its own."""
    rng = np.random.default_rng(SEED)
    for number in range(MICROGRAPHS):
        write_micrograph(folder / f"{number:03}.npy", micrograph((SIDE, SIDE), rng))


def done() -> list[dict[str, str]]:
    """Return the rows of the results."""
    if not SCORES.is_file():
        return []
    with SCORES.open(newline="") as file:
        return list(csv.DictReader(file))


def run(name: str, recipe: TrainingConfig, folder: Path) -> None:
    """Train once and add a row to the results."""
    keras.backend.clear_session()
    if train(recipe, folder) is None:
        raise SystemExit("interrupted; the same command goes on")
    last = read_log(folder / "log.csv")[-1]
    row = {"variant": name, "seed": recipe.seed, "steps": recipe.steps}
    row |= {"seconds": round(last["seconds"], 1), "tensorflow": version("tensorflow")}
    row |= {score: f"{last[score]:.6g}" for score in ("val_mse", "val_ssim")}
    new = not SCORES.is_file()
    with SCORES.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(row, flush=True)


def table(rows: Iterable[dict[str, str]]) -> str:
    """Return medians and ranges over seeds as a Markdown table."""
    lines = [
        "| variant | seeds | val MSE x 1e-3 (range) | val SSIM (range) |",
        "|---|---|---|---|",
    ]
    rows = list(rows)
    for name in dict.fromkeys(row["variant"] for row in rows):
        chosen = [row for row in rows if row["variant"] == name]
        cells = []
        for score, factor in (("val_mse", 1e3), ("val_ssim", 1.0)):
            values = factor * np.array([float(row[score]) for row in chosen])
            spread = f"{values.min():.3f} to {values.max():.3f}"
            cells.append(f"{np.median(values):.3f} ({spread})")
        lines.append(f"| {name} | {len(chosen)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train the variants that are not in the results yet, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, help="train all variants with this seed")
    parser.add_argument("--table", action="store_true", help="print the table")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        known = {row["variant"] for row in done() if int(row["seed"]) == arguments.seed}
        with tempfile.TemporaryDirectory() as scratch:
            micrographs = Path(scratch) / "micrographs"
            micrographs.mkdir()
            draw_micrographs(micrographs)
            for name, recipe in variants(base(micrographs)).items():
                if name not in known:
                    seeded = replace(recipe, seed=arguments.seed)
                    run(name, seeded, Path(scratch) / name)
    if arguments.table:
        print(table(done()))


if __name__ == "__main__":
    main()
