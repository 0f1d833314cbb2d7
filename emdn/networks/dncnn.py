"""DnCNN, a plain stack of convolutions, to compare with."""

from dataclasses import dataclass
from typing import Any

from keras import layers

from emdn.networks.layers import FusedBatchNormalization


@dataclass(frozen=True)
class DnCNNConfig:
    """Sizes of a plain stack of convolutions that predicts the noise, as DnCNN does.

    The paper found such networks weaker than its own (section 5).

    Parameters
    ----------
    depth : int
        Number of 3 x 3 convolutions. DnCNN's 17 see 35 x 35 pixels.
    features : int
        Channels of all but the last.
    batch_norm_decay : float
        Share of the old moving statistics that a training step keeps.

    References
    ----------
    K. Zhang, W. Zuo, Y. Chen, D. Meng and L. Zhang, "Beyond a Gaussian denoiser: residual
    learning of deep CNN for image denoising", IEEE Transactions on Image Processing 26
    (2017), 3142-3155.
    """

    depth: int = 17
    features: int = 64
    batch_norm_decay: float = 0.99


DNCNN = DnCNNConfig()


def stack_of_convolutions(image: Any, config: DnCNNConfig) -> Any:
    """Take a noise off that 3 x 3 convolutions find."""
    decay = config.batch_norm_decay
    x = layers.Conv2D(config.features, 3, padding="same", activation="relu")(image)
    for _ in range(config.depth - 2):
        x = layers.Conv2D(config.features, 3, padding="same", use_bias=False)(x)
        x = FusedBatchNormalization(momentum=decay, epsilon=1e-3)(x)
        x = layers.Activation("relu")(x)
    return layers.Subtract()([image, layers.Conv2D(1, 3, padding="same")(x)])
