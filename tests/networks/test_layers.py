"""The layers that Keras lacks agree with slow formulas and with Keras's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.graphs import network, predict
from keras import layers

from emdn.anscombe import anscombe
from emdn.networks.layers import (
    UNIT,
    BilinearUpsampling,
    DepthToSpace,
    FusedBatchNormalization,
    SpaceToDepth,
    Stabilise,
    Unstabilise,
)


def normalised_with_gradients(norm, images):
    """Return outputs in training, and gradients for inputs, gain and offset."""
    weights = np.random.default_rng(9).normal(size=images.shape)
    x = tf.constant(images, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = norm(x, training=True)
        total = tf.reduce_sum(outputs * weights)
    return [outputs, *tape.gradient(total, [x, *norm.trainable_variables])]


def test_the_fused_batch_normalisation_trains_as_keras_own():
    images = np.random.default_rng(8).normal(3, 2, size=(2, 6, 5, 4))
    fused = normalised_with_gradients(FusedBatchNormalization(), images)
    plain = normalised_with_gradients(layers.BatchNormalization(), images)
    for one, other in zip(fused, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_batch_normalisation_moves_its_statistics_by_unbiased_estimates():
    images = np.random.default_rng(8).normal(3, 2, size=(2, 6, 5, 4))
    norm = FusedBatchNormalization(momentum=0.9)
    norm(images.astype(np.float32), training=True)
    mean, variance = images.mean(axis=(0, 1, 2)), images.var(axis=(0, 1, 2), ddof=1)
    np.testing.assert_allclose(norm.moving_mean, 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, 0.9 + 0.1 * variance, rtol=1e-5)


@pytest.mark.parametrize("case", ["inference", "frozen"])
def test_batch_normalisation_leaves_its_statistics_alone_in(case):
    images = np.random.default_rng(8).normal(3, 2, size=(2, 6, 5, 4)).astype(np.float32)
    norm = FusedBatchNormalization(trainable=case != "frozen", epsilon=0.0)
    outputs = norm(images, training=case == "frozen")
    np.testing.assert_allclose(
        outputs, images, rtol=1e-6
    )  # by a mean of 0, a variance of 1
    np.testing.assert_array_equal(norm.moving_mean, 0)


@pytest.mark.parametrize("factor", [2, 4])
def test_bilinear_upsampling_agrees_with_keras(factor, rng):
    images = rng.uniform(size=(2, 3, 5, 4)).astype(np.float32)
    oracle = layers.UpSampling2D(factor, interpolation="bilinear")
    ours = network(lambda x: BilinearUpsampling(factor)(x), 4)
    np.testing.assert_allclose(predict(ours, images), predict(oracle, images), rtol=1e-5)
    assert ours.compute_output_shape((None, None, 5, 4)) == (None, None, 5 * factor, 4)


def test_bilinear_upsampling_is_rebuilt_from_its_configuration():
    layer = BilinearUpsampling(4, name="mine")
    rebuilt = keras.layers.deserialize(keras.layers.serialize(layer))
    assert (type(rebuilt), rebuilt.factor, rebuilt.name) == (BilinearUpsampling, 4, "mine")


# Stabilised counts.
def test_stabilised_images_are_anscombes_transform_of_their_counts(rng):
    """Each image has counts of its own; what lies below zero has none."""
    images = rng.uniform(-0.1, 1.2, size=(3, 8, 6, 1)).astype(np.float32)
    counts = np.array([1.0, 40.0, 2500.0], np.float32)
    electrons = np.maximum(images, 0) * counts.reshape(3, 1, 1, 1)
    expected = anscombe(electrons) / UNIT
    np.testing.assert_allclose(Stabilise()(images, counts), expected, rtol=1e-5)


@pytest.mark.parametrize("rate", [10.0, 30.0, 1000.0])
def test_shot_noise_has_the_same_deviation_in_all_stabilised_images(rate, rng):
    """Whatever part of the brightest pixel's counts it is of."""
    electrons = rng.poisson(rate, size=(1, 300, 300, 1)).astype(np.float32)
    for share in (0.1, 1.0):
        at_1 = np.array([rate / share], np.float32)
        stabilised = np.asarray(Stabilise()(electrons / at_1, at_1))
        assert stabilised.std() == pytest.approx(1 / UNIT, rel=0.03)


def test_unstabilise_undoes_stabilise(rng):
    images = rng.uniform(size=(3, 8, 6, 1)).astype(np.float32)
    counts = np.array([1.0, 40.0, 2500.0], np.float32)
    again = Unstabilise()(Stabilise()(images, counts), counts)
    np.testing.assert_allclose(again, images, atol=1e-5)


@pytest.mark.parametrize("kind", [Stabilise, Unstabilise])
def test_the_unit_of_stabilised_values_is_kept_in_a_file(kind, rng):
    """Files from before it was kept were trained with 5."""
    images = rng.uniform(size=(1, 4, 4, 1)).astype(np.float32)
    counts = np.array([100.0], np.float32)
    layer = kind(unit=2.0)
    rebuilt = keras.layers.deserialize(keras.layers.serialize(layer))
    np.testing.assert_array_equal(rebuilt(images, counts), layer(images, counts))
    old = kind.from_config({"name": "old"})
    np.testing.assert_array_equal(old(images, counts), kind(5.0)(images, counts))
    assert not np.allclose(old(images, counts), layer(images, counts))


def test_what_lies_below_the_darkest_root_does_not_come_back_as_light(rng):
    """Squared, a negative root would."""
    roots = -rng.uniform(0, 2, size=(2, 4, 4, 1)).astype(np.float32)
    counts = np.array([10.0, 100.0], np.float32)
    back = np.asarray(Unstabilise()(roots, counts))
    darkest = np.broadcast_to(-3 / 8 / counts.reshape(2, 1, 1, 1), back.shape)
    np.testing.assert_allclose(back, darkest, rtol=1e-6)


# Pixels as channels.
def test_each_2_x_2_pixels_become_four_channels(rng):
    images = rng.uniform(size=(2, 6, 10, 3)).astype(np.float32)
    folded = np.asarray(SpaceToDepth()(images))
    assert folded.shape == (2, 3, 5, 12)
    corners = [images[:, y::2, x::2] for y in (0, 1) for x in (0, 1)]
    np.testing.assert_array_equal(folded, np.concatenate(corners, axis=-1))


def test_channels_become_pixels_and_the_same_again(rng):
    images = rng.uniform(size=(2, 6, 10, 3)).astype(np.float32)
    np.testing.assert_array_equal(DepthToSpace()(SpaceToDepth()(images)), images)
    channels = rng.uniform(size=(2, 3, 5, 8)).astype(np.float32)
    np.testing.assert_array_equal(SpaceToDepth()(DepthToSpace()(channels)), channels)


@pytest.mark.parametrize(
    "shape", [(2, 6, 10, 4), (None, None, 10, 4), (None, None, None, 8)]
)
def test_shapes_are_told_as_far_as_they_are_known(shape):
    """By what happens to an image wherever a side is unknown."""
    count, height, width, features = shape
    known = np.zeros((count or 1, height or 6, width or 6, features), np.float32)
    for layer in (SpaceToDepth(), DepthToSpace()):
        found = layer.compute_output_shape(shape)
        expected = layer(known).shape
        assert found[-1] == expected[-1]
        for before, told, side in zip(shape[:-1], found[:-1], expected[:-1], strict=True):
            assert told == (side if before else None)
