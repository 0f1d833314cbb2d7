"""Measure the memory that `emdn denoise` takes for stacks of different length.

    python studies/speed/stack_memory.py --images 10 300 --side 1024 --weights low

Each stack is written as TIFF of uint16, image by image, into a temporary folder, and
denoised by the command in a process of its own. Prints a row for each: images, bytes of the
stack, peak memory of the process, seconds. The peak should not depend on the number of
images.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from emdn.io import write_frames
from emdn.specimens.micrographs import membranes


def main() -> None:
    """Make the stacks, denoise them and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[10, 300])
    parser.add_argument("--side", type=int, default=1024, help="pixels")
    parser.add_argument("--weights", default="auto")
    arguments = parser.parse_args()
    print("| images | stack, MB | peak memory, MB | seconds |\n|---|---|---|---|")
    for images in arguments.images:
        with tempfile.TemporaryDirectory() as folder:
            stack = Path(folder) / "stack.tif"
            write_stack(stack, images, arguments.side)
            size = stack.stat().st_size / 1e6
            peak, seconds = denoise(stack, arguments.weights)
        print(f"| {images} | {size:.0f} | {peak:.0f} | {seconds:.0f} |", flush=True)


def write_stack(path: Path, images: int, side: int) -> None:
    """Write a movie of one specimen at 60 counts in the brightest pixel."""
    rng = np.random.default_rng(0)
    clean = membranes((side, side), rng)
    frames = (rng.poisson(60 * clean).astype(np.uint16) for _ in range(images))
    write_frames(path, frames, (images, side, side), np.uint16)


def denoise(stack: Path, weights: str) -> tuple[float, float]:
    """Run the command; return its peak memory in MB and the seconds that it took."""
    code = "from emdn.cli import app; app()"
    command = [sys.executable, "-c", code, "denoise", str(stack), "--weights", weights]
    begun = time.perf_counter()
    process = os.posix_spawn(
        sys.executable,
        command,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(process, 0)
    if status:
        raise RuntimeError(f"emdn denoise failed with status {status}")
    return usage.ru_maxrss / 1e3, time.perf_counter() - begun


if __name__ == "__main__":
    main()
