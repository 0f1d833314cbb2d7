"""Blocks do what their names say, to shapes, values and numbers of parameters."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from emdn.anscombe import anscombe
from emdn.networks.ede2019 import (
    Ede2019Config,
    activate,
    aspp,
    conv,
    decoder_block,
    entry_block,
    middle_block,
    normalise,
    output_conv,
    pool_and_upsample,
    separable_conv,
    upsample,
)
from emdn.networks.layers import (
    BilinearUpsampling,
    DepthToSpace,
    FusedBatchNormalization,
    SpaceToDepth,
    Stabilise,
    Unstabilise,
)
from emdn.networks.unet import residual_block

CONFIG = Ede2019Config()
ONCE = replace(CONFIG, batch_norm="once")
BETWEEN = replace(CONFIG, batch_norm="between")


def network(block, features, *arguments, **options):
    """Return a network of one block, for images of any size."""
    x = keras.Input((None, None, features))
    return keras.Model(x, block(x, *arguments, **options))


def predict(model, images):
    return np.asarray(keras.ops.convert_to_numpy(model(np.asarray(images, np.float32))))


def fill(model, kind, value):
    """Set all kernels of one kind of layer to a value."""
    for layer in model.layers:
        if isinstance(layer, kind):
            layer.kernel.assign(np.full(layer.kernel.shape, value))


def convolutions(model, kind=layers.Conv2D):
    return [layer for layer in model.layers if isinstance(layer, kind)]


def trainable(model):
    return sum(np.prod(weight.shape) for weight in model.trainable_weights)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (CONFIG, 9 * 5 + 5 * 7 + 4 * 7),
        (ONCE, 9 * 5 + 5 * 7 + 2 * 7),
        (BETWEEN, 9 * 5 + 2 * 5 + 5 * 7 + 2 * 7),
    ],
    ids=["twice", "once", "between"],
)
def test_parameters_of_a_separable_convolution(config, parameters):
    assert trainable(network(separable_conv, 5, 7, config)) == parameters


@pytest.mark.parametrize("size", [1, 3])
def test_parameters_of_a_convolution(size):
    """Kernel, bias, and a gain and an offset from the normalisation."""
    model = network(conv, 5, 7, CONFIG, size=size)
    assert trainable(model) == size * size * 5 * 7 + 7 + 2 * 7


@pytest.mark.parametrize("rate", [1, 2, 6])
def test_the_atrous_rate_spreads_the_nine_taps(rate):
    model = network(separable_conv, 1, 1, CONFIG, rate=rate)
    fill(model, (layers.DepthwiseConv2D, layers.Conv2D), 1)
    impulse = np.zeros((1, 15, 15, 1))
    impulse[0, 7, 7] = 1
    expected = np.zeros((15, 15), bool)
    expected[np.ix_([7 - rate, 7, 7 + rate], [7 - rate, 7, 7 + rate])] = True
    np.testing.assert_array_equal(predict(model, impulse)[0, ..., 0] > 0, expected)


def test_depthwise_kernels_keep_channels_apart_and_pointwise_kernels_pixels():
    model = network(separable_conv, 2, 2, CONFIG)
    fill(model, layers.DepthwiseConv2D, 1)
    fill(model, layers.Conv2D, np.eye(2))
    impulse = np.zeros((1, 5, 5, 2))
    impulse[0, 2, 2, 0] = 1
    lit = predict(model, impulse)[0] > 0
    assert lit[..., 0].sum() == 9
    assert lit[..., 1].sum() == 0


def test_a_stride_of_2_halves_the_sides():
    model = network(separable_conv, 3, 4, CONFIG, stride=2)
    assert predict(model, np.zeros((1, 8, 6, 3))).shape == (1, 4, 3, 4)


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


def test_relu6_has_a_ceiling_and_relu_has_none():
    images = np.array([-100.0, 3.0, 100.0]).reshape(1, 1, 3, 1)
    capped = predict(network(activate, 1, CONFIG), images).ravel()
    free = predict(network(activate, 1, replace(CONFIG, activation="relu")), images)
    assert capped == pytest.approx([0, 3, 6], rel=1e-3)
    assert free.ravel() == pytest.approx([0, 3, 100], rel=1e-3)


def test_normalisation_keeps_the_configured_share_of_old_statistics():
    """From a moving mean of 0, one batch of mean 10 moves it by 1 - decay of that."""
    model = network(normalise, 1, replace(CONFIG, batch_norm_decay=0.8))
    output = model(np.full((1, 4, 4, 1), 10.0, np.float32), training=True)
    np.testing.assert_allclose(output, 0, atol=1e-4)
    assert float(model.layers[-1].moving_mean[0]) == pytest.approx(2)
    assert model.layers[-1].epsilon == 1e-3


def test_an_entry_block_halves_the_sides():
    model = network(entry_block, 3, 4, 5, CONFIG)
    assert predict(model, np.zeros((2, 8, 12, 3))).shape == (2, 4, 6, 5)
    assert [c.filters for c in convolutions(model)].count(4) == 2


def test_the_shortcut_of_an_entry_block_is_a_strided_convolution(rng):
    model = network(entry_block, 3, 4, 5, CONFIG)
    fill(model, layers.DepthwiseConv2D, 0)  # silences the main path
    images = rng.uniform(size=(1, 8, 12, 3)).astype(np.float32)
    (shortcut,) = (c for c in convolutions(model) if c.use_bias)
    strided = layers.Conv2D(5, 1, strides=2)
    strided.build(images.shape)
    strided.set_weights(shortcut.get_weights())
    expected = np.clip(predict(strided, images) / np.sqrt(1 + 1e-3), 0, 6)
    assert expected.max() > 0
    np.testing.assert_allclose(predict(model, images), expected, rtol=1e-4, atol=1e-6)


def test_a_middle_block_adds_to_what_it_gets_without_activating_the_sum(rng):
    model = network(middle_block, 8, CONFIG)
    images = rng.uniform(-50, 50, size=(1, 6, 6, 8)).astype(np.float32)
    added = predict(model, images) - images
    assert added.min() > -1e-4
    assert 0 < added.max() < 6 + 1e-4
    fill(model, layers.DepthwiseConv2D, 0)
    np.testing.assert_array_equal(predict(model, images), images)


@pytest.mark.parametrize("pooling", [False, True])
def test_aspp_joins_its_branches_and_narrows_them(pooling):
    config = replace(CONFIG, aspp_rates=(2, 3), image_pooling=pooling)
    model = network(aspp, 8, 5, config)
    assert predict(model, np.zeros((1, 7, 3, 8))).shape == (1, 7, 3, 5)
    (joined,) = convolutions(model, layers.Concatenate)
    assert joined.output.shape[-1] == 4 * 8
    rates = [c.dilation_rate for c in convolutions(model, layers.DepthwiseConv2D)]
    assert rates == [(2, 2), (3, 3)]


def test_aspp_normalises_branches_again_only_if_twice():
    """The original does so in all branches but the first: 4 of 5, two vectors each."""
    twice, once = (trainable(network(aspp, 8, 5, config)) for config in (CONFIG, ONCE))
    again_in_branches, second_in_separable = 4 * 2 * 8, 3 * 2 * 8
    assert twice - once == again_in_branches + second_in_separable


def test_image_level_pooling_averages_cells_of_2_x_2():
    checkerboard = np.indices((6, 8)).sum(axis=0) % 2
    pooled = predict(network(pool_and_upsample, 1), checkerboard[None, ..., None])
    np.testing.assert_allclose(pooled, 0.5)


def test_image_level_pooling_interpolates_between_cells():
    columns = np.array([0.0, 0.0, 4.0, 4.0]).reshape(1, 1, 4, 1).repeat(4, axis=1)
    pooled = predict(network(pool_and_upsample, 1), columns)
    np.testing.assert_allclose(pooled[0, :, :, 0], [[0, 1, 3, 4]] * 4)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (3, 5), (4, 7)])
def test_image_level_pooling_keeps_odd_sides(shape):
    images = np.full((1, *shape, 2), 3.0)
    pooled = predict(network(pool_and_upsample, 2), images)
    np.testing.assert_allclose(pooled, images)  # padding is not averaged in


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


@pytest.mark.parametrize("kind", ["transposed", "bilinear"])
def test_upsampling_doubles_the_sides_and_keeps_the_channels(kind):
    model = network(upsample, 6, replace(CONFIG, upsampling=kind))
    assert predict(model, np.zeros((1, 3, 5, 6))).shape == (1, 6, 10, 6)
    transposed = convolutions(model, layers.Conv2DTranspose)
    assert len(transposed) == (kind == "transposed")
    # Kernel, bias, gain and offset, in both kinds.
    assert trainable(model) == 9 * 6 * 6 + 6 + 2 * 6


def test_a_decoder_block_joins_its_inputs(rng):
    inputs = [keras.Input((None, None, features)) for features in (6, 4)]
    model = keras.Model(inputs, decoder_block(inputs, 3, CONFIG))
    high, low = (rng.uniform(size=(1, 4, 4, n)).astype(np.float32) for n in (6, 4))
    output = keras.ops.convert_to_numpy(model([high, low]))
    assert output.shape == (1, 4, 4, 3)
    assert {c.kernel.shape[2] for c in convolutions(model)} == {10, 3}
    shortcut, *_ = (c for c in convolutions(model) if c.use_bias)
    assert shortcut.kernel.shape == (1, 1, 10, 3)


def test_a_decoder_block_of_one_input_joins_nothing():
    model = network(lambda x: decoder_block([x], 3, CONFIG), 6)
    assert convolutions(model, layers.Concatenate) == []
    assert predict(model, np.zeros((1, 4, 4, 6))).shape == (1, 4, 4, 3)


@pytest.mark.parametrize(("output", "ends"), [("relu6", (0, 6)), ("linear", (-100, 100))])
def test_the_output_is_confined_only_by_relu6(output, ends):
    model = network(output_conv, 2, replace(CONFIG, output=output))
    for bias, end in zip((-100, 100), ends, strict=True):
        convolutions(model)[0].bias.assign([bias])
        images = predict(model, np.zeros((1, 4, 4, 2)))
        np.testing.assert_allclose(images, np.full((1, 4, 4, 1), end))


# Stabilised counts.


def test_stabilised_images_are_anscombes_transform_of_their_counts(rng):
    """Each image has counts of its own; what lies below zero has none."""
    images = rng.uniform(-0.1, 1.2, size=(3, 8, 6, 1)).astype(np.float32)
    counts = np.array([1.0, 40.0, 2500.0], np.float32)
    electrons = np.maximum(images, 0) * counts.reshape(3, 1, 1, 1)
    expected = anscombe(electrons) / Stabilise.UNIT
    np.testing.assert_allclose(Stabilise()(images, counts), expected, rtol=1e-5)


@pytest.mark.parametrize("rate", [10.0, 30.0, 1000.0])
def test_shot_noise_has_the_same_deviation_in_all_stabilised_images(rate, rng):
    """Whatever part of the brightest pixel's counts it is of."""
    electrons = rng.poisson(rate, size=(1, 300, 300, 1)).astype(np.float32)
    for share in (0.1, 1.0):
        at_1 = np.array([rate / share], np.float32)
        stabilised = np.asarray(Stabilise()(electrons / at_1, at_1))
        assert stabilised.std() == pytest.approx(1 / Stabilise.UNIT, rel=0.03)


def test_unstabilise_undoes_stabilise(rng):
    images = rng.uniform(size=(3, 8, 6, 1)).astype(np.float32)
    counts = np.array([1.0, 40.0, 2500.0], np.float32)
    again = Unstabilise()(Stabilise()(images, counts), counts)
    np.testing.assert_allclose(again, images, atol=1e-5)


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


def test_a_residual_block_adds_to_what_it_gets(rng):
    """Nothing where its last kernel is zero; all of its own kernels are 3 x 3."""
    model = network(residual_block, 5)
    images = rng.normal(size=(2, 8, 6, 5)).astype(np.float32)
    assert not np.allclose(predict(model, images), images)
    first, last = convolutions(model)
    inner = keras.Model(model.input, first.output)
    assert predict(inner, images).min() == 0  # a ReLU
    difference = predict(model, images) - images
    assert difference.min() < -0.01  # and none at the end
    last.kernel.assign(np.zeros(last.kernel.shape))
    np.testing.assert_array_equal(predict(model, images), images)
    assert trainable(model) == 2 * (9 * 5 * 5 + 5)
