"""Train the paper's graph and a U-Net for an equal time on one core, for low doses.

    taskset -c 0 python studies/paper/equal_time.py runs/data-2 runs/equal_time --minutes 7

The first folder is that of `studies/corpus/gather.py`. Each network has the learning rate
and the precision of its own recipe, and all have the same crops. The number of steps is
what the time allows, measured at the beginning. Weights are not averaged over steps, since
in so short a training the average would lag behind. Trainings that are finished are not
repeated. `studies/weights/curves.py` draws the curves.
"""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}

from emdn.data.augment import Augmentation
from emdn.data.corpus import survey
from emdn.data.pipeline import pairs
from emdn.data.sampler import Sampler
from emdn.networks.ede2019 import SMALL
from emdn.networks.unet import UNET
from emdn.training.recipe import Phase, TrainingConfig, read_recipe
from emdn.training.run import train
from emdn.training.step import Trainer

STEPS_TO_TIME = 40
"""Steps that tell the time of one, after as many that compile and warm up."""

VALIDATIONS = 16
"""Points of each curve."""


def networks(folder: Path) -> dict[str, TrainingConfig]:
    """Return the recipes to fit into the time, by name."""
    recipe = read_recipe("any-dose", folder)
    data = replace(recipe.data, dose_range="low", augmentation=Augmentation())
    aware = replace(recipe, data=data, averaging=0.0, dose_exponent=0.0)
    rates = read_recipe("blind-low", folder).schedule
    return {
        "paper-blind": replace(aware, model=SMALL, schedule=rates, precision="float32"),
        "u-net-blind": replace(aware, model=replace(UNET, stabilised=False)),
        "u-net-gain-aware": aware,
    }


def seconds_per_step(recipe: TrainingConfig) -> float:
    """Measure a step of a training and the making of its pairs, in seconds."""
    trainer, sampler = Trainer(recipe), Sampler(survey(recipe.data), recipe.data)
    batches = iter(pairs(sampler, recipe.batch))
    for _ in range(STEPS_TO_TIME):  # compiles, and empties the queue of pairs
        float(trainer.step(batches, 0)[0])
    begun = time.perf_counter()
    for _ in range(STEPS_TO_TIME):
        float(trainer.step(batches, 0)[0])
    return (time.perf_counter() - begun) / STEPS_TO_TIME


def lasting(recipe: TrainingConfig, minutes: float) -> TrainingConfig:
    """Return a recipe for as many steps as fit into the time."""
    steps = int(60 * minutes / seconds_per_step(recipe))
    rate, warm_up = recipe.schedule[-1].rate, steps // 40
    return replace(
        recipe,
        schedule=(Phase(warm_up, rate / 100, rate), Phase(steps - warm_up, rate, 1e-6)),
        freeze_batch_norm=steps // 3,
        validate_every=steps // VALIDATIONS,
        log_every=steps // VALIDATIONS,
    )


def main() -> None:
    """Train the networks whose trainings are not finished."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of micrographs")
    parser.add_argument("runs", type=Path, help="folder for the trainings")
    parser.add_argument("--minutes", type=float, default=7.0, help="time of each training")
    arguments = parser.parse_args()
    for name, recipe in networks(arguments.data).items():
        run = arguments.runs / name
        if (run / "denoiser.keras").is_file():
            continue
        if train(lasting(recipe, arguments.minutes), run) is None:
            raise SystemExit(f"interrupted; remove {run} and start again")


if __name__ == "__main__":
    main()
