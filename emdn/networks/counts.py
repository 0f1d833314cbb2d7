"""A network that is handed the gain: its image becomes stabilised counts and back again."""

from collections.abc import Callable

import keras
from keras import layers

from emdn.networks.layers import Stabilise, Tensor, Unstabilise


def build_on_counts(predict_noise: Callable[[Tensor], Tensor]) -> keras.Model:
    """Build a gain-aware network that subtracts the noise of stabilised counts.

    Parameters
    ----------
    predict_noise : callable
        What returns the noise of (N, H, W, 1) stabilised images, of deviation 1 /
        `emdn.networks.layers.UNIT`.

    Returns
    -------
    keras.Model
        A network of two inputs: the image, and the counts that a pixel of 1 stands for.
        Both ends are float32 in any precision: an image in half precision has more
        rounding than noise.
    """
    noisy = keras.Input((None, None, 1), name="noisy")
    counts = keras.Input((), name="counts")
    stabilised = Stabilise(dtype="float32")(noisy, counts)
    less_noise = layers.Subtract(dtype="float32")([stabilised, predict_noise(stabilised)])
    clean = Unstabilise(dtype="float32")(less_noise, counts)
    return keras.Model([noisy, counts], clean, name="denoiser")
