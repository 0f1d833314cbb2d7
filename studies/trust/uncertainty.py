"""Count how often the uncertainty map covers the error, image by image.

    python studies/trust/uncertainty.py CORPUS -o trust_uncertainty.csv

CORPUS is a folder of micrographs with a `manifest.csv`, see `studies/weights/detector.py`.
Crops of the training and the validation split, two of a source at most, and synthetic
specimens are exposed by four detectors at two scales, denoised with the detector measured,
and the share of pixels is counted whose error lies within one and within 1.96 standard
deviations. Writes a row for each image, and prints how many images lie between 60 and 76 %
and between 92 and 98 %, and how the errors of the surest and the least sure quarter of the
pixels differ. Images whose detector was not measured, or so wrong that their counts cannot
be divided, are left out.
"""

import argparse
import csv
import sys
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "weights"))

from detector import SEED, micrographs, recorded, specimens

from emdn import Denoiser
from emdn.detector import estimate_detector
from emdn.trust.uncertainty import estimated_uncertainty

SIDE = 256  # pixels
NAMES = ("counter", "CCD", "scintillator", "8 bit")
SCALES = (60.0, 600.0)  # electrons at the brightest pixel
WITHIN = ((1.0, 0.60, 0.76), (1.96, 0.92, 0.98))  # deviations, least and largest share


def main() -> None:
    """Measure, write the rows and print their summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("trust_uncertainty.csv"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    denoiser = Denoiser(clip=False)
    rows = []
    images = [*specimens(SIDE), *micrographs(arguments.corpus, SIDE)]
    for name in NAMES:
        for scale in SCALES:
            for number, (group, clean) in enumerate(images):
                rng = np.random.default_rng([SEED, number])
                noisy, truth = recorded(name, clean, scale, rng)
                noisy = np.round(noisy)
                estimate = estimate_detector(noisy)
                if estimate is None:
                    continue
                try:
                    found = estimated_uncertainty(
                        lambda image, at: denoiser.denoise(image, detector=at),
                        noisy,
                        estimate.detector,
                        rng,
                    )
                except ValueError:  # the offset was measured far above dark pixels
                    continue
                error = np.abs(found.denoised - truth.expected(scale * clean))
                order = np.argsort(found.deviation, axis=None)
                quarters = np.array_split(error.ravel()[order] ** 2, 4)
                row = {"images of": group, "image": number, "detector": name}
                row |= {"scale": scale, "seed": SEED}
                for deviations, *_ in WITHIN:
                    covered = (error < deviations * found.deviation).mean()
                    row[f"within {deviations}"] = round(float(covered), 4)
                ratio = np.sqrt(quarters[-1].mean() / quarters[0].mean())
                row["least sure over surest"] = round(float(ratio), 3)
                rows.append(row)
            print(
                summary(name, scale, [r for r in rows if r["scale"] == scale]), flush=True
            )
    with arguments.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def summary(name: str, scale: float, rows: list[dict]) -> str:
    """Return a line about the images of a detector and a scale."""
    parts = [f"{name}, {scale:g} electrons:"]
    for group in ("synthetic", "train", "val"):
        own = [r for r in rows if r["images of"] == group and r["detector"] == name]
        for deviations, least, most in WITHIN:
            shares = np.array([r[f"within {deviations}"] for r in own])
            held = ((shares > least) & (shares < most)).sum()
            parts.append(f"{group} {held} of {len(shares)} within {deviations}")
        ratio = np.median([r["least sure over surest"] for r in own])
        parts.append(f"ratio {ratio:.2f}")
    return " ".join(parts)


if __name__ == "__main__":
    main()
