"""Count how often the noise of an image is measured much too strong, or too weak.

    python studies/weights/guard.py CORPUS

CORPUS is a folder of micrographs with a `manifest.csv`, see `detector.py`. A crop is taken
of each of the training and of the validation split; synthetic specimens and photographs of
scikit-image stand beside them. Eight detectors record each at two scales, four of them in
whole grey levels, and the deviation of the noise at three brightnesses is compared with the
truth. Micrographs hold noise of their own, which counts as too much here. So the table is
no measure of accuracy, but changes of the estimator are judged by what becomes of it.

Writes `studies/results/guard.csv`, a row for a detector and scale: the number of images and
of those in which no noise is seen, the mean of the absolute logarithms of the ratios of
measured to true deviation, as if noise were white, and the number of images in which the
geometric mean of the ratios is above 1.5, and below 1 / 1.5. Takes a minute.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import skimage.data
from detector import SEED, specimens
from numpy.typing import NDArray
from skimage.color import rgb2gray

from emdn import read_micrograph
from emdn.data.corpus import read_manifest
from emdn.detector import Detector, estimate_detector
from emdn.scaling import to_unit

RESULT = Path(__file__).parents[1] / "results" / "guard.csv"
SIDE = 256  # pixels
SCALES = (60.0, 400.0)  # electrons at the brightest pixel
BRIGHTNESSES = (0.1, 0.5, 0.9)  # quantiles
MUCH = 1.5
PHOTOGRAPHS = ("astronaut", "brick", "camera", "cat", "coffee", "coins", "grass", "gravel")
PHOTOGRAPHS += ("immunohistochemistry", "moon", "page", "retina", "rocket", "text")

# Name, detector, and whether the file holds whole grey levels.
DETECTORS = {
    "counter": (Detector(1.0), True),
    "camera": (Detector(7.0, 100.0, 1.0), True),
    "camera, 0.47 px": (Detector(7.0, 100.0, 2.0, (0.2, 0.2)), True),
    "scintillator, 0.6 px": (Detector(7.0, 100.0, 0.0, (0.45, 0.45)), False),
    "scintillator, 0.6 px, readout": (Detector(7.0, 100.0, 3.0, (0.45, 0.45)), False),
    "scintillator, 0.72 px": (Detector(7.0, 100.0, 1.0, (0.6, 0.6)), True),
    "slow amplifier": (Detector(7.0, 100.0, 0.0, (0.4, 0.0)), False),
    "scintillator with a tail": (
        Detector(7.0, 100.0, 0.0, (0.5, 0.5), "exponential"),
        False,
    ),
}


def clean_images(corpus: Path) -> Iterator[NDArray[np.float64]]:
    """Yield crops in [0, 1] that are not even."""
    images = [image for _, image in specimens(SIDE)]
    images += [
        rgb2gray(p) if (p := getattr(skimage.data, n)()).ndim == 3 else p
        for n in PHOTOGRAPHS
    ]
    images += [
        read_micrograph(corpus / entry.file)[0]
        for entry in read_manifest(corpus)
        if entry.split != "test"
    ]
    for number, image in enumerate(images):
        rng = np.random.default_rng([SEED, number])
        shape = [min(SIDE, length) for length in image.shape]
        y, x = (
            int(rng.integers(length - side + 1))
            for length, side in zip(image.shape, shape, strict=True)
        )
        crop = image[y : y + shape[0], x : x + shape[1]].astype(np.float64)
        if np.ptp(crop) > 0.05 * np.ptp(image):
            yield to_unit(crop)


def deviations(detector: Detector, levels: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the standard deviation of the noise at grey levels."""
    electrons = np.maximum((levels - detector.offset) / detector.gain, 0)
    return abs(detector.gain) * np.sqrt(electrons + detector.readout**2)


def compare(name: str, clean: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """Return the logarithms of measured over true deviations, infinite if none is seen."""
    detector, whole = DETECTORS[name]
    image = detector.apply(clean * scale, np.random.default_rng(SEED)).astype(np.float64)
    found = estimate_detector(np.round(image) if whole else image)
    levels = np.quantile(detector.expected(clean * scale), BRIGHTNESSES)
    if found is None:
        return np.full(len(levels), -np.inf)
    seen = np.maximum(deviations(found.detector, levels), 1e-3)
    return np.log(seen / deviations(detector, levels).clip(1e-3))


def main() -> None:
    """Print and write a table."""
    images = list(clean_images(Path(sys.argv[1])))
    rows = []
    for name in DETECTORS:
        for scale in SCALES:
            found = np.array([compare(name, image, scale) for image in images])
            means = found.mean(1)
            seen = np.isfinite(means)
            row = {
                "detector": name,
                "scale": scale,
                "images": len(images),
                "none": int((~seen).sum()),
                "error": round(float(np.abs(found[seen]).mean()), 3),
                "much too strong": int((means > np.log(MUCH)).sum()),
                "much too weak": int((seen & (means < -np.log(MUCH))).sum()),
            }
            rows.append(row)
            print(*row.values(), sep="\t", flush=True)
    pd.DataFrame(rows).to_csv(RESULT, index=False, lineterminator="\r\n")


if __name__ == "__main__":
    main()
