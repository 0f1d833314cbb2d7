"""Compare the detector that is measured from one image with the true one.

    python studies/weights/detector.py CORPUS

CORPUS is a folder of micrographs with a `manifest.csv` whose columns `file`, `split` and
`source` say which are for training and which for validation; those of the test split are
not read. Micrographs and synthetic specimens are exposed by several detectors at several
doses, and `estimate_detector` is compared with the truth. At most two crops of a source are
taken, so that no source outvotes the others. Micrographs hold noise of their own, which at
a scale of 1000 counts and more is as strong as the shot noise: what an estimator then finds
more is there.

Writes `studies/results/detector.csv`, one row for a kind of images, detector, scale and
side. Ratios are to the truth and have a median, the 10th and 90th percentile and the one
farthest from 1. `noise` is the variance at the mean of the image, which matters more to a
denoiser than its split into gain and readout noise. Takes about ten minutes of one core.
"""

import csv
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from emdn.detector import Detector, estimate_detector
from emdn.scaling import Scaling
from emdn.specimens import KINDS
from emdn.specimens.scenes import SHARES

SEED = 2026
SIDES = (128, 512)  # pixels
SCALES = (30.0, 100.0, 400.0, 2500.0)  # electrons at the brightest pixel
FROM_A_SOURCE = 2  # crops at most

# Name, detector, and what the file does to the grey levels.
DETECTORS = {
    "counter": Detector(1.0),
    "counter on a pedestal": Detector(1.0, offset=1000.0),
    "CCD": Detector(3.7, readout=3.0),
    "CCD with a point spread": Detector(7.0, 100.0, 2.0, (0.2, 0.2)),
    "scintillator": Detector(7.0, offset=100.0, correlation=(0.445, 0.445)),
    "scintillator with readout": Detector(
        7.0, offset=100.0, readout=1.0, correlation=(0.445, 0.445)
    ),
    "scintillator with a tail": Detector(
        7.0, offset=100.0, readout=0.4, correlation=(0.55, 0.55), mtf="exponential"
    ),
    "slow amplifier": Detector(3.7, correlation=(0.4, 0.0)),
    "inverted": Detector(-1.0, offset=4000.0),
    "8 bit": Detector(1.0),
    "8 bit, clipped": Detector(1.0),
}
# Per cent of the pixels that become black, and white, where a file has 8 bit: none, or as
# many as programs choose that adjust the contrast automatically.
CLIPPED = {"8 bit": 0.0, "8 bit, clipped": 0.175}


def specimens(side: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the kind and the clean image, in [0, 1], of each synthetic specimen."""
    for kind in (*KINDS.values(), *SHARES):
        yield "synthetic", kind((side, side), np.random.default_rng(SEED))


def micrographs(
    corpus: Path, side: int, splits: Collection[str] = ("train", "val")
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the split and the middle of some micrographs, in [0, 1]."""
    with (corpus / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] in splits]
    seen: Counter[str] = Counter()
    for row in rows:
        seen[row["source"]] += 1
        image = tifffile.imread(corpus / row["file"]).astype(np.float32)
        if seen[row["source"]] > FROM_A_SOURCE or min(image.shape) < 0.8 * side:
            continue
        top, left = ((length - min(length, side)) // 2 for length in image.shape)
        crop = image[top : top + side, left : left + side]
        yield row["split"], Scaling.of_range(crop).apply(crop)


def recorded(
    name: str, clean: NDArray[np.float32], scale: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], Detector]:
    """Return an image of a detector, and the detector with its units."""
    detector = DETECTORS[name]
    image = detector.apply(clean * scale, rng)
    if name not in CLIPPED:
        return image, detector
    share = CLIPPED[name]
    dark, bright = map(float, np.percentile(image, [share, 100 - share]))
    stretch = 255 / (bright - dark)
    exported = np.round((image - dark) * stretch).clip(0, 255).astype(np.float32)
    rounding = float(1 / np.sqrt(12) / stretch)
    return exported, Detector(stretch, -dark * stretch, rounding)


def compare(
    name: str, clean: NDArray[np.float32], scale: float, rng: np.random.Generator
) -> dict[str, float]:
    """Return measured over true values for one image."""
    image, truth = recorded(name, clean, scale, rng)
    start = time.process_time()
    found = estimate_detector(image)
    seconds = time.process_time() - start
    nothing = dict.fromkeys(("gain", "noise", "correlation"), np.nan)
    if found is None:
        return {**nothing, "seconds": seconds}
    seen = found.detector
    errors = np.abs(np.subtract(seen.correlation, truth.correlation))
    return {
        "gain": seen.gain / truth.gain,
        "noise": variance(seen, image) / variance(truth, image),
        "correlation": float(errors.max()),
        "seconds": seconds,
    }


def variance(detector: Detector, image: NDArray[np.float32]) -> float:
    """Return the variance, as if not correlated, at the mean of an image."""
    electrons = max(detector.dose(image), 0.0)
    return detector.gain**2 * (electrons + detector.readout**2)


def summary(results: list[dict[str, float]]) -> dict[str, str]:
    """Return what a row of the table says about several images."""
    row: dict[str, str] = {"images": str(len(results))}
    for name in ("gain", "noise"):
        ratios = np.array([each[name] for each in results])
        row[f"{name} missing"] = str(np.isnan(ratios).sum())
        ratios = ratios[np.isfinite(ratios)]
        low, median, high = np.quantile(ratios, [0.1, 0.5, 0.9])
        row[f"{name} p10"], row[f"{name} median"] = f"{low:.3f}", f"{median:.3f}"
        row[f"{name} p90"] = f"{high:.3f}"
        row[f"{name} worst"] = f"{ratios[np.argmax(np.abs(ratios - 1))]:.3f}"
        row[f"{name} within 15 %"] = f"{(np.abs(ratios - 1) < 0.15).mean():.2f}"
    correlation = np.array([each["correlation"] for each in results])
    row["correlation error median"] = f"{np.nanmedian(correlation):.3f}"
    row["correlation error p90"] = f"{np.nanquantile(correlation, 0.9):.3f}"
    milliseconds = 1000 * np.median([each["seconds"] for each in results])
    row["milliseconds"] = f"{milliseconds:.0f}"
    return row


def main() -> None:
    """Measure, write the table and print its medians."""
    corpus = Path(sys.argv[1])
    table: list[dict[str, str]] = []
    for side in SIDES:
        images = [*specimens(side), *micrographs(corpus, side)]
        for name in DETECTORS:
            for scale in SCALES:
                rng = np.random.default_rng(SEED)
                results = [
                    (group, compare(name, clean, scale, rng)) for group, clean in images
                ]
                for group in ("synthetic", "train", "val"):
                    own = [result for each, result in results if each == group]
                    head = {"images of": group, "detector": name, "scale": f"{scale:.0f}"}
                    row = {**head, "side": str(side), "seed": str(SEED), **summary(own)}
                    table.append(row)
                    told = ("gain median", "gain worst", "noise median")
                    print(*head.values(), side, {key: row[key] for key in told}, flush=True)
    target = Path(__file__).parents[1] / "results" / "detector.csv"
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    main()
