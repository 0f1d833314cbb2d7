"""Folded networks predict the same, operations are counted as by hand, either kind runs."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.graphs import of_kind, predict, settle
from keras import layers

from emdn.networks import build
from emdn.networks.ede2019 import TINY
from emdn.networks.inference import (
    count_macs,
    fold_batch_norms,
    gain_aware,
    output_shapes,
    remove_noise,
)
from emdn.networks.unet import UNetConfig


def test_operations_by_hand():
    x = image = keras.Input((None, None, 1))
    x = layers.DepthwiseConv2D(3, padding="same", strides=2)(x)  # 9 x 8 x 4
    x = layers.Conv2D(5, 1)(x)  # 5 x 8 x 4
    x = layers.Conv2D(2, 3, padding="same", dilation_rate=2)(x)  # 9 x 5 x 2 x 8 x 4
    x = layers.Conv2DTranspose(7, 3, strides=2, padding="same")(x)  # 9 x 2 x 7 x 8 x 4
    x = layers.BatchNormalization()(x)
    macs = count_macs(keras.Model(image, x), (16, 8))
    assert macs == (9 + 5 + 90 + 126) * 8 * 4


def test_operations_grow_with_the_area():
    tiny = build(TINY)
    assert count_macs(tiny, (64, 96)) == 6 * count_macs(tiny, (32, 32))
    assert count_macs(tiny) == 256 * count_macs(tiny, (32, 32))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["once", "twice", "between"])
def test_folding_normalisations_does_not_change_predictions(place, rng):
    model = settle(build(replace(TINY, batch_norm=place)), rng)
    folded = fold_batch_norms(model)
    images = rng.uniform(size=(1, 32, 48, 1))
    expected = predict(model, images)
    tolerance = 1e-4 * np.abs(expected).max()
    assert np.ptp(expected) > 100 * tolerance
    np.testing.assert_allclose(predict(folded, images), expected, rtol=0, atol=tolerance)
    # In "twice", ASPP normalises its rate branches after an activation and the last
    # branch after a sum; there is no convolution to fold these into.
    left = len(TINY.aspp_rates) + 1 if place == "twice" else 0
    assert len(of_kind(folded, layers.BatchNormalization)) == left
    assert count_macs(folded) == count_macs(model)


@pytest.mark.parametrize("stabilised", [True, False])
def test_only_a_gain_aware_network_depends_on_the_gain(stabilised, rng):
    model = build(UNetConfig((4,), (1,), stabilised=stabilised))
    of_kind(model, layers.Conv2D)[-1].bias.assign([0.1, 0.2, 0.3, 0.4])
    images = rng.uniform(size=(2, 16, 16, 1)).astype(np.float32)
    low, high = (
        remove_noise(model, tf.constant(images), tf.constant([gain, gain]), training=False)
        for gain in (1e-3, 1e-1)
    )
    assert gain_aware(model) == stabilised == (not np.allclose(low, high))


@pytest.mark.parametrize("stabilised", [True, False])
def test_shapes_of_layers_are_those_of_what_they_make(stabilised, rng):
    model = build(UNetConfig((4, 6), (1, 1), stabilised=stabilised))
    convs = of_kind(model, layers.Conv2D)
    images = rng.uniform(size=(1, 32, 48, 1)).astype(np.float32)
    part = keras.Model(model.inputs, [conv.output for conv in convs])
    made = remove_noise(part, tf.constant(images), tf.constant([0.1]), training=False)
    assert output_shapes(model, convs, (32, 48)) == [each.shape for each in made]
