"""The U-Net has the sizes of its formula, and begins as the identity."""

import keras
import numpy as np
import pytest
from helpers.graphs import network, of_kind, predict, trainable
from keras import layers

from emdn.networks import build
from emdn.networks.inference import count_macs, fold_batch_norms, gain_aware
from emdn.networks.unet import UNET, UNetConfig, residual_block


def test_a_residual_block_adds_to_what_it_gets(rng):
    """Nothing where its last kernel is zero; all of its own kernels are 3 x 3."""
    model = network(residual_block, 5)
    images = rng.normal(size=(2, 8, 6, 5)).astype(np.float32)
    assert not np.allclose(predict(model, images), images)
    first, last = of_kind(model, layers.Conv2D)
    inner = keras.Model(model.input, first.output)
    assert predict(inner, images).min() == 0  # a ReLU
    difference = predict(model, images) - images
    assert difference.min() < -0.01  # and none at the end
    last.kernel.assign(np.zeros(last.kernel.shape))
    np.testing.assert_array_equal(predict(model, images), images)
    assert trainable(model) == 2 * (9 * 5 * 5 + 5)


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
    return [images, np.asarray(counts, np.float32)] if gain_aware(model) else images


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


@pytest.mark.parametrize(
    ("features", "blocks"), [((8, 8), (1,)), ((), ()), ((4,) * 5, (1,) * 5)]
)
def test_u_nets_of_impossible_strides_are_refused(features, blocks):
    with pytest.raises(ValueError, match="features and blocks must be of the same length"):
        UNetConfig(features, blocks)


def test_a_u_net_without_channels_is_refused():
    with pytest.raises(ValueError, match="features must be at least 1"):
        UNetConfig((8, 0), (1, 1))
