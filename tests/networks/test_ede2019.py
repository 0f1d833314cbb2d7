"""The network is the paper's: its blocks, its parameters, layers and cost by stage.

The published numbers come from the shapes in the checkpoint of the trained network.
"""

import functools
import math
from collections import Counter
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.graphs import fill, network, of_kind, predict, settle, trainable
from keras import layers

from emdn.losses import HuberisedMSE
from emdn.networks import build
from emdn.networks.ede2019 import (
    PAPER,
    SMALL,
    TINY,
    Ede2019Config,
    aspp,
    conv,
    decoder_block,
    entry_block,
    middle_block,
    normalise,
    normalise_and_activate,
    output_conv,
    pool_and_upsample,
    separable_conv,
    upsample,
)
from emdn.networks.inference import count_macs
from emdn.networks.layers import BilinearUpsampling

CONFIG = Ede2019Config()


ONCE = replace(CONFIG, batch_norm="once")


BETWEEN = replace(CONFIG, batch_norm="between")


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


def test_relu6_has_a_ceiling_and_relu_has_none():
    images = np.array([-100.0, 3.0, 100.0]).reshape(1, 1, 3, 1)
    capped = predict(network(normalise_and_activate, 1, CONFIG), images).ravel()
    free = predict(
        network(normalise_and_activate, 1, replace(CONFIG, activation="relu")), images
    )
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
    assert [c.filters for c in of_kind(model, layers.Conv2D)].count(4) == 2


def test_the_shortcut_of_an_entry_block_is_a_strided_convolution(rng):
    model = network(entry_block, 3, 4, 5, CONFIG)
    fill(model, layers.DepthwiseConv2D, 0)  # silences the main path
    images = rng.uniform(size=(1, 8, 12, 3)).astype(np.float32)
    (shortcut,) = (c for c in of_kind(model, layers.Conv2D) if c.use_bias)
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
    (joined,) = of_kind(model, layers.Concatenate)
    assert joined.output.shape[-1] == 4 * 8
    rates = [c.dilation_rate for c in of_kind(model, layers.DepthwiseConv2D)]
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


@pytest.mark.parametrize("kind", ["transposed", "bilinear"])
def test_upsampling_doubles_the_sides_and_keeps_the_channels(kind):
    model = network(upsample, 6, replace(CONFIG, upsampling=kind))
    assert predict(model, np.zeros((1, 3, 5, 6))).shape == (1, 6, 10, 6)
    transposed = of_kind(model, layers.Conv2DTranspose)
    assert len(transposed) == (kind == "transposed")
    # Kernel, bias, gain and offset, in both kinds.
    assert trainable(model) == 9 * 6 * 6 + 6 + 2 * 6


def test_a_decoder_block_joins_its_inputs(rng):
    inputs = [keras.Input((None, None, features)) for features in (6, 4)]
    model = keras.Model(inputs, decoder_block(inputs, 3, CONFIG))
    high, low = (rng.uniform(size=(1, 4, 4, n)).astype(np.float32) for n in (6, 4))
    output = keras.ops.convert_to_numpy(model([high, low]))
    assert output.shape == (1, 4, 4, 3)
    assert {c.kernel.shape[2] for c in of_kind(model, layers.Conv2D)} == {10, 3}
    shortcut, *_ = (c for c in of_kind(model, layers.Conv2D) if c.use_bias)
    assert shortcut.kernel.shape == (1, 1, 10, 3)


def test_a_decoder_block_of_one_input_joins_nothing():
    model = network(lambda x: decoder_block([x], 3, CONFIG), 6)
    assert of_kind(model, layers.Concatenate) == []
    assert predict(model, np.zeros((1, 4, 4, 6))).shape == (1, 4, 4, 3)


@pytest.mark.parametrize(("output", "ends"), [("relu6", (0, 6)), ("linear", (-100, 100))])
def test_the_output_is_confined_only_by_relu6(output, ends):
    model = network(output_conv, 2, replace(CONFIG, output=output))
    for bias, end in zip((-100, 100), ends, strict=True):
        of_kind(model, layers.Conv2D)[0].bias.assign([bias])
        images = predict(model, np.zeros((1, 4, 4, 2)))
        np.testing.assert_allclose(images, np.full((1, 4, 4, 1), end))


KINDS = {
    layers.DepthwiseConv2D: "depthwise",
    layers.Conv2D: "dense",
    layers.Conv2DTranspose: "transposed",
}


# Convolutions as (kind, kernel side, stride, atrous rate, features in, features out,
# side of the output for an image of 512 x 512).
def dense(size, before, after, side):
    return [("dense", size, 1, 1, before, after, side)]


def separable(before, after, side, *, stride=1, rate=1):
    depthwise = ("depthwise", 3, stride, rate, before, before, side)
    return [depthwise, *dense(1, before, after, side)]


def transposed(features, side):
    return [("transposed", 3, 2, 1, features, features, side)]


# Table 1.2. Shortcuts of entry blocks have stride 2 in the paper; here, a slice of stride
# 2 comes before them.
CONVOLUTIONS = {
    "entry 0": [
        *separable(1, 64, 512),
        *separable(64, 64, 512),
        *separable(64, 128, 256, stride=2),
        *dense(1, 1, 128, 256),
    ],
    "entry 1": [
        *separable(128, 128, 256) * 2,
        *separable(128, 128, 128, stride=2),
        *dense(1, 128, 128, 128),
    ],
    "entry 2": [
        *separable(128, 256, 128),
        *separable(256, 256, 128),
        *separable(256, 256, 64, stride=2),
        *dense(1, 128, 256, 64),
    ],
    "entry 3": [
        *separable(256, 728, 64),
        *separable(728, 728, 64),
        *separable(728, 728, 32, stride=2),
        *dense(1, 256, 728, 32),
    ],
    "middle": separable(728, 728, 32) * 36,
    "aspp": [
        *dense(1, 728, 728, 32),
        *separable(728, 728, 32, rate=6),
        *separable(728, 728, 32, rate=12),
        *separable(728, 728, 32, rate=18),
        *dense(1, 3640, 256, 32),
    ],
    "decoder 128": [
        *separable(384, 256, 128),
        *separable(256, 256, 128),
        *dense(1, 384, 256, 128),
    ],
    "upsampling to 256": transposed(256, 256),
    "decoder 256": [
        *separable(384, 128, 256),
        *separable(128, 128, 256),
        *dense(1, 384, 128, 256),
    ],
    "upsampling to 512": transposed(128, 512),
    "decoder 512": [
        *separable(128, 64, 512),
        *separable(64, 64, 512),
        *dense(1, 128, 64, 512),
    ],
    "output": dense(3, 64, 1, 512),
}


# Table 1.3: weights of kernels, biases, gains and offsets of normalisations, GMAC.
COSTS = {
    "entry 0": (13_641, 128, 1_280, 1.827),
    "entry 1": (68_992, 128, 1_792, 2.854),
    "entry 2": (202_368, 256, 3_584, 2.079),
    "entry 3": (1_448_112, 728, 10_192, 3.711),
    "middle": (19_315_296, 0, 104_832, 19.779),
    "aspp": (3_071_432, 984, 16_528, 3.145),
    "decoder 128": (267_904, 256, 2_560, 4.389),
    "upsampling to 256": (589_824, 256, 512, 9.664),
    "decoder 256": (119_296, 128, 1_280, 7.818),
    "upsampling to 512": (147_456, 128, 256, 9.664),
    "decoder 512": (22_208, 64, 640, 5.822),
    "output": (576, 1, 2, 0.151),
}


def ends_of_stages(model):
    """Return the tensor in which each stage ends; every sum ends a block."""
    sums = [layer.output for layer in of_kind(model, layers.Add)]
    interpolation, *_ = of_kind(model, BilinearUpsampling)
    # Each transposed convolution is followed by its normalisation and activation.
    doubled = [
        model.layers[model.layers.index(layer) + 2].output
        for layer in of_kind(model, layers.Conv2DTranspose)
    ]
    ends = [*sums[:4], sums[-4], interpolation.input]
    ends += [sums[-3], doubled[0], sums[-2], doubled[1], sums[-1], model.output]
    return dict(zip(COSTS, ends, strict=True))


def describe(model):
    """Return each convolution's row in `CONVOLUTIONS`."""
    convs = of_kind(model, tuple(KINDS))
    features = keras.Model(model.input, [conv.output for conv in convs])
    outputs = features.compute_output_shape((1, 512, 512, 1))
    rows = {}
    for layer, (_, height, width, after) in zip(convs, outputs, strict=True):
        numbers = [*layer.kernel_size, *layer.strides, *layer.dilation_rate, height, width]
        size, stride, rate, side = numbers[::2]
        assert numbers[1::2] == numbers[::2]  # all is square
        before = layer.input.shape[-1]
        rows[layer.name] = (KINDS[type(layer)], size, stride, rate, before, after, side)
    return rows


@pytest.fixture(scope="module")
def paper():
    return build(PAPER)


@pytest.fixture(scope="module")
def paper_stages(paper):
    """Return the network up to the end of each stage, and the layers new in the stage."""
    stages, seen = {}, set()
    for name, end in ends_of_stages(paper).items():
        part = keras.Model(paper.input, end)
        new = [layer for layer in part.layers if layer.name not in seen]
        seen.update(layer.name for layer in new)
        stages[name] = part, new
    assert seen == {layer.name for layer in paper.layers}
    return stages


@functools.cache
def variant(**changes):
    """Return a TINY network that tests share, so they must leave its weights alone."""
    return build(replace(TINY, **changes))


@pytest.fixture
def tiny():
    return variant()


@pytest.mark.slow
def test_paper_has_the_parameters_of_the_published_checkpoint(paper):
    assert trainable(paper) == 25_413_620
    assert len(paper.trainable_variables) == 398
    moving = sum(math.prod(weight.shape) for weight in paper.non_trainable_weights)
    assert moving == 143_458


@pytest.mark.slow
@pytest.mark.parametrize("stage", COSTS)
def test_parameters_of_each_stage_are_the_published_ones(stage, paper_stages):
    _, new = paper_stages[stage]
    kernels = biases = affine = 0
    for layer in new:
        if type(layer) in KINDS:
            kernels += math.prod(layer.kernel.shape)
            biases += layer.filters if layer.use_bias else 0
        elif isinstance(layer, layers.BatchNormalization):
            affine += math.prod(layer.gamma.shape) + math.prod(layer.beta.shape)
        else:
            assert not layer.weights
    assert (kernels, biases, affine) == COSTS[stage][:3]


@pytest.mark.slow
@pytest.mark.parametrize("stage", COSTS)
def test_convolutions_of_each_stage_are_the_published_ones(stage, paper, paper_stages):
    rows = describe(paper)
    _, new = paper_stages[stage]
    found = Counter(rows[layer.name] for layer in new if layer.name in rows)
    assert found == Counter(CONVOLUTIONS[stage])


@pytest.mark.slow
def test_operations_of_each_stage_are_the_published_ones(paper_stages):
    done = 0
    for name, (part, _) in paper_stages.items():
        macs = count_macs(part)
        assert (macs - done) / 1e9 == pytest.approx(COSTS[name][3], abs=6e-4), name
        done = macs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("side", "billions"), [(256, 17.7), (512, 70.9), (1024, 283.6), (2048, 1134.4)]
)
def test_operations_of_whole_images_are_the_published_ones(side, billions, paper):
    assert round(count_macs(paper, (side, side)) / 1e9, 1) == billions


@pytest.mark.slow
def test_paper_has_the_published_numbers_of_layers(paper):
    depthwise = of_kind(paper, layers.DepthwiseConv2D)
    every = of_kind(paper, layers.Conv2D)
    with_bias = [layer for layer in every if layer.use_bias]
    assert len(depthwise) == 57
    assert not any(layer.use_bias for layer in depthwise)
    assert len(every) - len(with_bias) == 57  # pointwise halves of separable ones
    assert Counter(layer.kernel_size for layer in with_bias) == {(1, 1): 9, (3, 3): 1}
    assert len(of_kind(paper, layers.Conv2DTranspose)) == 2
    assert len(of_kind(paper, layers.BatchNormalization)) == 130
    # One for each convolution, and one more in four branches of ASPP.
    assert len(of_kind(paper, layers.Activation)) == 57 + 10 + 2 + 4


@pytest.mark.slow
def test_paper_joins_the_published_widths(paper):
    """256 high-level features meet 128 low-level ones, twice: 1 to 1 over both."""
    joined = [
        [branch.shape[-1] for branch in layer.input]
        for layer in of_kind(paper, layers.Concatenate)
    ]
    assert joined == [[728] * 5, [256, 128], [256, 128]]


@pytest.mark.slow
def test_paper_normalises_and_activates_as_the_original(paper):
    norms = of_kind(paper, layers.BatchNormalization)
    assert {(norm.momentum, norm.epsilon) for norm in norms} == {(0.999, 1e-3)}
    activations = of_kind(paper, layers.Activation)
    assert {layer.activation.__name__ for layer in activations} == {"relu6"}
    assert isinstance(paper.layers[-1], layers.Activation)


@pytest.mark.slow
def test_weights_start_as_xavier_proposed(paper):
    """Uniform within sqrt(6 / (fan in + fan out)); biases zero."""
    for kind, taps, outputs in [(layers.Conv2D, 1, 728), (layers.DepthwiseConv2D, 9, 1)]:
        layer = next(x for x in of_kind(paper, kind) if x.input.shape[-1] == 728)
        kernel = layer.get_weights()[0]
        bound = math.sqrt(6 / (taps * 728 + taps * outputs))
        assert 0.99 * bound < np.abs(kernel).max() <= bound * (1 + 1e-6)
        assert kernel.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    for layer in of_kind(paper, (layers.Conv2D, layers.Conv2DTranspose)):
        if layer.use_bias:
            assert not layer.get_weights()[1].any()


@pytest.mark.slow
def test_the_variant_of_the_text_has_its_published_parameters():
    """Normalised between depthwise and pointwise, and not again in ASPP's branches."""
    model = build(replace(PAPER, batch_norm="between"))
    assert trainable(model) == 25_407_238


def test_small_has_at_most_a_million_and_a_half_parameters():
    assert trainable(build(SMALL)) <= 1_500_000


@pytest.mark.parametrize("shape", [(16, 16), (48, 80), (128, 64)])
@pytest.mark.parametrize(
    "change",
    [{}, {"image_pooling": True}, {"upsampling": "bilinear"}, {"batch_norm": "between"}],
    ids=str,
)
def test_output_has_the_shape_of_the_input(change, shape, rng):
    """Image pooling meets maps of odd sides here: 1 x 1 and 3 x 5."""
    images = rng.uniform(size=(2, *shape, 1))
    output = predict(variant(**change), images)
    assert output.shape == images.shape
    assert np.isfinite(output).all()
    assert np.ptp(output) > 0


def test_images_of_a_batch_do_not_see_each_other(tiny, rng):
    images = rng.uniform(size=(2, 32, 32, 1))
    together = predict(tiny, images)
    alone = predict(tiny, images[1:])
    np.testing.assert_allclose(together[1:], alone, rtol=1e-4, atol=1e-5)


def test_image_pooling_pools(tiny, rng):
    pooled = build(replace(TINY, image_pooling=True))
    pooled.set_weights(tiny.get_weights())  # pooling has no weights of its own
    assert len(of_kind(pooled, layers.AveragePooling2D)) == 1
    assert of_kind(tiny, layers.AveragePooling2D) == []
    images = rng.uniform(size=(1, 64, 64, 1))
    assert not np.allclose(predict(tiny, images), predict(pooled, images))


def test_bilinear_upsampling_replaces_transposed_convolutions(tiny):
    model = variant(upsampling="bilinear")
    assert of_kind(model, layers.Conv2DTranspose) == []
    assert len(of_kind(model, BilinearUpsampling)) == 3
    assert len(of_kind(tiny, layers.Conv2DTranspose)) == 2
    assert trainable(model) == trainable(tiny)


def test_the_activation_is_that_of_the_configuration():
    model = build(replace(TINY, activation="relu"))
    activations = of_kind(model, layers.Activation)
    assert {layer.activation.__name__ for layer in activations} == {"relu"}


def test_normalising_once_saves_parameters(tiny):
    twice, between = (variant(batch_norm=place) for place in ("twice", "between"))
    assert trainable(tiny) < trainable(between)
    assert trainable(tiny) < trainable(twice)
    convolutions = len(of_kind(tiny, (layers.Conv2D, layers.Conv2DTranspose)))
    linear_output = 1
    norms = len(of_kind(tiny, layers.BatchNormalization))
    assert norms == convolutions - linear_output


@pytest.mark.parametrize("output", ["linear", "relu6"])
def test_only_a_relu6_output_is_confined_to_0_to_6(output, rng):
    model = build(replace(TINY, output=output))
    last = of_kind(model, layers.Conv2D)[-1]
    images = rng.uniform(size=(1, 32, 32, 1))
    ends = []
    for bias in (-1000.0, 1000.0):
        last.bias.assign([bias])
        ends.append(predict(model, images))
    low, high = ends
    if output == "relu6":
        assert (low == 0).all()
        assert (high == 6).all()
    else:
        assert low.max() < 0
        assert high.min() > 6


@pytest.mark.parametrize(
    "change", [{}, {"upsampling": "bilinear"}, {"batch_norm": "between"}], ids=str
)
def test_no_strided_1_x_1_convolution_occurs(change):
    """Its gradient corrupts memory on CPUs in TensorFlow 2.19 to 2.21."""
    for layer in of_kind(variant(**change), layers.Conv2D):
        assert layer.kernel_size != (1, 1) or layer.strides == (1, 1)


def test_the_seed_makes_weights_reproducible(tiny):
    keras.utils.set_random_seed(3)
    first = build(TINY).get_weights()
    keras.utils.set_random_seed(3)
    again = build(TINY).get_weights()
    other = tiny.get_weights()
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


@pytest.mark.slow
def test_a_gradient_step_lowers_the_loss(rng):
    keras.utils.set_random_seed(0)
    clean = rng.uniform(size=(4, 32, 32, 1)).astype(np.float32)
    noisy = clean + rng.normal(0, 0.1, clean.shape).astype(np.float32)
    model = build(TINY)
    model.compile(
        keras.optimizers.Adam(1e-3), HuberisedMSE(), run_eagerly=True, jit_compile=False
    )
    losses = model.fit(noisy, clean, batch_size=4, epochs=2, verbose=0).history["loss"]
    assert losses[1] < losses[0]


@pytest.mark.slow
def test_batch_renormalisation_trains_as_the_network_predicts(rng):
    """Where plain normalisation, by the batch's own statistics, is far from that."""
    plain, renormed = (build(replace(TINY, batch_renorm=each)) for each in (False, True))
    weighted = layers.BatchNormalization, *KINDS
    for layer, other in zip(
        of_kind(renormed, weighted), of_kind(plain, weighted), strict=True
    ):
        for variable, value in zip(layer.variables, other.variables, strict=False):
            variable.assign(value)  # the renormalised have two more, which stay 0 and 1
    images = rng.uniform(size=(4, 32, 32, 1)).astype(np.float32)
    expected = predict(plain, images)
    np.testing.assert_allclose(predict(renormed, images), expected, rtol=1e-4, atol=1e-5)

    norm = of_kind(renormed, layers.BatchNormalization)[0]
    before = np.array(norm.moving_mean)
    with tf.GradientTape() as tape:
        output = renormed(images, training=True)
        loss = tf.reduce_mean(HuberisedMSE().call(images, output))
    for gradient in tape.gradient(loss, renormed.trainable_variables):
        assert np.isfinite(gradient).all()
        assert np.any(gradient != 0)
    assert not np.allclose(norm.moving_mean, before)
    by_batch = np.asarray(plain(images, training=True))
    distances = [np.abs(each - expected).max() for each in (output, by_batch)]
    assert distances[0] < 0.1 * distances[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{}, {"image_pooling": True, "upsampling": "bilinear"}], ids=str
)
def test_a_saved_network_predicts_the_same(change, tmp_path, rng):
    model = settle(build(replace(TINY, **change)), rng)
    images = rng.uniform(size=(1, 48, 48, 1))
    model.save(tmp_path / "tiny.keras")
    loaded = keras.models.load_model(tmp_path / "tiny.keras", safe_mode=True)
    np.testing.assert_array_equal(predict(loaded, images), predict(model, images))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"first_features": 0}, "features and rates must be at least 1"),
        ({"aspp_rates": (6, 0)}, "features and rates must be at least 1"),
        (
            {"entry_features": (128, 128, 256)},
            r"entry_features must be 4 numbers, got \(128",
        ),
        ({"decoder_features": ()}, r"decoder_features must be 3 numbers, got \(\)"),
        ({"middle_blocks": -1}, "middle_blocks must not be negative, got -1"),
        ({"batch_norm_decay": 1.0}, "batch_norm_decay must be at least 0 and below 1"),
        (
            {"batch_norm": "thrice"},
            "batch_norm must be one of twice, once, between, got 'th",
        ),
        ({"upsampling": "nearest"}, "upsampling must be one of transposed, bilinear"),
        ({"activation": "gelu"}, "activation must be one of relu6, relu, got 'gelu'"),
        ({"stabilised": True}, "may be negative; set output to linear"),
        ({"output": "tanh"}, "output must be one of relu6, linear, got 'tanh'"),
    ],
    ids=str,
)
def test_impossible_sizes_and_unknown_variants_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        Ede2019Config(**sizes)


@pytest.mark.parametrize("low", [(8, 15), (8, 17)])
def test_unequal_high_and_low_level_features_need_their_switch(low):
    """Section 2.4: as many of both enter the decoder."""
    sizes = {"entry_features": (*low, 16, 24)}
    with pytest.raises(ValueError, match=f"must be {sum(low)}, .*set unequal_features"):
        replace(TINY, **sizes)
    model = build(replace(TINY, **sizes, unequal_features=True))
    joined = [
        sum(branch.shape[-1] for branch in layer.input)
        for layer in of_kind(model, layers.Concatenate)
    ]
    assert joined[1:] == [24 + low[1], 24 + low[0]]
