"""The trained networks that ship, and how any trained network is loaded.

    .onnx --ncnn or ONNX Runtime--> Network          .keras --TensorFlow--> Network

Each network ships twice: as Keras saved it, to train on and to look into, and as the ONNX
graph of it, to run. Beside both lies the model card; ``SHA256SUMS`` holds the hashes.
"""

import json
import os
import zipfile
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from emdn.files import sha256
from emdn.weights.backends import (
    Backend,
    Library,
    Precision,
    Run,
    choose_backend,
    choose_precision,
    has_ncnn,
    require_training,
    run_by_ncnn,
    run_by_onnx,
    run_by_tensorflow,
)

if TYPE_CHECKING:
    import keras

WEIGHTS = Path(__file__).parent
Name = Literal["auto", "compact", "low", "ordinary"]
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
    backend : str
        The library that runs the network, its version, and the precision.
    """

    path: Path
    run: Run
    gain_aware: bool
    backend: str

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
        denoised = self.run(tiles[..., np.newaxis], gains)[..., 0]
        if not np.isfinite(denoised).all():
            raise ValueError(
                f"{self.path}: the network returned NaN or infinite pixels, so the file is "
                "damaged or its training diverged; use other weights"
            )
        return denoised


_loading = Lock()
# By file, the library and the one that stands in for it, and precision.
_loaded: dict[tuple[Path, tuple[Library, ...], str], tuple[tuple[int, int], Network]] = {}
_process: int | None = None  # the one in which a network was first loaded


def load(
    weights: Name | str | PathLike[str],
    *,
    backend: Backend = "auto",
    precision: Precision = "float32",
) -> Network:
    """Load a trained network, once in a process, as a function of tiles.

    A file that has changed since is loaded again.

    Parameters
    ----------
    weights : {"auto", "compact", "low", "ordinary"} or path
        Weights that ship, or a file: a network of `emdn.networks.build` that
        ``model.save`` wrote, ``.keras``, or `emdn train` or `emdn export`, ``.onnx``.
    backend : {"auto", "ncnn", "onnx", "tensorflow"}
        What runs the network, see `find`. By "auto", ONNX Runtime stands in for ncnn where
        that does not run the network.
    precision : {"auto", "float32", "bfloat16"}
        The numbers that it computes with, see `emdn.weights.backends.choose_precision`.

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
        If the file is damaged, its network is none from image to image, or the backend or
        the precision is none for it.
    ModuleNotFoundError
        If what the backend needs is not installed.
    RuntimeError
        If the process was forked from one that had loaded a network.
    """
    global _process
    path = find(weights, backend)
    numbers = choose_precision(precision, tensorflow=not _is_onnx(path))
    _refuse_fork()
    with _loading:
        _process = os.getpid()
        status = path.stat()
        stamp = status.st_mtime_ns, status.st_size
        key = path, _libraries(path, backend), numbers
        if key not in _loaded or _loaded[key][0] != stamp:
            _loaded[key] = stamp, _load(*key)
        return _loaded[key][1]


def _libraries(path: Path, backend: Backend) -> tuple[Library, ...]:
    """Return what runs a file, and what stands in where that does not run its network."""
    if not _is_onnx(path):
        return ("tensorflow",)
    if backend == "auto":
        return ("ncnn", "onnx") if has_ncnn() else ("onnx",)
    return (choose_backend(backend),)


def _load(
    path: Path, libraries: tuple[Library, ...], precision: Literal["float32", "bfloat16"]
) -> Network:
    if "tensorflow" in libraries:
        require_training(f"{path}, a Keras file,")
        return compile_network(path, read_model(path), precision)
    _refuse_altered(path)
    run, gain_aware, library = _run_graph(path, libraries)
    return Network(path, run, gain_aware, f"{library}, {precision}")


def _run_graph(path: Path, libraries: tuple[Library, ...]) -> tuple[Run, bool, str]:
    if "ncnn" in libraries:
        try:
            return run_by_ncnn(path)
        except ValueError:
            if "onnx" not in libraries:
                raise
    return run_by_onnx(path)


def read_model(weights: Name | str | PathLike[str]) -> "keras.Model":
    """Read a trained network as a Keras model, whichever version of Keras wrote it.

    Parameters
    ----------
    weights : {"auto", "compact", "low", "ordinary"} or path
        Weights that ship, or a Keras file: a network of `emdn.networks.build` that
        ``model.save`` wrote. Of an ONNX file, the Keras file of the same name beside it.

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
    ModuleNotFoundError
        If Keras, or what it is set to, is not installed.
    """
    path = trained_file(weights)
    require_training(f"{path}, a Keras file,", "keras")
    # TensorFlow takes seconds to import, so it waits until a network is needed.
    import keras

    import emdn.networks.layers  # noqa: F401  (Keras must know them to load a network)

    _refuse_altered(path)
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


def shipped_hashes(suffix: Literal[".keras", ".onnx"] = ".keras") -> dict[str, str]:
    """Return the SHA-256 of the weights that ship, by file name.

    Parameters
    ----------
    suffix : {".keras", ".onnx"}
        Whether of the files that were trained, or of those made from them.
    """
    lines = (WEIGHTS / "SHA256SUMS").read_text().splitlines()
    named = (line.split() for line in lines)
    return {name: digest for digest, name in named if name.endswith(suffix)}


def find(weights: str | PathLike[str], backend: Backend = "auto") -> Path:
    """Return the file that holds some weights for what runs them.

    Parameters
    ----------
    weights : {"auto", "compact", "low", "ordinary"} or path
        Weights that ship, of which there is a file for either backend, or a file.
    backend : {"auto", "ncnn", "onnx", "tensorflow"}
        What runs the network: of weights that ship, as
        `emdn.weights.backends.choose_backend` says. ONNX Runtime and ncnn run files that
        end in ``.onnx``, TensorFlow those of Keras.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is none for the backend.
    ModuleNotFoundError
        If what the backend needs is not installed.
    """
    chosen = choose_backend(backend)
    if weights in NAMES:
        return WEIGHTS / f"{weights}.{'keras' if chosen == 'tensorflow' else 'onnx'}"
    path = Path(weights).absolute()
    if not path.is_file():
        raise FileNotFoundError(
            f"{weights}: does not exist; name a file saved by model.save, "
            f"or one of {', '.join(NAMES)}"
        )
    if backend != "auto" and _is_onnx(path) == (backend == "tensorflow"):
        suffix = ".keras" if backend == "tensorflow" else ".onnx"
        raise ValueError(f"{weights}: backend {backend} runs files that end in {suffix}")
    return path


def trained_file(weights: str | PathLike[str]) -> Path:
    """Return the Keras file of some weights, which can be trained on.

    Parameters
    ----------
    weights : {"auto", "compact", "low", "ordinary"} or path
        Weights that ship, or a file. Of an ONNX file, the Keras file of the same name is
        meant, which `emdn train` leaves beside it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    if weights in NAMES:
        return WEIGHTS / f"{weights}.keras"
    path = find(weights)
    trained = path.with_suffix(".keras") if _is_onnx(path) else path
    if not trained.is_file():
        raise FileNotFoundError(
            f"{path}: an ONNX file cannot be trained on, and no {trained.name} is beside it"
        )
    return trained


def _is_onnx(path: Path) -> bool:
    return path.suffix == ".onnx"


def _refuse_altered(path: Path) -> None:
    """Refuse a file among those that ship whose hash is another."""
    if path.parent != WEIGHTS:
        return
    shipped = shipped_hashes(".onnx" if _is_onnx(path) else ".keras")
    if sha256(path) != shipped.get(path.name):
        raise ValueError(
            f"{path}: is not the file that was released, by its SHA-256; install emdn again"
        )


def _refuse_fork() -> None:
    """Refuse what would wait for ever: the threads of a network do not survive a fork."""
    if _process not in (None, os.getpid()):
        raise RuntimeError(
            "this process was forked from one that had loaded a network, whose threads do "
            "not survive that; start processes by the method spawn or forkserver"
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


def compile_network(
    path: Path,
    model: "keras.Model",
    precision: Literal["float32", "bfloat16"] = "float32",
) -> Network:
    """Make a function of a Keras model, which TensorFlow runs.

    Parameters
    ----------
    path : Path
        File that the model, or what it was made from, was read from.
    model : keras.Model
        A network of `emdn.networks.build`; later changes of it change nothing.
    precision : {"float32", "bfloat16"}
        The numbers that it computes with.
    """
    run, gain_aware, library = run_by_tensorflow(model, precision)
    return Network(path, run, gain_aware, f"{library}, {precision}")
