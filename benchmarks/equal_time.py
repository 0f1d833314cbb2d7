"""Train the paper's graph and a U-Net for an equal time on one core, for low doses.

    taskset -c 0 python benchmarks/equal_time.py runs/data-2 runs/equal_time --minutes 8

The first folder is that of `benchmarks/gather_training_data.py`. Each network has the
learning rate and the precision of its own recipe, and the same crops; the number of steps
is what the time allows, measured at the beginning. In so short a training a running average
of the weights would lag behind, so there is none. What is finished is not repeated.
`training_logs.py` draws the curves.
"""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}

from emdn.data import DataConfig, Sampler, pairs, survey
from emdn.model import SMALL, UNET
from emdn.recipe import Phase, TrainingConfig
from emdn.trainer import Trainer
from emdn.training import train

STEPS_TO_TIME, VALIDATIONS = 40, 16


def networks(folder: Path) -> dict[str, TrainingConfig]:
    """Return what is trained, by name, each for one step."""
    data = DataConfig(
        folder,
        crop=128,
        downsizing=1,
        source_exponent=0.5,
        crops_per_visit=8,
        scenes=0.35,
        augment=True,
    )
    paper = TrainingConfig(
        data,
        SMALL,
        schedule=(Phase(1, 1e-3),),
        batch=8,
        accumulation=1,
        beta_1=0.9,
        l2=0.0,
        validation_pairs=42,
        checkpoint_every=500,
    )
    unet = replace(
        paper, model=UNET, schedule=(Phase(1, 6e-4),), precision="mixed_bfloat16"
    )
    return {
        "paper-blind": paper,
        "u-net-blind": replace(unet, model=replace(UNET, stabilised=False)),
        "u-net-told": unet,
    }


def seconds_per_step(recipe: TrainingConfig) -> float:
    """Measure some steps of a training and the making of their pairs."""
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
    rate, warm_up = recipe.schedule[0].rate, steps // 40
    return replace(
        recipe,
        schedule=(Phase(warm_up, rate / 100, rate), Phase(steps - warm_up, rate, 1e-6)),
        freeze_batch_norm=steps // 3,
        validate_every=steps // VALIDATIONS,
        log_every=steps // VALIDATIONS,
    )


def main() -> None:
    """Train what is not finished."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of micrographs")
    parser.add_argument("runs", type=Path, help="folder for the trainings")
    parser.add_argument("--minutes", type=float, default=8.0, help="of each training")
    arguments = parser.parse_args()
    for name, recipe in networks(arguments.data).items():
        run = arguments.runs / name
        if (run / "denoiser.keras").is_file():
            continue
        if train(lasting(recipe, arguments.minutes), run) is None:
            raise SystemExit(f"interrupted; remove {run} and start again")


if __name__ == "__main__":
    main()
