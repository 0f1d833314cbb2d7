"""Measure the memory and the time that images of growing size take in pieces.

    python studies/speed/large_memory.py --sides 2048 4096 --network auto
    python studies/speed/large_memory.py --sides 4096 8192 16384 --network none

Each image, single precision, is written a few rows at a time into a temporary folder and
denoised in pieces by a process of its own. ``none`` stands for a network that returns what
it is shown, so that all but the network is measured. Times are of the processor, all
threads together, which other jobs on a machine hardly change. Rows are added to
``emdn/benchmark/results/large_memory.json``.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import emdn
from emdn import Denoiser
from emdn.batch import Batch, Job, denoise_file
from emdn.io import write_bands
from emdn.specimens.micrographs import membranes
from emdn.weights import Network

RESULTS = Path(emdn.__file__).parent / "benchmark" / "results" / "large_memory.json"
PATCH = 1024  # pixels at a side of the specimen that fills an image


class Unchanged(Denoiser):
    """A denoiser whose network returns what it is shown."""

    network = Network(Path("none"), lambda tiles, _: tiles, gain_aware=True, backend="none")


def main() -> None:
    """Denoise images of each size in a process of their own, and note what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[2048], help="pixels")
    parser.add_argument("--network", choices=["auto", "none"], default="auto")
    parser.add_argument("--suffix", choices=["tif", "mrc", "npy", "zarr"], default="tif")
    parser.add_argument("--child", nargs=2, metavar=("NOISY", "DENOISED"))
    arguments = parser.parse_args()
    if arguments.child:
        denoise(*map(Path, arguments.child), arguments.network)
        return
    for side in arguments.sides:
        row = measure(side, arguments.network, arguments.suffix)
        print(json.dumps(row), flush=True)
        rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
        rows.append(row)
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


def measure(side: int, network: str, suffix: str) -> dict[str, object]:
    """Return a row of results for a square image."""
    with tempfile.TemporaryDirectory() as folder:
        noisy = Path(folder) / f"noisy.{suffix}"
        write_image(noisy, side)
        command = [sys.executable, __file__, "--network", network]
        command += ["--child", str(noisy), str(noisy.with_stem("denoised"))]
        begun = time.perf_counter()
        told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        seconds = time.perf_counter() - begun
    peak, processor = map(float, told.split())
    pixels = side**2 / 1e6
    return {
        "side": side,
        "network": network,
        "format": suffix,
        "image_mb": round(4 * pixels, 1),
        "peak_mb": round(peak, 1),
        "processor_seconds": round(processor, 2),
        "processor_seconds_per_megapixel": round(processor / pixels, 4),
        "wall_seconds": round(seconds, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def write_image(path: Path, side: int) -> None:
    """Write a noisy specimen, repeated, of 60 counts in the brightest pixel."""
    rng = np.random.default_rng(0)
    patch = rng.poisson(60 * membranes((PATCH, PATCH), rng)).astype(np.float32)
    across = np.tile(patch, (1, -(-side // PATCH)))[:, :side]
    bands = (across[: side - top] for top in range(0, side, PATCH))
    write_bands(path, bands, (side, side), np.float32)


def denoise(noisy: Path, denoised: Path, network: str) -> None:
    """Denoise a file in pieces; print the peak of memory, MB, and seconds after loading."""
    kind = Denoiser if network == "auto" else Unchanged
    noise_remover = kind(progress=False)
    noise_remover.denoise_tiles(np.zeros((2, 576, 576), np.float32), 0.01)  # loads it
    begun = resource.getrusage(resource.RUSAGE_SELF)
    list(denoise_file(Job(noisy, denoised), noise_remover, Batch(in_pieces=True)))
    ended = resource.getrusage(resource.RUSAGE_SELF)
    used = ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime
    print(ended.ru_maxrss * 1024 / 1e6, used)


if __name__ == "__main__":
    main()
