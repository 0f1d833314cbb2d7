r"""Make trained networks ready to ship: average, round, compress and hash their weights.

    python studies/weights/ship.py auto runs/any-dose/denoiser.keras \
        runs/any-dose-2/denoiser.keras

Where one training started from another, the mean of their weights is a network that is
often better than both. Eleven binary digits are kept of each weight, as many as float16
has. That halves the file and changes its results by 1e-3 of their error. The script prints
how much the output for a noisy micrograph by formula changes.
"""

import argparse
import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from numpy.typing import NDArray

from emdn.files import sha256
from emdn.networks.onnx_graph import write_onnx
from emdn.noise import noisy_pair
from emdn.specimens.micrographs import membranes
from emdn.weights import NAMES, WEIGHTS, load, read_model

HELD = "model.weights.h5"  # the part of a Keras file that holds the weights
DIGITS = 11
"""Leading binary digits of a weight that are kept, of the 24 that float32 has."""


def rounded(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep the leading binary digits of each number."""
    mantissa, exponent = np.frexp(weights)
    return np.ldexp(np.round(np.ldexp(mantissa, DIGITS)), exponent - DIGITS)


def compress(path: Path) -> None:
    """Pack a Keras file again, with compression and without the times of its parts."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[HELD] = shuffled(parts[HELD])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def shuffled(weights: bytes) -> bytes:
    """Return a file of HDF5 whose numbers are packed byte by byte, in less space.

    The last bytes of rounded weights are zero.
    """
    packed = io.BytesIO()
    with h5py.File(io.BytesIO(weights)) as source, h5py.File(packed, "w") as target:

        def copy(name: str, each: Any) -> None:
            if isinstance(each, h5py.Dataset):
                options = {"compression": 9, "shuffle": True} if each.size else {}
                target.create_dataset(name, data=each[()], **options)
            else:
                target.require_group(name)
            for key, value in each.attrs.items():
                target[name].attrs[key] = value

        source.visititems(copy)
        for key, value in source.attrs.items():
            target.attrs[key] = value
    return packed.getvalue()


def averaged(paths: list[Path]) -> keras.Model:
    """Return a network with the mean of the weights of several."""
    models = [read_model(path) for path in paths]
    weights = zip(*(model.get_weights() for model in models), strict=True)
    models[0].set_weights([np.mean(each, axis=0) for each in weights])
    return models[0]


def outputs(path: Path) -> NDArray[np.float32]:
    """Return what a network makes of a noisy micrograph by formula, (1, 256, 256)."""
    rng = np.random.default_rng(0)
    noisy, _, gain = noisy_pair(membranes((256, 256), rng), 60.0, rng)
    return load(path, backend="tensorflow")(noisy[np.newaxis], gain)


def main() -> None:
    """Write the file and the list of hashes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=NAMES, help="name of the weights")
    parser.add_argument("trained", type=Path, nargs="+", help="networks to average")
    arguments = parser.parse_args()
    shipped = WEIGHTS / f"{arguments.name}.keras"
    model = averaged(arguments.trained)
    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder) / "exact.keras"
        model.save(exact)
        before = outputs(exact)
    model.set_weights([rounded(each) for each in model.get_weights()])
    model.save(shipped)
    compress(shipped)
    write_onnx(model, shipped.with_suffix(".onnx"))
    paths = sorted(path for name in NAMES for path in WEIGHTS.glob(f"{name}.[ko]*"))
    lines = [f"{sha256(path)}  {path.name}\n" for path in paths]
    (WEIGHTS / "SHA256SUMS").write_text("".join(lines))

    size, change = shipped.stat().st_size / 1e6, np.ptp(outputs(shipped) - before)
    print(f"{shipped.name}: {size:.1f} MB, outputs differ by {change:.1e}")


if __name__ == "__main__":
    main()
