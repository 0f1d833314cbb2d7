"""Which library runs a network, and in which precision: ONNX Runtime, ncnn or TensorFlow.

ONNX Runtime starts in a fifth of TensorFlow's time, takes a third of its memory and is as
fast on processors. ncnn runs U-Nets there in about two thirds of that time, by Winograd's
algorithm, with 170 MB more memory. TensorFlow runs on graphics cards, and is the language
of training.
"""

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

Backend = Literal["auto", "ncnn", "onnx", "tensorflow"]
"""What runs a network, see `choose_backend`."""

Library = Literal["ncnn", "onnx", "tensorflow"]
"""A library that runs networks."""

Precision = Literal["auto", "float32", "bfloat16"]
"""The numbers that a network computes with, see `choose_precision`."""

Run = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
"""What takes (N, h, w, 1) tiles and (N,) gains, and returns denoised tiles."""

BFLOAT16 = {"avx512_bf16", "amx_bf16"}
"""Flags of processors that multiply bfloat16, as Linux names them.

On others TensorFlow takes 2.8 times as long as in float32 or refuses, so they stay there.
"""

CPUINFO = Path("/proc/cpuinfo")  # where Linux tells them

# Where Linux shows the driver of a graphics card: Nvidia's, and that of Windows below it.
DRIVERS = ("dev/nvidia[0-9]*", "dev/dxg")

# The threads that a user allows, as most libraries and as TensorFlow read it.
THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")

# Whether threads of OpenMP sleep or turn in circles while they wait for each other.
WAITING = "OMP_WAIT_POLICY"


def choose_backend(backend: Backend = "auto") -> Library:
    """Return the library that runs a network of which both kinds of file are there.

    Parameters
    ----------
    backend : {"auto", "ncnn", "onnx", "tensorflow"}
        "auto" is TensorFlow where this process has loaded it already, or where it is
        installed and there is the driver of a graphics card. Elsewhere it is ncnn where
        that is installed, for networks that it runs, and else ONNX Runtime.

    Raises
    ------
    ValueError
        If there is no such backend.
    ModuleNotFoundError
        If what the backend needs is not installed.
    """
    if backend not in get_args(Backend):
        names = ", ".join(get_args(Backend))
        raise ValueError(f"backend must be one of {names}, got {backend!r}")
    if backend == "tensorflow":
        require_training("backend tensorflow")
    if backend == "ncnn" and not has_ncnn():
        remedy = 'pip install "emdn[fast]" (from a clone: ".[fast]") brings both'
        raise ModuleNotFoundError(f"backend ncnn needs ncnn and onnx; {remedy}")
    if backend != "auto":
        return backend
    loaded = sys.modules.get("tensorflow") is not None
    if loaded or (has_gpu_driver() and is_installed("tensorflow")):
        return "tensorflow"
    return "ncnn" if has_ncnn() else "onnx"


def choose_precision(
    precision: Precision, *, tensorflow: bool, cpuinfo: str | None = None
) -> Literal["float32", "bfloat16"]:
    """Return the numbers that a network computes with.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16"}
        "auto" is bfloat16 where TensorFlow runs the network on a processor that multiplies
        such numbers. It halves the time; the mean squared error grows by 1e-4 of itself.
    tensorflow : bool
        Whether TensorFlow runs the network. The others get no bfloat16 on processors.
    cpuinfo : str, optional
        What Linux tells of the processor; by default that of this machine.

    Raises
    ------
    ValueError
        If there is no such precision, or bfloat16 is wanted where it would be slower.
    """
    if precision not in get_args(Precision):
        names = ", ".join(get_args(Precision))
        raise ValueError(f"precision must be one of {names}, got {precision!r}")
    if precision == "float32" or (precision == "auto" and not tensorflow):
        return "float32"
    if cpuinfo is None:
        cpuinfo = CPUINFO.read_text() if CPUINFO.is_file() else ""
    capable = tensorflow and not BFLOAT16.isdisjoint(cpuinfo.split())
    if precision == "bfloat16" and not capable:
        raise ValueError(
            "precision bfloat16 needs backend tensorflow and a processor with "
            f"{' or '.join(sorted(BFLOAT16))}; use float32"
        )
    return "bfloat16" if capable and not has_gpu_driver() else "float32"


def is_installed(module: str) -> bool:
    """Return whether a module could be imported, without loading it."""
    spec = find_spec(module)
    return spec is not None and spec.origin is not None  # a folder of that name has none


def has_ncnn() -> bool:
    """Return whether ncnn is installed, and the package onnx that reads networks for it."""
    return is_installed("ncnn") and is_installed("onnx")


def has_gpu_driver() -> bool:
    """Return whether this machine shows the driver of a graphics card."""
    return any(True for pattern in DRIVERS for _ in Path("/").glob(pattern))


def require_training(what: str, *modules: str) -> None:
    """Say in one line which extra brings TensorFlow, where it is not installed.

    Parameters
    ----------
    what : str
        What needs it, the subject of the sentence.
    *modules : str
        The modules that it needs, by default TensorFlow and Keras.

    Raises
    ------
    ModuleNotFoundError
        If one of them is not installed.
    """
    for module in modules or ("tensorflow", "keras"):
        if not is_installed(module):
            remedy = 'pip install "emdn[train]" (from a clone: ".[train]") brings both'
            raise ModuleNotFoundError(
                f"{what} needs TensorFlow and Keras; {remedy}", name=module
            )


def threads() -> int:
    """Return how many threads one image may take.

    As many as OMP_NUM_THREADS says, or TF_NUM_INTRAOP_THREADS; without them, as this
    process may use processors, which a cluster's scheduler may have limited.
    """
    for name in THREADS:
        if (told := os.environ.get(name, "").partition(",")[0]).isdigit() and int(told) > 0:
            return int(told)
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_by_onnx(path: Path) -> tuple[Run, bool, str]:
    """Load an ONNX file into ONNX Runtime.

    Parameters
    ----------
    path : Path
        What `emdn.networks.onnx_graph.write_onnx` wrote.

    Returns
    -------
    callable
        What runs the network.
    bool
        Whether the network is gain-aware.
    str
        The library and its version.

    Raises
    ------
    ValueError
        If the file is damaged, or its network is none from image to image.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors, which are raised anyway
    options.intra_op_num_threads = threads()
    # Else threads would turn in circles, at full load, while they wait for the next tile.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        inputs, outputs = _ends(session.get_inputs()), _ends(session.get_outputs())
    except Exception as error:  # a damaged file raises errors of the library's own kinds
        raise ValueError(
            f"{path}: is no network as an ONNX file, or is damaged "
            f"({type(error).__name__}); name another file"
        ) from error
    image, counts = ("float", None, None, None, 1), ("float", None)
    known = {"noisy": image}, {"noisy": image, "counts": counts}
    if inputs not in known or outputs != {"denoised": image}:
        raise ValueError(
            f"{path}: must hold a network that emdn export or emdn train wrote, from "
            f"images of any size and one channel to the like; this one takes {inputs} and "
            f"returns {outputs}"
        )
    gain_aware = len(inputs) > 1

    def run(tiles: NDArray[np.float32], gains: NDArray[np.float32]) -> NDArray[np.float32]:
        given: dict[str, Any] = {"noisy": np.ascontiguousarray(tiles)}
        if gain_aware:
            given["counts"] = 1 / gains
        (denoised,) = session.run(None, given)
        return np.asarray(denoised)

    return run, gain_aware, f"onnxruntime {onnxruntime.__version__}"


def _ends(tensors: Any) -> dict[str, tuple[Any, ...]]:
    """Return, by name, the type of inputs or outputs and their sizes, None if any fits."""
    return {
        each.name: (
            each.type.removeprefix("tensor(").removesuffix(")"),
            *(size if isinstance(size, int) else None for size in each.shape),
        )
        for each in tensors
    }


def run_by_ncnn(path: Path) -> tuple[Run, bool, str]:
    """Load an ONNX file into ncnn, which computes in float32 by Winograd's algorithm.

    Parameters
    ----------
    path : Path
        What `emdn.networks.onnx_graph.write_onnx` wrote.

    Returns
    -------
    callable
        What runs the network.
    bool
        Whether the network is gain-aware.
    str
        The library and its version.

    Raises
    ------
    ValueError
        If the file is damaged, or its network is none that ncnn runs faster.
    """
    from emdn.weights.ncnn_graph import to_ncnn  # imports onnx, which takes 0.3 s

    ncnn = _import_ncnn()
    try:
        network = to_ncnn(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    net = ncnn.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = False  # of half precision
    net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    net.opt.num_threads = threads()
    net.opt.openmp_blocktime = 0  # ms for which threads turn in circles, see _import_ncnn
    net.load_param_mem(network.text)
    net.load_model_mem(network.weights)

    def run(tiles: NDArray[np.float32], gains: NDArray[np.float32]) -> NDArray[np.float32]:
        denoised = np.empty_like(tiles)
        for tile, gain, result in zip(tiles, gains, denoised, strict=True):
            given = {"noisy": np.ascontiguousarray(tile.transpose(2, 0, 1))}
            if network.gain_aware:
                given["counts"] = 1 / gain[np.newaxis]
            extractor = net.create_extractor()
            for name, values in given.items():  # of which ncnn makes no copy
                extractor.input(name, ncnn.Mat(values))
            fault, found = extractor.extract(network.denoised)
            if fault:
                height, width = tile.shape[:2]
                raise MemoryError(
                    f"ncnn has not enough memory for a tile of {height} x {width} pixels; "
                    "use a smaller tile_size"
                )
            result[...] = np.asarray(found).transpose(1, 2, 0)
        return denoised

    return run, network.gain_aware, f"ncnn {ncnn.__version__}"


def _import_ncnn() -> Any:
    """Import ncnn so that its threads sleep while they wait, unless a user says otherwise.

    Else they turn in circles: on a machine that does other work too, two threads then take
    twice the time of one. OpenMP reads the variable once, when its library is loaded.
    """
    told = WAITING in os.environ
    if not told:
        os.environ[WAITING] = "passive"
    try:
        import ncnn  # pyright: ignore[reportMissingImports]
    finally:
        if not told:
            del os.environ[WAITING]
    return ncnn


def run_by_tensorflow(
    model: "keras.Model", precision: Literal["float32", "bfloat16"] = "float32"
) -> tuple[Run, bool, str]:
    """Fold a model's normalisations and make a graph of it.

    Parameters
    ----------
    model : keras.Model
        A network of `emdn.networks.build`; later changes of it change nothing.
    precision : {"float32", "bfloat16"}
        The numbers that all layers but the first and the last compute with.

    Returns
    -------
    callable
        What runs the network.
    bool
        Whether the network is gain-aware.
    str
        The library and its version.
    """
    import tensorflow as tf

    from emdn.networks.inference import (
        fold_batch_norms,
        gain_aware,
        in_bfloat16,
        remove_noise,
    )

    folded = fold_batch_norms(model)
    if precision == "bfloat16":
        folded = in_bfloat16(folded)
    shapes = ((None, None, None, 1), (None,))  # of tiles and gains
    function = tf.function(
        lambda tiles, gain: remove_noise(folded, tiles, gain, training=False),
        input_signature=[tf.TensorSpec(shape, tf.float32) for shape in shapes],
        autograph=False,
        jit_compile=False,  # XLA compiles for a minute on CPUs and is slower there
    )

    def run(tiles: Any, gains: Any) -> NDArray[np.float32]:
        return function(tiles, gains).numpy()

    return run, gain_aware(model), f"tensorflow {tf.__version__}"
