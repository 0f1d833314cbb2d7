"""DnCNN has the sizes that its authors published, and sees as far."""

import keras
import numpy as np
import pytest
from helpers.graphs import of_kind, predict, trainable
from keras import layers

from emdn.networks import build
from emdn.networks.dncnn import DNCNN, DnCNNConfig
from emdn.networks.inference import count_macs


def stack(depth, features):
    return build(DnCNNConfig(depth, features))


@pytest.mark.parametrize(("depth", "features"), [(2, 3), (3, 4), (5, 16), (17, 64)])
def test_the_network_has_the_convolutions_and_channels_of_its_sizes(depth, features):
    convs = of_kind(stack(depth, features), layers.Conv2D)
    assert [conv.filters for conv in convs] == [features] * (depth - 1) + [1]
    assert {conv.kernel_size for conv in convs} == {(3, 3)}


@pytest.mark.parametrize(("depth", "features"), [(2, 3), (3, 4), (5, 16), (17, 64)])
def test_the_network_has_the_parameters_of_the_formula(depth, features):
    first = 9 * features + features  # kernel and bias
    inner = 9 * features**2 + 2 * features  # kernel, gain and offset
    last = 9 * features + 1
    expected = first + (depth - 2) * inner + last
    assert trainable(stack(depth, features)) == expected
    if (depth, features) == (17, 64):
        assert expected == 556_097  # DnCNN's 0.56 million
        assert trainable(build(DNCNN)) == expected


@pytest.mark.parametrize("depth", [2, 3, 5, 17])
def test_the_network_sees_twice_its_depth_and_one_pixel(depth):
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


def test_the_network_subtracts_the_noise_that_it_predicts(rng):
    model = stack(3, 4)
    images = rng.uniform(size=(2, 16, 32, 1)).astype(np.float32)
    last = of_kind(model, layers.Conv2D)[-1]
    noise = keras.Model(model.input, last.output)
    np.testing.assert_array_equal(predict(model, images), images - predict(noise, images))
    last.kernel.assign(np.zeros(last.kernel.shape))
    last.bias.assign([0.25])
    np.testing.assert_allclose(predict(model, images), images - 0.25, atol=1e-6)


def test_the_network_normalises_with_its_decay():
    model = build(DnCNNConfig(5, 4, batch_norm_decay=0.75))
    norms = of_kind(model, layers.BatchNormalization)
    assert [norm.momentum for norm in norms] == [0.75] * 3


def test_its_operations_are_those_of_its_kernels():
    weights = 9 * (4 + 4 * 4 + 4)
    assert count_macs(stack(3, 4), (32, 16)) == 32 * 16 * weights


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"depth": 1}, "depth must be at least 2, got 1"),
        ({"features": 0}, "features must be at least 1, got 0"),
        ({"batch_norm_decay": 1.0}, "batch_norm_decay must be at least 0 and below 1"),
    ],
    ids=str,
)
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        DnCNNConfig(**sizes)
