"""Compare emdn, as one calls it, with filters that guess the noise, for several detectors.

    python studies/weights/detectors.py CORPUS --split val -o detectors.csv

CORPUS is a folder of micrographs with a `manifest.csv`, see `detector.py`. Micrographs are
exposed by each detector at its doses, at most two crops of a source. The error is the mean
squared one to the image without noise as the detector would record it, relative to the
squared range of that image, and its mean over the crops. Compared are, on the same images:

- emdn without a word about the detector, and emdn with the true one;
- Gaussian, total variation, wavelets and non-local means, which estimate the deviation of
  the noise (`skimage.restoration.estimate_sigma`), with their default setting and with the
  one of `STRENGTHS` that is best on the training split for that row. All are clipped as
  emdn clips, to the range of the noisy image.

Prints a table of Markdown, and writes one row for a detector, dose and method.
"""

import argparse
import csv
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from detector import CLIPPED, SEED, micrographs, recorded
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.restoration import (
    denoise_nl_means,
    denoise_tv_chambolle,
    denoise_wavelet,
    estimate_sigma,
)

from emdn import Denoiser
from emdn.detector import Detector

SIDE = 256  # pixels
QUALITY = 90  # of JPEG

# Name of the row, detector in `detector.py`, electrons at the brightest pixel.
ROWS = (
    ("counter", "counter", (60.0, 400.0)),
    ("sparse counter", "counter", (1.0, 5.0)),
    ("CCD", "CCD", (60.0, 400.0)),
    ("CCD with a point spread", "CCD with a point spread", (60.0, 400.0)),
    ("scintillator", "scintillator", (60.0, 400.0)),
    ("scintillator with readout", "scintillator with readout", (60.0, 400.0)),
    ("scintillator with a tail", "scintillator with a tail", (60.0, 400.0)),
    ("slow amplifier", "slow amplifier", (60.0, 400.0)),
    ("8 bit", "8 bit", (60.0, 400.0)),
    ("8 bit, clipped", "8 bit, clipped", (60.0, 400.0)),
    ("JPEG", "8 bit", (60.0, 400.0)),
)


class Exposure(NamedTuple):
    """A noisy image, the image without noise, and the detector, all in one unit."""

    noisy: NDArray[np.float32]
    clean: NDArray[np.float32]
    detector: Detector


def expose(
    row: str, name: str, scale: float, clean: NDArray, rng: np.random.Generator
) -> Exposure:
    """Return what a detector and a file format make of a specimen in [0, 1]."""
    noisy, detector = recorded(name, clean, scale, rng)
    if row == "JPEG":
        file = io.BytesIO()
        Image.fromarray(noisy.astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
        noisy = np.asarray(Image.open(file)).astype(np.float32)
    elif name not in CLIPPED:
        noisy = np.round(noisy)  # as files of integers hold it
    return Exposure(noisy, detector.expected(scale * clean), detector)


# Each takes an image in [0, 1], the deviation of its noise and a strength.
FILTERS: dict[str, Callable[[Any, float, float], Any]] = {
    "Gaussian": lambda image, _, strength: gaussian_filter(image, strength),
    "total variation": lambda image, sigma, strength: denoise_tv_chambolle(
        image, weight=strength * sigma
    ),
    "wavelets": lambda image, sigma, strength: denoise_wavelet(
        image, sigma=strength * sigma, rescale_sigma=True
    ),
    "non-local means": lambda image, sigma, strength: denoise_nl_means(
        image, h=0.8 * strength * sigma, sigma=strength * sigma, fast_mode=True
    ),
}
STRENGTHS = {  # the first one is the default
    "Gaussian": (1.0, 0.5, 0.7, 1.4, 2.0, 2.8, 4.0),
    "total variation": (1.0, 0.5, 0.7, 1.4, 2.0, 2.8, 4.0),
    "wavelets": (1.0, 0.7, 1.4, 2.0, 2.8, 4.0),
    "non-local means": (1.0, 0.7, 1.4, 2.0, 2.8, 4.0),
}


def filtered(exposure: Exposure, name: str, strength: float) -> float:
    """Return the error of a filter."""
    noisy = exposure.noisy.astype(np.float64)
    low, span = noisy.min(), max(np.ptp(noisy), 1e-9)
    image = (noisy - low) / span
    estimated: Any = estimate_sigma(image)
    sigma = max(float(estimated), 1e-6)
    found = FILTERS[name](image, sigma, strength)
    return error(np.clip(found, 0, 1) * span + low, exposure.clean)


def error(found: NDArray, clean: NDArray) -> float:
    """Return the mean squared error relative to the squared range of the truth."""
    return float(np.mean((found.astype(np.float64) - clean) ** 2) / np.ptp(clean) ** 2)


def exposures(crops: list[NDArray], row: str, name: str, scale: float) -> list[Exposure]:
    """Expose all crops."""
    rng = np.random.default_rng(SEED)
    return [expose(row, name, scale, crop, rng) for crop in crops]


def compare(
    images: list[Exposure], training: list[Exposure], denoiser: Denoiser
) -> dict[str, tuple[float, float | None]]:
    """Return the mean error, and the strength if there is one, of each method."""
    noisy = [error(each.noisy, each.clean) for each in images]
    measured = [error(denoiser.denoise(each.noisy), each.clean) for each in images]
    told = [
        error(denoiser.denoise(each.noisy, detector=each.detector), each.clean)
        for each in images
    ]
    found: dict[str, tuple[float, float | None]] = {
        "noisy": (float(np.mean(noisy)), None),
        "emdn": (float(np.mean(measured)), None),
        "emdn, told": (float(np.mean(told)), None),
    }
    for name, strengths in STRENGTHS.items():
        tuned = min(strengths, key=lambda s: sum(filtered(e, name, s) for e in training))
        for label, strength in ((name, strengths[0]), (f"{name}, tuned", tuned)):
            errors = [filtered(each, name, strength) for each in images]
            found[label] = (float(np.mean(errors)), strength)
    return found


def main() -> None:
    """Expose, denoise, and write and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--split", choices=["val", "train"], default="val")
    parser.add_argument("-o", "--output", type=Path, default=Path("detectors.csv"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of images that show no noise, which are counted too
    crops: dict[str, list[NDArray]] = {"train": [], "val": []}
    for split, clean in micrographs(arguments.corpus, SIDE):
        crops[split].append(clean)
    denoiser, table = Denoiser(), []
    print("| detector | electrons | noisy | best filter | | emdn | told | emdn / filter |")
    print("|---|---|---|---|---|---|---|---|")
    for row, name, scales in ROWS:
        for scale in scales:
            images = exposures(crops[arguments.split], row, name, scale)
            training = exposures(crops["train"], row, name, scale)
            found = compare(images, training, denoiser)
            for method, (mean, strength) in found.items():
                head = {"detector": row, "scale": scale, "split": arguments.split}
                head |= {"crops": len(images), "side": SIDE, "seed": SEED}
                table.append(head | {"method": method, "strength": strength, "mse": mean})
            print(line(row, scale, found), flush=True)
    with arguments.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerows(each | {"mse": f"{each['mse']:.4g}"} for each in table)


def line(row: str, scale: float, found: dict[str, tuple[float, float | None]]) -> str:
    """Return a row of the printed table; errors in thousandths."""
    ours = ("noisy", "emdn", "emdn, told")
    best = min((each for each in found if each not in ours), key=lambda n: found[n][0])
    noisy, emdn, told, rival = (1e3 * found[each][0] for each in (*ours, best))
    return (
        f"| {row} | {scale:g} | {noisy:.2f} | {rival:.2f} | {best} | {emdn:.2f} "
        f"| {told:.2f} | {emdn / rival:.2f} |"
    )


if __name__ == "__main__":
    main()
