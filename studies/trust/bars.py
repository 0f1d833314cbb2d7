"""Compare what one noisy image tells of its denoised one with the truth.

    python studies/trust/bars.py CORPUS

CORPUS is a folder of micrographs with a `manifest.csv` whose columns `file`, `split` and
`source` say which are for validation; no others are read. The middle of at most two
micrographs of a source is exposed by each detector of `EXPOSURES`, at its electrons at the
brightest pixel, and denoised by the weights that ship, which are told the detector. What
`emdn.trust` says without the truth stands in the rows beside what the truth says:

- `studies/results/trust_risk.csv`: the mean squared error and its estimates, all as shares
  of the variance of the noise; the deviation of the residual, over that of the noise, and
  the one to expect; the chance that the residual is noise;
- `studies/results/trust_resolution.csv`: frequencies, in cycles per pixel, up to which the
  Fourier ring correlation is above its threshold: between halves, with the half held out,
  and of the denoised half and the denoised whole with the truth;
- `studies/results/trust_consistency.csv`: the share of pixels at which an image is called
  implausible at a rate of 1 %, for the truth, the denoised image, and the truth without
  its finest detail (a Gaussian of 2 pixels).
"""

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from emdn import Denoiser
from emdn.detector import Detector
from emdn.scaling import Scaling
from emdn.trust.consistency import consistency
from emdn.trust.resolution import WITH_TRUTH, exposure_resolution, ring_correlation
from emdn.trust.risk import estimated_risk, residual_whiteness, respond
from emdn.trust.thinning import thin

RESULTS = Path(__file__).parents[1] / "results"
SIDE = 512  # pixels
FROM_A_SOURCE = 2  # crops at most
DETECTORS = {
    "counter": Detector(1.0),
    "CCD": Detector(3.7, offset=100.0, readout=3.0),
    "scintillator": Detector(7.0, offset=100.0, correlation=(0.445, 0.445)),
}
SEED = 2026
EXPOSURES = (  # detector, electrons at the brightest pixel
    ("counter", 5.0),
    ("counter", 20.0),
    ("counter", 60.0),
    ("counter", 600.0),
    ("CCD", 60.0),
    ("scintillator", 60.0),
)
Row = dict[str, str | float]


def micrographs(corpus: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the name and the middle, in [0, 1], of validation micrographs."""
    with (corpus / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "val"]
    seen: Counter[str] = Counter()
    for row in rows:
        seen[row["source"]] += 1
        if seen[row["source"]] > FROM_A_SOURCE:
            continue
        image = tifffile.imread(corpus / row["file"]).astype(np.float32)
        top, left = (max(length - SIDE, 0) // 2 for length in image.shape)
        crop = image[top : top + SIDE, left : left + SIDE]
        yield Path(row["file"]).stem, Scaling.of_range(crop).apply(crop)


class Case:
    """One exposure of one micrograph, and the random numbers that judge it."""

    def __init__(self, denoiser: Denoiser, clean: NDArray, name: str, scale: float) -> None:
        self.denoiser, self.detector = denoiser, DETECTORS[name]
        self.rng = np.random.default_rng([SEED, int(clean.sum())])  # not alike in crops
        self.noisy = self.detector.apply(scale * clean, self.rng)
        self.truth = self.detector.expected(scale * clean).astype(np.float64)
        self.response = respond(self.denoise, self.noisy, self.detector, self.rng)

    def denoise(self, image: NDArray, detector: Detector) -> NDArray:
        """Denoise with the detector told."""
        return self.denoiser.denoise(image, detector=detector)

    def risk(self) -> Row:
        """Compare errors and residuals."""
        risk = estimated_risk(self.noisy, self.response)
        denoised = self.response.denoised
        error = np.mean((denoised - self.truth) ** 2)
        noise = np.mean((self.noisy - self.truth) ** 2)
        residual = np.sqrt(np.mean((self.noisy - denoised) ** 2) / noise)
        white = residual_whiteness(self.noisy, denoised, self.detector)
        return {
            "mse": error / noise,
            "estimate": risk.mse / noise,
            "standard_error": risk.error / noise,
            "expected": risk.expected / noise,
            "estimate_over_mse": risk.mse / error,
            "residual": residual,
            "residual_expected": risk.residual,
            "chance_of_residual": white.chance,
        }

    def resolution(self) -> Row:
        """Compare claimed resolutions with the truth's."""
        halves = thin(self.noisy, self.detector, 0.5, self.rng)
        denoised = [self.denoise(each, halves.detectors[0]) for each in halves[:2]]
        claimed = exposure_resolution(halves, denoised)
        thinned = thin(self.noisy, self.detector, 0.5, self.rng)
        half = self.denoise(thinned.first, thinned.detectors[0])
        with_truth = [
            ring_correlation(each, self.truth, WITH_TRUTH)
            for each in (half, self.response.denoised)
        ]
        curves = (claimed.halves, claimed.held_out, *with_truth)
        names = ("halves", "held_out", "true_half", "true_whole")
        return {n: each.crossing() for n, each in zip(names, curves, strict=True)}

    def consistency(self) -> Row:
        """Return shares of implausible pixels."""
        images = {
            "truth": self.truth,
            "denoised": self.response.denoised,
            "blurred": gaussian_filter(self.truth, 2.0),
        }
        return {
            name: consistency(self.noisy, each, self.detector).alarms(0.01)
            for name, each in images.items()
        }


def write(path: Path, rows: list[Row]) -> None:
    """Write a table."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
            )


def main(corpus: Path) -> None:
    """Expose, denoise, judge, and write the three tables."""
    denoiser = Denoiser()
    tables: dict[str, list[Row]] = {"risk": [], "resolution": [], "consistency": []}
    crops = list(micrographs(corpus))
    for name, scale in EXPOSURES:
        for micrograph, clean in crops:
            case = Case(denoiser, clean, name, scale)
            head: Row = {"detector": name, "scale": scale, "micrograph": micrograph}
            found = (case.risk(), case.resolution(), case.consistency())
            for table, row in zip(tables.values(), found, strict=True):
                table.append(head | {k: float(v) for k, v in row.items()})
            print(*head.values(), flush=True)
        for table, rows in tables.items():
            write(RESULTS / f"trust_{table}.csv", rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
