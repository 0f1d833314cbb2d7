"""Train alike on one device and on two, and save what becomes of the variables.

A helper of `test_step`, which runs it in a process of its own: a processor can be split
into two devices only before TensorFlow starts. Its argument is the file to write.
"""

import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from emdn.data.corpus import DataConfig
from emdn.networks.dncnn import DnCNNConfig
from emdn.networks.unet import UNetConfig
from emdn.training.recipe import Phase, TrainingConfig
from emdn.training.step import Trainer

CONFIG = TrainingConfig(
    DataConfig(Path("nowhere"), crop=16),
    model=DnCNNConfig(depth=4, features=4, batch_norm_decay=0.5),
    schedule=(Phase(10, 1e-2),),
    batch=8,
    optimizer="nesterov",  # whose steps are in proportion to the gradients
    l2=1e-3,
)


def batch(seed, size=CONFIG.batch):
    """Return noisy and clean images, (size, 16, 16, 1) in [0, 1], and gains, (size,)."""
    rng = np.random.default_rng(seed)
    noisy, clean = rng.uniform(size=(2, size, 16, 16, 1)).astype("f4")
    return noisy, clean, (1 / rng.uniform(20, 500, size)).astype("f4")


def parts_of(images, number):
    """Return an iterator over parts of a batch."""
    return zip(*(map(tf.constant, np.split(each, number)) for each in images), strict=True)


def scatter_norms(trainer):
    """Give normalisations statistics and gains that are not the identity."""
    rng = np.random.default_rng(1)
    for layer in trainer.model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights([rng.uniform(0.5, 1.5, shape) for _ in range(4)])


def run(config, batches, strategy=None):
    """Return all variables after a step for each batch, scores and averages."""
    trainer = Trainer(config, strategy)
    scatter_norms(trainer)
    for number, images in enumerate(batches):
        scores = trainer.step(parts_of(images, config.accumulation), number)
    averages = {
        f"average/{number:04}": np.array(each)
        for number, each in enumerate(trainer.average().trainable_variables)
    }
    return {**trainer.state(), **averages, "scores": np.array(scores)}


def main(path):
    """Run each case on one device and on two."""
    processor = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(processor, halves)
    two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    images, later = batch(0), batch(1)
    frozen = replace(CONFIG, freeze_batch_norm=0)
    aware = replace(
        frozen,
        model=UNetConfig(features=(4, 6), blocks=(1, 1)),
        averaging=0.5,
        dose_exponent=0.5,
    )
    half = replace(CONFIG, batch=CONFIG.batch // 2)
    results = {
        "frozen on one": run(frozen, [images, later]),
        "frozen on two": run(frozen, [images, later], two),
        "in parts on two": run(replace(frozen, accumulation=2), [images, later], two),
        "aware on one": run(aware, [images, later]),
        "aware on two": run(aware, [images, later], two),
        "aware in parts on two": run(replace(aware, accumulation=2), [images, later], two),
        "first half": run(half, [[each[:4] for each in images]]),
        "second half": run(half, [[each[4:] for each in images]]),
        "trained on one": run(CONFIG, [images]),
        "trained on two": run(CONFIG, [images], two),
    }
    try:
        Trainer(replace(CONFIG, batch=9, accumulation=3), two)
        refusal = ""
    except ValueError as error:
        refusal = str(error)
    arrays = {
        f"{case}/{name}": array
        for case, variables in results.items()
        for name, array in variables.items()
    }
    np.savez(path, refusal=refusal, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
