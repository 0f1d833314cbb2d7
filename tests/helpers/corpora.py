"""Small folders of micrographs, and samplers of them."""

import math
from dataclasses import replace

import numpy as np

from emdn.data.corpus import DataConfig, survey
from emdn.data.sampler import Sampler
from emdn.io import write_micrograph

ALL_TRAIN = (1.0, 0.0, 0.0)


def counts(seed, shape=(24, 20), mean=1000.0):
    """Return an image that is no constant and like no other's."""
    return np.random.default_rng(seed).poisson(mean, shape).astype(np.float32)


def fill(folder, *names, **options):
    """Write different images under names relative to a folder, and return the folder."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_micrograph(path, counts(number, **options))
    return folder


def config_of(folder, **changes):
    """Return settings for small files, all of them for training."""
    small = DataConfig(folder, crop=16, downsizing=1, fractions=ALL_TRAIN)
    return replace(small, **changes)


def sampler_of(images, folder, *, seed=0, **changes):
    """Write named images and return the sampler of all of them."""
    for name, image in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, image)
    config = config_of(folder, **changes)
    return Sampler(survey(config), config, seed=seed)


def levels(number, shape=(16, 16)):
    """Return an image whose pixels tell which one it is: 10 number to 10 number + 1."""
    return (10 * number + np.linspace(0, 1, math.prod(shape)).reshape(shape)).astype("f4")


def drawn(sampler, numbers):
    """Return which of the `levels` images the crops of some numbers are from."""
    rng = np.random.default_rng(0)
    return [int(sampler.crop(number, rng).min() / 10 + 0.01) for number in numbers]
