"""The trained networks that ship, and how any trained network is loaded.

Beside each ``.keras`` file lies its model card, and ``SHA256SUMS`` holds the hashes.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

WEIGHTS = Path(__file__).parent


@dataclass(frozen=True)
class Network:
    """A trained network as a function of tiles.

    Parameters
    ----------
    run : callable
        Takes (N, h, w, 1) float32 tiles and (N,) gains, and returns tiles.
    gain_aware : bool
        Whether the network is told the gain, what one electron adds to a pixel of a tile.
    """

    run: Callable[[Any, Any], Any]
    gain_aware: bool

    def __call__(self, tiles: NDArray[np.float32], gain: float) -> NDArray[np.float32]:
        """Return (N, h, w) tiles without their noise."""
        each = np.full(len(tiles), gain, np.float32)
        return self.run(tiles[..., np.newaxis], each).numpy()[..., 0]


@cache
def load(path: Path) -> Network:
    """Load a Keras file, once in a process, as a function of tiles.

    Parameters
    ----------
    path : Path
        A network of `emdn.networks.build`, saved by ``model.save``.

    Returns
    -------
    Network
        Its batch normalisations are folded into the convolutions and its graph is compiled.
    """
    # TensorFlow takes seconds to import, so it waits until a network is needed.
    import keras
    import tensorflow as tf

    import emdn.networks.layers  # noqa: F401  (Keras must know them to load a network)
    from emdn.networks.inference import fold_batch_norms

    if not path.is_file():
        raise FileNotFoundError(f"{path}: does not exist; name a file saved by model.save")
    if path.parent == WEIGHTS and sha256(path) != shipped_hashes()[path.name]:
        raise ValueError(
            f"{path}: is not the file that was released, by its SHA-256; install emdn again"
        )
    try:
        model: Any = keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError, BadZipFile) as error:
        raise ValueError(f"{path}: is no network saved by model.save") from error
    folded = fold_batch_norms(model)
    gain_aware = len(model.inputs) > 1
    shapes = ((None, None, None, 1), (None,))  # of tiles and gains
    run = tf.function(
        lambda tiles, gain: folded(
            [tiles, 1 / gain] if gain_aware else tiles, training=False
        ),
        input_signature=[tf.TensorSpec(shape, tf.float32) for shape in shapes],
        autograph=False,
        jit_compile=False,  # XLA compiles for a minute on CPUs and is slower there
    )
    return Network(run, gain_aware)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shipped_hashes() -> dict[str, str]:
    """Return the SHA-256 of the weights that ship, by file name."""
    lines = (WEIGHTS / "SHA256SUMS").read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}
