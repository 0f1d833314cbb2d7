"""What a training would do, and what it takes on this machine."""

import math
import time
from collections.abc import Sequence

import tensorflow as tf

from emdn.data.corpus import Record, describe
from emdn.networks.inference import count_macs, output_shapes
from emdn.training.recipe import Phase, TrainingConfig
from emdn.training.step import Trainer


def plan(config: TrainingConfig, records: Sequence[Record]) -> list[str]:
    """Say what a training would do, and estimate what it takes on this machine.

    The memory is that of the results of all layers, which a gradient needs, of one part
    of a batch on one replica, and of weights, gradients, moments and, where wanted,
    averages. The time is that of one pair of at most 128 x 128 pixels, in proportion to its
    pixels.

    Parameters
    ----------
    config : TrainingConfig
        How to train.
    records : sequence of Record
        What `emdn.data.corpus.survey` found.

    Returns
    -------
    list of str
        Lines to print.
    """
    trainer = Trainer(config)
    replicas = trainer.strategy.num_replicas_in_sync
    parameters = sum(math.prod(each.shape) for each in trainer.model.trainable_variables)
    crop = config.data.crop
    shapes = output_shapes(trainer.model, trainer.model.layers, (crop, crop))
    pairs_at_once = config.batch // config.accumulation // replicas
    copies = 6 if config.averaging else 4
    values = pairs_at_once * sum(math.prod(shape) for shape in shapes) + copies * parameters
    seconds = _seconds_per_pair(trainer) * config.batch / replicas
    phases = ", ".join(map(_phase_in_words, config.schedule))
    work = count_macs(trainer.model, (crop, crop)) / 1e9
    parts = f"{config.accumulation} parts on {replicas} replicas"
    hours = seconds * config.steps / 3600
    return [
        *describe(records),
        f"network: {parameters:,} parameters, {work:.3g} GMAC a crop of {crop} x {crop}",
        f"steps: {config.steps:,} ({phases})",
        f"batch: {config.batch} pairs, as {parts}",
        f"memory: about {4 * values / 1e9:.2g} GB on each replica",
        f"time: about {seconds:.2g} s a step, {hours:.3g} h in all",
    ]


def _phase_in_words(phase: Phase) -> str:
    end = "" if phase.end is None else f" to {phase.end:g}"
    return f"{phase.steps:,} at {phase.rate:g}{end}"


def _seconds_per_pair(trainer: Trainer) -> float:
    """Measure one pair's gradients on one replica."""
    crop = trainer.config.data.crop
    side = min(crop, 128)
    images, gain = tf.zeros((1, side, side, 1)), tf.ones(1)
    gradients = tf.function(
        lambda: trainer.gradients(images, images, gain, training=True)[0],
        autograph=False,
    )
    gradients()  # compiles
    begun = time.perf_counter()
    gradients()
    return (time.perf_counter() - begun) * (crop / side) ** 2
