"""The networks: each in a file that reads from top to bottom, all built by `build`.

layers --> ede2019, unet, dncnn --build--> keras.Model --inference--> fewer operations
"""

import keras

from emdn.networks.dncnn import DNCNN, DnCNNConfig, stack_of_convolutions
from emdn.networks.ede2019 import PAPER, SMALL, TINY, Ede2019Config, encode_and_decode
from emdn.networks.unet import UNET, UNetConfig, u_net

STRIDE = 16  # the sides of an input are multiples of it
AnyConfig = Ede2019Config | DnCNNConfig | UNetConfig
CONFIGS: dict[str, AnyConfig] = {
    "PAPER": PAPER,
    "SMALL": SMALL,
    "TINY": TINY,
    "DNCNN": DNCNN,
    "UNET": UNET,
}


def build(config: AnyConfig = PAPER) -> keras.Model:
    """Build a network with random weights.

    Kernels are drawn by Xavier's uniform rule and biases are zero, Keras's defaults and the
    paper's choice; `keras.utils.set_random_seed` makes them reproducible. The last kernel
    of a U-Net is zero.

    Parameters
    ----------
    config : Ede2019Config, DnCNNConfig or UNetConfig
        Sizes and variants.

    Returns
    -------
    keras.Model
        Takes and returns float32 images of shape (N, H, W, 1), H and W multiples of 16,
        scaled to about [0, 1]. One that works on stabilised counts takes a list of images
        and of the counts that their 1 stands for, shape (N,); 0 then stands for no counts.
    """
    image = keras.Input((None, None, 1), name="noisy")
    if isinstance(config, UNetConfig):
        return u_net(image, config)
    shallow = isinstance(config, DnCNNConfig)
    output = (
        stack_of_convolutions(image, config)
        if shallow
        else encode_and_decode(image, config)
    )
    return keras.Model(image, output, name="denoiser")
