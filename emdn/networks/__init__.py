"""The networks: each in a file that reads from top to bottom, all built by `build`.

layers --> counts --> ede2019, unet, dncnn --build--> keras.Model --inference--> fewer
operations
"""

import keras

from emdn.networks import dncnn, ede2019, unet
from emdn.networks.dncnn import DNCNN, DnCNNConfig
from emdn.networks.ede2019 import COMPACT, PAPER, SMALL, TINY, Ede2019Config
from emdn.networks.unet import UNET, UNetConfig

STRIDE = 16
"""The sides of an image are multiples of it, in pixels."""

AnyConfig = Ede2019Config | DnCNNConfig | UNetConfig
CONFIGS: dict[str, AnyConfig] = {
    "PAPER": PAPER,
    "SMALL": SMALL,
    "COMPACT": COMPACT,
    "TINY": TINY,
    "DNCNN": DNCNN,
    "UNET": UNET,
}
"""The sizes that recipes may name."""


def build(config: AnyConfig = PAPER) -> keras.Model:
    """Build a network with random weights.

    Kernels are drawn by Xavier's uniform rule and biases are zero, Keras's defaults and the
    paper's choice; `keras.utils.set_random_seed` makes them reproducible. The last kernel
    of a U-Net is zero.

    Parameters
    ----------
    config : Ede2019Config, DnCNNConfig or UNetConfig
        Sizes and variants of the network.

    Returns
    -------
    keras.Model
        A network that takes and returns float32 images of shape (N, H, W, 1), H and W
        multiples of 16, scaled to about [0, 1]. A gain-aware network takes a list of
        the images and of the counts that a pixel of 1 stands for, shape (N,);
        `emdn.networks.inference.remove_noise` calls either kind.
    """
    match config:
        case Ede2019Config():
            return ede2019.build(config)
        case DnCNNConfig():
            return dncnn.build(config)
        case UNetConfig():
            return unet.build(config)
