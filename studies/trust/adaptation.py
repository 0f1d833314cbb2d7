"""What `Denoiser.adapt` gains and costs, and the eight symmetries, beside the true error.

    python studies/trust/adaptation.py CORPUS -o studies/results/adaptation.csv

CORPUS is a folder of micrographs with a `manifest.csv`; of its validation split, one image
of each source and modality is taken, its middle of 512 x 512 pixels. The other specimens
are drawn here; weaves, fringes and stripes resemble nothing that the shipped network was
trained on. Each is exposed to 60 and to 600 counts at its brightest pixel, denoised by the
shipped network, adapted to, and denoised again, with the true gain of 1. The error is the
mean squared one in squares of counts, to the truth. Seconds are those of the clock, and of
the processor, which count less what else runs on the machine.

One row is written as soon as it is done, and rows that are there are not made again.
"""

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from emdn import Denoiser, read_micrograph
from emdn.detector import Detector
from emdn.scaling import to_unit
from emdn.specimens.fields import Image
from emdn.specimens.micrographs import film, lattice, membranes
from emdn.specimens.scenes import leaves, texture

SIDE = 512  # pixels
SIDE_OF_BEST = 256  # pixels, on which the eight symmetries are timed and scored
DOSES = (60.0, 600.0)  # counts at the brightest pixel
SEED = 2026
COLUMNS: tuple[str, ...] = (
    "specimen",
    "kind",
    "counts",
    "mse_before",
    "mse_after",
    "change",
    "kept",
)
COLUMNS += ("standard_errors", "seconds", "cpu_seconds")
COLUMNS += ("change_of_best", "cpu_fast", "cpu_best")


def weave(period: float) -> Image:
    """Draw threads that pass over and under each other, turned by 0.3 radians."""
    y, x = np.indices((SIDE, SIDE)).astype(float)
    v, u = (
        (y * np.cos(0.3) - x * np.sin(0.3)) / period,
        (y * np.sin(0.3) + x * np.cos(0.3)),
    )
    u = u / period
    over = (np.floor(v) + np.floor(u)) % 2 > 0
    warp, weft = np.abs(np.sin(np.pi * v)), np.abs(np.sin(np.pi * u))
    threads = np.where(over, warp * (1 - 0.3 * weft), 0.8 * weft * (1 - 0.3 * warp))
    return to_unit(gaussian_filter(0.2 + threads, 0.7))


def fringes(period: float) -> Image:
    """Draw three crossing lattice fringes, as of a crystal in HRTEM."""
    y, x = np.indices((SIDE, SIDE)).astype(float)
    turns = 0.2 + np.arange(3) * np.pi / 3
    waves = [np.cos(2 * np.pi * (x * np.cos(t) + y * np.sin(t)) / period) for t in turns]
    return to_unit(np.sum(waves, axis=0) + 0.2 * np.cos(2 * np.pi * x / 90))


def stripes(period: float) -> Image:
    """Draw bent stripes of two phases."""
    y, x = np.indices((SIDE, SIDE)).astype(float)
    phase = (x + 0.35 * y + 4 * np.sin(y / 40)) / period
    return to_unit(np.tanh(3 * np.sin(2 * np.pi * phase)))


def empty() -> Image:
    """Return a film without anything in it, half as bright as the brightest pixel."""
    return np.full((SIDE, SIDE), 0.5, np.float32)


def drawn(function: Callable[..., Image], **settings: float) -> Callable[[], Image]:
    """Return what draws a specimen of emdn from a seed."""
    return lambda: function((SIDE, SIDE), np.random.default_rng(SEED), **settings)


SPECIMENS: dict[str, tuple[str, Callable[[], Image]]] = {
    "lattice of 7 pixels": ("periodic", drawn(lattice, spacing=7.0)),
    "weave of 8.3 pixels": ("periodic", lambda: weave(8.3)),
    "fringes of 5.3 pixels": ("periodic", lambda: fringes(5.3)),
    "empty film": ("other", empty),
    "texture": ("other", drawn(texture)),
    "stripes of 10 pixels": ("periodic", lambda: stripes(10.0)),
    "membranes": ("other", drawn(membranes)),
    "weave of 15 pixels": ("periodic", lambda: weave(15.0)),
    "lattice of 12 pixels": ("periodic", drawn(lattice, spacing=12.0)),
    "film": ("other", drawn(film)),
    "leaves": ("other", drawn(leaves)),
}


def validation(corpus: Path) -> dict[str, tuple[str, Callable[[], Image]]]:
    """Return one micrograph of each source and modality of the validation split."""
    with (corpus / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "val"]
    first = {(row["source"], row["modality"]): row for row in reversed(rows)}

    def middle(file: str) -> Image:
        image, _ = read_micrograph(corpus / file)
        starts = [max(0, (length - SIDE) // 2) for length in image.shape]
        rows, columns = (slice(start, start + SIDE) for start in starts)
        return to_unit(image[rows, columns].astype(np.float64))

    return {
        Path(row["file"]).stem: (
            "periodic" if "atomic" in row["modality"] else "other",
            lambda file=row["file"]: middle(file),
        )
        for row in first.values()
    }


def mse(image: NDArray, truth: NDArray) -> float:
    """Return the mean squared error in squares of counts."""
    return float(np.mean(np.square(image.astype(np.float64) - truth)))


def score_best(noisy: NDArray, truth: NDArray) -> dict[str, float]:
    """Return what the eight symmetries gain, and the processor time of both qualities."""
    middle = (slice(SIDE // 2 - SIDE_OF_BEST // 2, SIDE // 2 + SIDE_OF_BEST // 2),) * 2
    errors, seconds = [], []
    for quality in ("fast", "best"):
        noise_remover = Denoiser(quality=quality)
        noise_remover.denoise(noisy[middle], detector=Detector(1.0))  # compiles
        begun = time.process_time()
        denoised = noise_remover.denoise(noisy[middle], detector=Detector(1.0))
        seconds.append(time.process_time() - begun)
        errors.append(mse(denoised, truth[middle]))
    return {
        "change_of_best": errors[1] / errors[0] - 1,
        "cpu_fast": seconds[0],
        "cpu_best": seconds[1],
    }


def score(name: str, kind: str, clean: Image, counts: float) -> dict[str, object]:
    """Return a row of the results."""
    truth = counts * clean.astype(np.float64)
    noisy = np.random.default_rng(SEED).poisson(truth)
    shipped = Denoiser()
    before = mse(shipped.denoise(noisy, gain=1.0), truth)
    begun = time.process_time()
    adaptation = shipped.adapt(noisy, gain=1.0)
    cpu = time.process_time() - begun
    after = mse(adaptation.denoiser.denoise(noisy, gain=1.0), truth)
    z = (adaptation.after - adaptation.before) / adaptation.error
    row: dict[str, object] = {"specimen": name, "kind": kind, "counts": counts}
    row |= {"mse_before": before, "mse_after": after, "change": after / before - 1}
    row |= {"kept": adaptation.kept, "standard_errors": z}
    row |= {"seconds": adaptation.seconds, "cpu_seconds": cpu}
    row |= score_best(noisy, truth)
    return {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}


def main() -> None:
    """Write the rows that are missing, and print a table of Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    if not options.output.exists():
        options.output.write_text(",".join(COLUMNS) + "\n")
    with options.output.open() as file:
        done = {(row["specimen"], float(row["counts"])) for row in csv.DictReader(file)}
    for counts in DOSES:
        for name, (kind, draw) in (validation(options.corpus) | SPECIMENS).items():
            if (name, counts) not in done:
                row = score(name, kind, draw(), counts)
                with options.output.open("a") as file:
                    file.write(",".join(str(row[name]) for name in COLUMNS) + "\n")
    with options.output.open() as file:
        lines = list(csv.reader(file))
    lines.insert(1, ["---"] * len(COLUMNS))
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))


if __name__ == "__main__":
    main()
