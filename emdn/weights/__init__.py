"""The trained networks that ship, and how any trained network is loaded.

Beside each ``.keras`` file lies its model card, and ``SHA256SUMS`` holds the hashes.
"""

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from emdn.files import sha256

if TYPE_CHECKING:
    import keras

WEIGHTS = Path(__file__).parent
Name = Literal["auto", "low", "ordinary"]
NAMES: tuple[Name, ...] = get_args(Name)

MOST_CONFIG_BYTES = 2**24
"""Largest configuration of a network that is read; that of `PAPER` has 0.7 MB."""

NEW_IN_KERAS = {
    "input_axes": None,  # 3.15, in initialisers
    "output_axes": None,  # 3.15, in initialisers
    "renorm": False,  # 3.14, in batch normalisations, as the two below
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
}
"""What recent versions of Keras write into files and older ones refuse, with defaults."""


@dataclass(frozen=True)
class Network:
    """A trained network as a function of tiles.

    Parameters
    ----------
    path : Path
        File that the network was loaded from.
    run : callable
        Function that takes (N, h, w, 1) float32 tiles and (N,) gains, and returns tiles.
    gain_aware : bool
        Whether the network uses the gain; a blind one ignores it.
    """

    path: Path
    run: Callable[[Any, Any], Any]
    gain_aware: bool

    def __call__(self, tiles: NDArray[np.float32], gain: float) -> NDArray[np.float32]:
        """Remove the noise of some tiles.

        Parameters
        ----------
        tiles : (N, h, w) float32 array
            Tiles of one image, scaled to about [0, 1]; sides are multiples of 16.
        gain : float
            What one electron adds to a pixel of a tile.

        Returns
        -------
        (N, h, w) float32 array
            Denoised tiles.

        Raises
        ------
        ValueError
            If a pixel of the result is NaN or infinite.
        RuntimeError
            If the process was forked from one that had loaded a network.
        """
        _refuse_fork()
        gains = np.full(len(tiles), gain, np.float32)
        denoised = self.run(tiles[..., np.newaxis], gains).numpy()[..., 0]
        if not np.isfinite(denoised).all():
            raise ValueError(
                f"{self.path}: the network returned NaN or infinite pixels, so the file is "
                "damaged or its training diverged; use other weights"
            )
        return denoised


_loading = Lock()
_loaded: dict[Path, tuple[tuple[int, int], Network]] = {}  # with time and size of the file
_process: int | None = None  # the one in which a network was first loaded


def load(weights: Name | str | PathLike[str]) -> Network:
    """Load a trained network, once in a process, as a function of tiles.

    A file that has changed since is loaded again.

    Parameters
    ----------
    weights : {"auto", "low", "ordinary"} or path
        Weights that ship, or a Keras file: a network of `emdn.networks.build` that
        ``model.save`` wrote.

    Returns
    -------
    Network
        The network, its batch normalisations folded into the convolutions and its graph
        compiled.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or its network is none from image to image.
    RuntimeError
        If the process was forked from one that had loaded a network.
    """
    global _process
    path = find(weights)
    _refuse_fork()
    with _loading:
        _process = os.getpid()
        status = path.stat()
        stamp = status.st_mtime_ns, status.st_size
        if path not in _loaded or _loaded[path][0] != stamp:
            _loaded[path] = stamp, compile_network(path, read_model(path))
        return _loaded[path][1]


def read_model(weights: Name | str | PathLike[str]) -> "keras.Model":
    """Read a trained network as a Keras model, whichever version of Keras wrote it.

    Parameters
    ----------
    weights : {"auto", "low", "ordinary"} or path
        Weights that ship, or a Keras file: a network of `emdn.networks.build` that
        ``model.save`` wrote.

    Returns
    -------
    keras.Model
        The network as it was trained.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or its network is none from image to image.
    """
    # TensorFlow takes seconds to import, so it waits until a network is needed.
    import keras

    import emdn.networks.layers  # noqa: F401  (Keras must know them to load a network)

    path = find(weights)
    if path.parent == WEIGHTS and sha256(path) != shipped_hashes().get(path.name):
        raise ValueError(
            f"{path}: is not the file that was released, by its SHA-256; install emdn again"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("config.json").file_size > MOST_CONFIG_BYTES:
                raise ValueError("the configuration is too large")
            config = _without_news(json.loads(archive.read("config.json")))
        config["compile_config"] = None  # losses and optimizers are of no use here
        model: Any = keras.saving.deserialize_keras_object(config, safe_mode=True)
        model.load_weights(path)
        inputs, outputs = (
            [x.shape for x in ends] for ends in (model.inputs, model.outputs)
        )
    except (
        Exception
    ) as error:  # a damaged file makes Keras and HDF5 raise errors of any kind
        raise ValueError(
            f"{path}: is no network saved by model.save as a .keras file, or is damaged "
            f"({type(error).__name__}); name another file"
        ) from error
    image, gain = (None, None, None, 1), (None,)
    if inputs not in ([image], [image, gain]) or outputs != [image]:
        raise ValueError(
            f"{path}: must hold a network of emdn.networks.build, from images of any size "
            f"and one channel to the like; this one takes {inputs} and returns {outputs}"
        )
    return model


def shipped_hashes() -> dict[str, str]:
    """Return the SHA-256 of the weights that ship, by file name."""
    lines = (WEIGHTS / "SHA256SUMS").read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def find(weights: str | PathLike[str]) -> Path:
    """Return the file that holds some weights."""
    if weights in NAMES:
        return WEIGHTS / f"{weights}.keras"
    path = Path(weights).absolute()
    if not path.is_file():
        raise FileNotFoundError(
            f"{weights}: does not exist; name a file saved by model.save, "
            f"or one of {', '.join(NAMES)}"
        )
    return path


def _refuse_fork() -> None:
    """Refuse what would wait for ever: the threads of TensorFlow do not survive a fork."""
    if _process not in (None, os.getpid()):
        raise RuntimeError(
            "this process was forked from one that had loaded a network, and TensorFlow "
            "does not survive that; start processes by the method spawn or forkserver"
        )


def _without_news(config: Any) -> Any:
    """Return a configuration without what older versions of Keras do not know."""
    if isinstance(config, dict):
        return {
            key: _without_news(value)
            for key, value in config.items()
            if key not in NEW_IN_KERAS or value != NEW_IN_KERAS[key]
        }
    return [_without_news(each) for each in config] if isinstance(config, list) else config


def compile_network(path: Path, model: "keras.Model") -> Network:
    """Fold a model's normalisations and make a graph of it.

    Parameters
    ----------
    path : Path
        File that the model, or what it was made from, was read from.
    model : keras.Model
        A network of `emdn.networks.build`; later changes of it change nothing.
    """
    import tensorflow as tf

    from emdn.networks.inference import fold_batch_norms, gain_aware, remove_noise

    folded = fold_batch_norms(model)
    shapes = ((None, None, None, 1), (None,))  # of tiles and gains
    run = tf.function(
        lambda tiles, gain: remove_noise(folded, tiles, gain, training=False),
        input_signature=[tf.TensorSpec(shape, tf.float32) for shape in shapes],
        autograph=False,
        jit_compile=False,  # XLA compiles for a minute on CPUs and is slower there
    )
    return Network(path, run, gain_aware(model))
