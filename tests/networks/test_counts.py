"""Gain-aware networks see counts, whatever a pixel of 1 stands for, less their noise."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.graphs import fill, settle, trainable
from keras import layers

from emdn.networks import build
from emdn.networks.counts import build_on_counts
from emdn.networks.ede2019 import COMPACT, SMALL, TINY
from emdn.networks.layers import UNIT
from emdn.networks.unet import UNetConfig

UNET = UNetConfig((4, 6), (1, 1))
GRAPHS = {"paper's": replace(TINY, stabilised=True), "U-Net": UNET}


@pytest.fixture(params=GRAPHS.values(), ids=GRAPHS)
def model(request, rng):
    """Return a network of random weights, its last kernel too, as after training."""
    model = settle(build(request.param), rng)
    last = [each for each in model.layers if isinstance(each, layers.Conv2D)][-1]
    last.kernel.assign(rng.normal(0, 0.1, last.kernel.shape))
    return model


def outputs(model, images, counts):
    return np.asarray(model([np.float32(images), np.float32(counts)]))


def test_a_gain_aware_network_takes_the_counts_too(model):
    assert [each.shape for each in model.inputs] == [(None, None, None, 1), (None,)]
    assert [each.name for each in model.inputs] == ["noisy", "counts"]


def test_an_output_depends_on_the_counts_of_its_image_alone(model, rng):
    images = rng.uniform(size=(2, 16, 16, 1))
    few, more = (outputs(model, images, (number, 100)) for number in (30, 60))
    assert np.abs(few[0] - more[0]).max() > 1e-3
    np.testing.assert_allclose(few[1], more[1], atol=1e-6)


def test_half_of_the_image_at_double_of_the_counts_is_the_same(model, rng):
    images, counts = rng.uniform(size=(2, 16, 16, 1)), np.array([50, 400])
    whole, half = (outputs(model, images / n, counts * n) for n in (1, 2))
    np.testing.assert_allclose(2 * half, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("counts", [0.5, 30.0, 3000.0])
def test_what_is_predicted_is_the_noise_of_stabilised_counts(counts, rng):
    """There, 1 / UNIT is a deviation of the noise; the transform is Anscombe's."""
    model = build_on_counts(layers.Conv2D(1, 1))
    images = rng.uniform(size=(1, 16, 16, 1))
    fill(model, layers.Conv2D, 0)
    unchanged = outputs(model, images, [counts])
    np.testing.assert_allclose(unchanged, images, rtol=1e-4, atol=1e-5 / counts)
    model.layers[-3].bias.assign([-1 / UNIT])
    lifted = outputs(model, images, [counts])
    root = 2 * np.sqrt(images * counts + 3 / 8) + 1
    expected = ((root / 2) ** 2 - 3 / 8) / counts
    np.testing.assert_allclose(lifted, expected, rtol=1e-4, atol=1e-5 / counts)


def test_the_compact_network_has_the_parameters_of_the_small_one():
    assert trainable(build(COMPACT)) == trainable(build(SMALL))
