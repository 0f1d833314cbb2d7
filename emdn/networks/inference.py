"""A network at work: called, its normalisations folded away, its operations counted."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from emdn.networks.layers import Tensor

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.Conv2DTranspose)


def gain_aware(model: keras.Model) -> bool:
    """Return whether a network is handed the gain beside the image; else it is blind."""
    return len(model.inputs) > 1


def remove_noise(
    model: keras.Model, noisy: Tensor, gain: Tensor, *, training: bool
) -> Tensor:
    """Run a network, gain-aware or blind.

    Parameters
    ----------
    model : keras.Model
        A network of `emdn.networks.build`.
    noisy : (N, H, W, 1) float32 tensor
        Images scaled to about [0, 1].
    gain : (N,) float32 tensor
        What one electron adds to a pixel of each image. A blind network ignores it.
    training : bool
        Whether batch normalisations use the statistics of these images.

    Returns
    -------
    (N, H, W, 1) tensor
        Denoised images.
    """
    return model([noisy, 1 / gain] if gain_aware(model) else noisy, training=training)


def output_shapes(
    model: keras.Model, some: Sequence[keras.Layer], shape: tuple[int, int]
) -> list[tuple[int, ...]]:
    """Return the shapes of what some layers make of one image.

    Parameters
    ----------
    model : keras.Model
        A network of `emdn.networks.build`.
    some : sequence of keras.Layer
        Layers of the network.
    shape : tuple of 2 int
        Height and width of the image, multiples of 16.
    """
    part = keras.Model(model.inputs, [layer.output for layer in some])
    image, gain = (1, *shape, 1), (1,)
    return part.compute_output_shape([image, gain] if gain_aware(model) else image)


def count_macs(model: keras.Model, shape: tuple[int, int] = (512, 512)) -> int:
    """Count the multiply-accumulate operations (MAC) of all convolutions.

    Other layers are left out: normalisations fold into convolutions, and the interpolation
    in `PAPER` is 0.02 % of its total.

    Parameters
    ----------
    model : keras.Model
        A network of `emdn.networks.build`.
    shape : tuple of 2 int
        Height and width of the image, multiples of 16.

    Examples
    --------
    >>> from emdn.networks import build
    >>> from emdn.networks.ede2019 import TINY
    >>> print(f"{count_macs(build(TINY), (64, 64)) / 1e6:.1f} million")
    10.7 million
    """
    convs = [layer for layer in model.layers if isinstance(layer, CONVOLUTIONS)]
    macs = 0
    for conv, output in zip(convs, output_shapes(model, convs, shape), strict=True):
        uses = output[1] * output[2]  # of each weight in the kernel
        if isinstance(conv, layers.Conv2DTranspose):  # it visits input pixels instead
            uses //= conv.strides[0] * conv.strides[1]
        kernel: Any = conv.kernel  # (h, w, in, out), or with ends swapped, or (h, w, in, 1)
        macs += uses * math.prod(kernel.shape)
    return macs


def fold_batch_norms(model: keras.Model) -> keras.Model:
    """Return a network that predicts the same with fewer operations.

    At inference a batch normalisation is a fixed affine map of each channel, so one that
    follows a convolution can be multiplied into its kernel and added to its bias.

    Parameters
    ----------
    model : keras.Model
        A network of `emdn.networks.build`, trained or not; it is left alone.

    Returns
    -------
    keras.Model
        A network for inference only. Normalisations that follow no convolution stay.
    """
    affine = _affine_maps(model)
    folded_norms = {norm for _, _, norms in affine.values() for norm in norms}

    def clone(layer: keras.Layer) -> keras.Layer:
        bias = {"use_bias": True} if layer.name in affine else {}
        return type(layer).from_config({**layer.get_config(), **bias})

    def call(layer: keras.Layer, x: Any, *rest: Any, **options: Any) -> Any:
        return x if layer.name in folded_norms else layer(x, *rest, **options)

    folded = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in model.layers:
        weights = layer.get_weights()
        if layer.name in affine:
            scale, offset, _ = affine[layer.name]
            # A convolution's kernel ends in (..., out), the two others' in (..., out, *).
            plain = type(layer) is layers.Conv2D
            kernel = weights[0] * (scale if plain else scale[:, np.newaxis])
            bias = weights[1] if layer.use_bias else np.zeros_like(offset)
            weights = [kernel, bias * scale + offset]
        if layer.name not in folded_norms:
            folded.get_layer(layer.name).set_weights(weights)
    return folded


IMAGE_CHANNELS = 4
"""Channels of an image at most, whose squares of 2 x 2 pixels may have become channels."""


def in_bfloat16(model: keras.Model) -> keras.Model:
    """Return a network that computes with bfloat16, but for its two ends.

    Layers that take or return an image stay float32: in bfloat16, which has eight binary
    digits, an image has more rounding than noise.

    Parameters
    ----------
    model : keras.Model
        A network of `emdn.networks.build`, of float32 layers; it is left alone.

    Returns
    -------
    keras.Model
        A network for inference only.
    """

    def clone(layer: keras.Layer) -> keras.Layer:
        ends: list[Any] = [*keras.tree.flatten(layer.input), layer.output]
        image = any(
            len(end.shape) > 0 and (end.shape[-1] or 0) <= IMAGE_CHANNELS for end in ends
        )
        plain = image or not isinstance(layer, layers.Layer)  # a slice has no type
        kind = {} if plain else {"dtype": "mixed_bfloat16"}
        return type(layer).from_config({**layer.get_config(), **kind})

    half = keras.models.clone_model(model, clone_function=clone)
    for layer in model.layers:
        half.get_layer(layer.name).set_weights(layer.get_weights())
    return half


def _affine_maps(model: keras.Model) -> dict[str, tuple[NDArray, NDArray, list[str]]]:
    """Return scale, offset and names of the normalisations that follow each convolution."""
    maps, source = {}, {}
    for norm in model.layers:
        if not isinstance(norm, layers.BatchNormalization):
            continue
        tensor: Any = norm.input
        before = tensor._keras_history.operation
        conv = source.get(before.name, before)
        if not isinstance(conv, CONVOLUTIONS):
            continue
        gamma, beta, mean, variance = norm.get_weights()
        factor = gamma / np.sqrt(variance + norm.epsilon)
        scale, offset, norms = maps.get(conv.name, (1.0, 0.0, []))
        maps[conv.name] = (
            scale * factor,
            (offset - mean) * factor + beta,
            [*norms, norm.name],
        )
        source[norm.name] = conv
    return maps
