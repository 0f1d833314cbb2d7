r"""Grow a U-Net by one level, without a change of what it computes.

    python studies/weights/grow.py auto runs/grown.keras --features 192 --blocks 2

The new level lies below the others, at twice their largest stride. Its weights are random,
but for zeros where it joins them: in the transposed convolution that leads back up, and in
the second convolution of each residual block after it. So a training starts from what the
small network had learnt. The script stops if outputs for a noisy micrograph by formula
differ.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from keras import layers

from emdn.networks import build
from emdn.networks.unet import UNET, UNetConfig
from emdn.noise import noisy_pair
from emdn.specimens.micrographs import membranes
from emdn.weights import load, read_model

SEED = 4  # of the random weights
TOLERANCE = 1e-6  # of outputs in [0, 1], by which sums of float32 may differ
CONVOLUTIONS = (layers.Conv2D, layers.Conv2DTranspose)


def grown(small: keras.Model, config: UNetConfig, larger: UNetConfig) -> keras.Model:
    """Return a network of one more level that computes what a small one does."""
    keras.utils.set_random_seed(SEED)
    large = build(larger)
    olds, news = ([x for x in m.layers if type(x) in CONVOLUTIONS] for m in (small, large))
    # The first layer, and on the way down two convolutions a block and one between levels.
    above = 1 + 2 * sum(config.blocks) + len(config.blocks) - 1
    inserted = len(news) - len(olds)
    for old, new in zip(olds, news[:above] + news[above + inserted :], strict=True):
        new.set_weights(old.get_weights())
    added = news[above : above + inserted]
    back_up = 1 + 2 * larger.blocks[-1]  # after the way down and the blocks at the bottom
    for layer in (added[back_up], *added[back_up + 2 :: 2]):
        layer.set_weights([np.zeros_like(each) for each in layer.get_weights()])
    return large


def difference(first: Path | str, second: Path | str) -> float:
    """Return how far outputs for a noisy micrograph differ at most."""
    rng = np.random.default_rng(0)
    noisy, _, gain = noisy_pair(membranes((256, 256), rng), 60.0, rng)
    outputs = [load(path)(noisy[np.newaxis], gain) for path in (first, second)]
    return float(np.abs(outputs[0] - outputs[1]).max())


def main() -> None:
    """Write the larger network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("small", help="auto, or a file of a network like UNET")
    parser.add_argument("large", type=Path, help="file to write")
    parser.add_argument("--features", type=int, required=True, help="channels of the level")
    parser.add_argument("--blocks", type=int, required=True, help="its residual blocks")
    arguments = parser.parse_args()
    larger = replace(
        UNET,
        features=(*UNET.features, arguments.features),
        blocks=(*UNET.blocks, arguments.blocks),
    )
    grown(read_model(arguments.small), UNET, larger).save(arguments.large)
    found = difference(arguments.small, arguments.large)
    print(f"{arguments.large}: outputs differ by {found:.1e} at most")
    if not found <= TOLERANCE:
        raise SystemExit(f"more than {TOLERANCE}; the networks are not the same function")


if __name__ == "__main__":
    main()
