"""DnCNN: a plain stack of convolutions that predicts the noise, to compare with."""

from dataclasses import dataclass

import keras
from keras import layers

from emdn.networks.layers import FusedBatchNormalization, Tensor


@dataclass(frozen=True)
class DnCNNConfig:
    """Sizes of DnCNN. The defaults are those of its authors.

    The paper found such networks weaker than its own (section 5).

    Parameters
    ----------
    depth : int
        Number of 3 x 3 convolutions, at least 2. Together they see squares of
        ``2 depth + 1`` pixels: 35 x 35 by the default.
    features : int
        Channels of all convolutions but the last.
    batch_norm_decay : float
        Share of the old moving statistics that a training step keeps, from 0 to 1.

    Raises
    ------
    ValueError
        If a size is too small, or the decay is not a share.

    References
    ----------
    K. Zhang, W. Zuo, Y. Chen, D. Meng and L. Zhang, "Beyond a Gaussian denoiser: residual
    learning of deep CNN for image denoising", IEEE Transactions on Image Processing 26
    (2017), 3142-3155.
    """

    depth: int = 17
    features: int = 64
    batch_norm_decay: float = 0.99

    def __post_init__(self) -> None:
        if self.depth < 2:
            raise ValueError(f"depth must be at least 2, got {self.depth}")
        if self.features < 1:
            raise ValueError(f"features must be at least 1, got {self.features}")
        if not 0 <= self.batch_norm_decay < 1:
            raise ValueError(
                "batch_norm_decay must be at least 0 and below 1, "
                f"got {self.batch_norm_decay}"
            )


DNCNN = DnCNNConfig()


def predict_noise(image: Tensor, config: DnCNNConfig) -> Tensor:
    """Return the noise of an image, found by a stack of 3 x 3 convolutions."""
    x = layers.Conv2D(config.features, 3, padding="same", activation="relu")(image)
    for _ in range(config.depth - 2):
        x = layers.Conv2D(config.features, 3, padding="same", use_bias=False)(x)
        x = FusedBatchNormalization(momentum=config.batch_norm_decay, epsilon=1e-3)(x)
        x = layers.Activation("relu")(x)
    return layers.Conv2D(1, 3, padding="same")(x)


def build(config: DnCNNConfig) -> keras.Model:
    """Build the network for images of any size: the image less its noise."""
    noisy = keras.Input((None, None, 1), name="noisy")
    clean = layers.Subtract()([noisy, predict_noise(noisy, config)])
    return keras.Model(noisy, clean, name="denoiser")
