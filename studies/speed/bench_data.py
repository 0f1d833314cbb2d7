"""How many training pairs a core makes, where its time goes, and whether a device waits.

    python studies/speed/bench_data.py

Pairs are of 512 x 512 pixels, from float TIFFs of 2048 x 2048 as the paper's, downsized by
2, with a cache too small to hold them. The last figure is the share of a training of SMALL
in which the device waits for its next batch; make it on an idle machine.
"""

import cProfile
import os
import pstats
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from emdn.data.corpus import DataConfig, survey
from emdn.data.pipeline import pairs
from emdn.data.sampler import Sampler
from emdn.io import write_micrograph
from emdn.networks.ede2019 import SMALL
from emdn.specimens.micrographs import micrograph
from emdn.training.recipe import Phase, TrainingConfig
from emdn.training.step import Trainer

MICROGRAPHS, SIDE, PAIRS, ROUNDS, STEPS = 12, 2048, 64, 5, 10


def write_micrographs(folder: Path) -> None:
    """Write micrographs of high dose, as the paper's."""
    rng = np.random.default_rng(2018)
    for number in range(MICROGRAPHS):
        image = 3000 + 9000 * micrograph((SIDE, SIDE), rng)
        write_micrograph(folder / f"{number}.tif", image.astype(np.float32))


def pairs_per_second(sampler: Sampler) -> float:
    """Return the median speed of one thread."""
    speeds = []
    for turn in range(ROUNDS):
        begun = time.process_time()
        for number in range(turn * PAIRS, (turn + 1) * PAIRS):
            sampler.pair(number)
        speeds.append(PAIRS / (time.process_time() - begun))
    return float(np.median(speeds))


def waiting_share(sampler: Sampler, config: DataConfig) -> float:
    """Return the share of training steps that passes in waiting for pairs."""
    recipe = TrainingConfig(config, (Phase(STEPS, 1e-3),), SMALL, batch=4)
    trainer, batches = Trainer(recipe), iter(pairs(sampler, 4))
    for step in range(2):  # compiles, and fills the pipeline
        float(trainer.step(batches, step)[0])
    waited, begun = 0.0, time.perf_counter()
    for step in range(STEPS):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        float(trainer.step(iter([batch]), step)[0])
    return waited / (time.perf_counter() - begun)


def main() -> None:
    """Print the three figures."""
    with tempfile.TemporaryDirectory() as scratch:
        write_micrographs(Path(scratch))
        config = DataConfig(Path(scratch), downsizing=2, cache=0.02)
        records = survey(config)
        for dose_range in ("low", "ordinary"):
            sampler = Sampler(records, replace(config, dose_range=dose_range))
            print(
                f"{dose_range}: {pairs_per_second(sampler):.0f} pairs a second on one core"
            )
        profile = cProfile.Profile()
        profile.runcall(lambda: [sampler.pair(number) for number in range(PAIRS)])
        pstats.Stats(profile).sort_stats("tottime").print_stats(8)
        print(
            f"waiting for pairs: {waiting_share(sampler, config):.1%} of a training's time"
        )


if __name__ == "__main__":
    main()
