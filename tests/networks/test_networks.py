"""The network is the paper's: parameters, layers and cost, stage by stage.

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
from keras import layers

from emdn.losses import HuberisedMSE
from emdn.networks import CONFIGS, build
from emdn.networks.dncnn import DNCNN, DnCNNConfig
from emdn.networks.ede2019 import PAPER, SMALL, TINY
from emdn.networks.inference import count_macs, fold_batch_norms
from emdn.networks.layers import BilinearUpsampling
from emdn.networks.unet import UNET, UNetConfig

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


def of_kind(model, kind):
    """Return the layers of one kind in the order of the graph."""
    return [layer for layer in model.layers if isinstance(layer, kind)]


def trainable(model):
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def predict(model, images):
    return keras.ops.convert_to_numpy(model(np.asarray(images, np.float32)))


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
    for conv, (_, height, width, after) in zip(convs, outputs, strict=True):
        numbers = [*conv.kernel_size, *conv.strides, *conv.dilation_rate, height, width]
        size, stride, rate, side = numbers[::2]
        assert numbers[1::2] == numbers[::2]  # all is square
        before = conv.input.shape[-1]
        rows[conv.name] = (KINDS[type(conv)], size, stride, rate, before, after, side)
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


@pytest.mark.parametrize("config", [PAPER, SMALL, TINY], ids=["paper", "small", "tiny"])
def test_as_many_high_as_low_level_features_enter_the_decoder(config):
    assert config.decoder_features[0] == sum(config.entry_features[:2])


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
    for conv in of_kind(variant(**change), layers.Conv2D):
        assert conv.kernel_size != (1, 1) or conv.strides == (1, 1)


def test_the_seed_makes_weights_reproducible(tiny):
    keras.utils.set_random_seed(3)
    first = build(TINY).get_weights()
    keras.utils.set_random_seed(3)
    again = build(TINY).get_weights()
    other = tiny.get_weights()
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_operations_by_hand():
    x = image = keras.Input((None, None, 1))
    x = layers.DepthwiseConv2D(3, padding="same", strides=2)(x)  # 9 x 8 x 4
    x = layers.Conv2D(5, 1)(x)  # 5 x 8 x 4
    x = layers.Conv2D(2, 3, padding="same", dilation_rate=2)(x)  # 9 x 5 x 2 x 8 x 4
    x = layers.Conv2DTranspose(7, 3, strides=2, padding="same")(x)  # 9 x 2 x 7 x 8 x 4
    x = layers.BatchNormalization()(x)
    macs = count_macs(keras.Model(image, x), (16, 8))
    assert macs == (9 + 5 + 90 + 126) * 8 * 4


def test_operations_grow_with_the_area(tiny):
    assert count_macs(tiny, (64, 96)) == 6 * count_macs(tiny, (32, 32))
    assert count_macs(tiny) == 256 * count_macs(tiny, (32, 32))


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


def settle(model, rng):
    """Give each normalisation statistics and an affine map that are not the identity."""
    wide, positive = (-1, 1), (0.5, 2)
    for norm in of_kind(model, layers.BatchNormalization):
        ends = [positive, wide, wide, positive]  # gamma, beta, mean, variance
        norm.set_weights([rng.uniform(*pair, norm.gamma.shape) for pair in ends])
    return model


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


def stack(depth, features):
    return build(DnCNNConfig(depth, features))


@pytest.mark.parametrize(("depth", "features"), [(2, 3), (3, 4), (5, 16), (17, 64)])
def test_a_shallow_network_has_as_many_convolutions_and_channels_as_told(depth, features):
    convs = of_kind(stack(depth, features), layers.Conv2D)
    assert [conv.filters for conv in convs] == [features] * (depth - 1) + [1]
    assert {conv.kernel_size for conv in convs} == {(3, 3)}


@pytest.mark.parametrize(("depth", "features"), [(2, 3), (3, 4), (5, 16), (17, 64)])
def test_a_shallow_network_has_the_parameters_of_the_formula(depth, features):
    first = 9 * features + features  # kernel and bias
    inner = 9 * features**2 + 2 * features  # kernel, gain and offset
    last = 9 * features + 1
    expected = first + (depth - 2) * inner + last
    assert trainable(stack(depth, features)) == expected
    if (depth, features) == (17, 64):
        assert expected == 556_097  # DnCNN's 0.56 million
        assert DnCNNConfig(depth, features) == DNCNN == CONFIGS["DNCNN"]


@pytest.mark.parametrize("depth", [2, 3, 5, 17])
def test_a_shallow_network_sees_twice_its_depth_and_one_pixel(depth):
    """A bright pixel on black reaches so wide a square, and all of it: DnCNN's 35 x 35."""
    model = stack(depth, 2)
    for conv in of_kind(model, layers.Conv2D):
        conv.kernel.assign(np.full(conv.kernel.shape, 1 / 9))  # no path cancels another
    images = np.zeros((1, 2 * depth + 9, 2 * depth + 7, 1))
    images[0, depth + 4, depth + 3] = 1
    reached = predict(model, images)[0, ..., 0] != 0
    expected = np.zeros_like(reached)
    expected[4 : 2 * depth + 5, 3 : 2 * depth + 4] = True
    np.testing.assert_array_equal(reached, expected)
    assert reached.sum() == (2 * depth + 1) ** 2


def test_a_shallow_network_takes_the_noise_off_that_it_finds(rng):
    model = stack(3, 4)
    images = rng.uniform(size=(2, 16, 32, 1)).astype(np.float32)
    last = of_kind(model, layers.Conv2D)[-1]
    noise = keras.Model(model.input, last.output)
    np.testing.assert_array_equal(predict(model, images), images - predict(noise, images))
    last.kernel.assign(np.zeros(last.kernel.shape))
    last.bias.assign([0.25])
    np.testing.assert_allclose(predict(model, images), images - 0.25, atol=1e-6)


def test_a_shallow_network_normalises_with_its_decay():
    model = build(DnCNNConfig(5, 4, batch_norm_decay=0.75))
    norms = of_kind(model, layers.BatchNormalization)
    assert [norm.momentum for norm in norms] == [0.75] * 3


def test_a_shallow_networks_operations_are_those_of_its_kernels():
    weights = 9 * (4 + 4 * 4 + 4)
    assert count_macs(stack(3, 4), (32, 16)) == 32 * 16 * weights


# U-Nets.

SIZES = [((5,), (2,)), ((4, 6), (1, 2)), ((4, 6, 8), (2, 1, 3))]
"""Features and blocks at each stride."""


def awake(config):
    """Return a U-Net whose last convolution has random weights, as after training."""
    model = build(config)
    last = of_kind(model, layers.Conv2D)[-1]
    kernel = np.random.default_rng(5).normal(0, 0.1, last.kernel.shape)
    last.kernel.assign(kernel)
    return model


def inputs_of(model, images, counts):
    images = np.asarray(images, np.float32)
    return [images, np.asarray(counts, np.float32)] if len(model.inputs) > 1 else images


def u_net_parameters(features, blocks):
    """Add up kernels and biases by stride."""
    total = 9 * 4 * features[0] + features[0]
    for level, (width, number) in enumerate(zip(features, blocks, strict=True)):
        lowest = level == len(features) - 1
        total += (1 if lowest else 2) * number * 2 * (9 * width**2 + width)
        if not lowest:
            below = features[level + 1]
            total += 4 * width * below + below  # down
            total += 4 * width * below + width  # and up again
    return total + 9 * features[0] * 4 + 4


def u_net_macs(features, blocks, pixels):
    """Add up what each pixel at each stride costs."""
    total = pixels / 4 * 9 * 4 * features[0] * 2  # both ends
    for level, (width, number) in enumerate(zip(features, blocks, strict=True)):
        there = pixels / 4 ** (level + 1)
        lowest = level == len(features) - 1
        total += there * (1 if lowest else 2) * number * 2 * 9 * width**2
        if not lowest:
            # Down, each pixel below looks at 2 x 2; up, each gets one of four kernels.
            total += there / 4 * 4 * width * features[level + 1]
            total += there * width * features[level + 1]
    return total


@pytest.mark.parametrize("stabilised", [True, False])
@pytest.mark.parametrize(("features", "blocks"), [*SIZES, (UNET.features, UNET.blocks)])
def test_a_u_net_has_the_parameters_and_operations_of_its_sizes(
    features, blocks, stabilised
):
    model = build(UNetConfig(features, blocks, stabilised=stabilised))
    assert trainable(model) == u_net_parameters(features, blocks)
    assert model.non_trainable_weights == []
    assert count_macs(model, (64, 96)) == u_net_macs(features, blocks, 64 * 96)


def test_the_u_net_that_ships_is_one_of_the_models():
    assert CONFIGS["UNET"] == UNET == UNetConfig()
    assert UNET.stabilised


def test_a_u_net_is_told_the_counts_and_a_blind_one_is_not():
    told, blind = (build(UNetConfig((4,), (1,), stabilised=s)) for s in (True, False))
    assert [each.shape for each in told.inputs] == [(None, None, None, 1), (None,)]
    assert [each.shape for each in blind.inputs] == [(None, None, None, 1)]


@pytest.mark.parametrize("stabilised", [True, False])
def test_a_new_u_net_is_the_identity(stabilised, rng):
    model = build(UNetConfig((4, 6), (1, 1), stabilised=stabilised))
    images = rng.uniform(size=(2, 16, 32, 1)).astype(np.float32)
    output = model(inputs_of(model, images, [30, 3000]))
    np.testing.assert_allclose(output, images, atol=1e-5)


@pytest.mark.parametrize("stabilised", [True, False])
@pytest.mark.parametrize(("features", "blocks"), SIZES)
def test_a_u_nets_output_has_the_shape_of_its_input(features, blocks, stabilised, rng):
    model = awake(UNetConfig(features, blocks, stabilised=stabilised))
    images = rng.uniform(size=(2, 16, 48, 1))
    output = np.asarray(model(inputs_of(model, images, [30, 300])))
    assert output.shape == images.shape
    assert np.isfinite(output).all()
    assert np.abs(output - images).max() > 1e-3


def test_a_u_nets_output_depends_on_the_counts(rng):
    """Those of an image change this image only."""
    model = awake(UNetConfig((4, 6), (1, 1)))
    images = rng.uniform(size=(2, 16, 16, 1))
    few, more = (np.asarray(model(inputs_of(model, images, [n, 100]))) for n in (30, 60))
    assert np.abs(few[0] - more[0]).max() > 1e-3
    np.testing.assert_allclose(few[1], more[1], atol=1e-6)


def test_a_u_net_sees_the_counts_and_not_what_1_stands_for(rng):
    """Half of the image at the double of the counts is the same image."""
    model = awake(UNetConfig((4, 6), (1, 1)))
    images = rng.uniform(size=(2, 16, 16, 1))
    output, half = (
        np.asarray(model(inputs_of(model, images / n, np.array([50, 400]) * n)))
        for n in (1, 2)
    )
    np.testing.assert_allclose(2 * half, output, rtol=1e-4, atol=1e-5)


def test_a_u_net_joins_each_stride_with_itself():
    """What went down meets what comes up, of the same sides and channels."""
    model = build(UNetConfig((4, 6, 8), (1, 1, 1), stabilised=False))
    sums = [
        [branch.shape[-1] for branch in each.input] for each in of_kind(model, layers.Add)
    ]
    # A block at each stride down, then a sum of both branches and a block at each one up.
    assert sums == [[4, 4], [6, 6], [8, 8], [6, 6], [6, 6], [4, 4], [4, 4]]
    strides = [conv.strides for conv in of_kind(model, layers.Conv2D)]
    assert strides.count((2, 2)) == 2
    assert len(of_kind(model, layers.Conv2DTranspose)) == 2


@pytest.mark.parametrize("stabilised", [True, False])
def test_a_saved_or_folded_u_net_predicts_the_same(stabilised, tmp_path, rng):
    model = awake(UNetConfig((4, 6), (1, 1), stabilised=stabilised))
    inputs = inputs_of(model, rng.uniform(size=(2, 16, 32, 1)), [30, 300])
    model.save(tmp_path / "unet.keras")
    loaded = keras.models.load_model(tmp_path / "unet.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    np.testing.assert_array_equal(fold_batch_norms(model)(inputs), model(inputs))


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


@pytest.mark.parametrize(
    ("features", "blocks"), [((8, 8), (1,)), ((), ()), ((4,) * 5, (1,) * 5)]
)
def test_u_nets_of_impossible_strides_are_refused(features, blocks):
    with pytest.raises(ValueError, match="features and blocks must be of the same length"):
        UNetConfig(features, blocks)
