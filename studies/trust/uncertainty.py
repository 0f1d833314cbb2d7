"""Count how often the uncertainty map covers the error, image by image.

    python studies/trust/uncertainty.py CORPUS -o trust_uncertainty.csv

CORPUS is a folder of micrographs with a `manifest.csv`, see `studies/weights/detector.py`.
Crops of all three splits, two of a source at most, and synthetic specimens are exposed by
four detectors at two scales, denoised with the detector measured, and the share of pixels
is counted whose error lies within one and within 1.96 standard deviations. The settings of
`emdn.trust.uncertainty` were chosen without the test split.

Writes a row for each image, and prints for how many of them both shares are what they
should be, 60 to 76 % and 92 to 98 %, of all and of those whose noise was measured within a
tenth; and how the errors of the surest and of the least sure quarter of the pixels differ.
At 600 electrons some micrographs hold about as much noise of their own as the exposure, so
that more is measured, and what is removed of it counts as an error. Images whose detector
was not measured, or so wrong that their counts cannot be divided, are left out.
"""

import argparse
import csv
import sys
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "weights"))

from detector import SEED, micrographs, recorded, specimens, variance

from emdn import Denoiser
from emdn.detector import estimate_detector
from emdn.trust.risk import noise_error_of
from emdn.trust.uncertainty import estimated_uncertainty

SIDE = 256  # pixels
NAMES = ("counter", "CCD", "scintillator", "8 bit")
SCALES = (60.0, 600.0)  # electrons at the brightest pixel
SPLITS = ("synthetic", "train", "val", "test")
MISREAD = 0.1  # relative deviation of the measured noise
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
    corpus = arguments.corpus
    images = [*specimens(SIDE), *micrographs(corpus, SIDE)]
    images += micrographs(corpus, SIDE, ["test"])  # last, since the number is a seed
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
                        noise_error=noise_error_of(estimate),
                    )
                except ValueError:  # the offset was measured far above dark pixels
                    continue
                judged = found.response.judged
                deviation = found.deviation[judged]
                error = np.abs(found.denoised - truth.expected(scale * clean))[judged]
                quarters = np.array_split(error[np.argsort(deviation)] ** 2, 4)
                noise = variance(estimate.detector, noisy) / variance(truth, noisy)
                row = {"split": group, "image": number, "detector": name}
                row |= {"scale": scale, "seed": SEED}
                row |= {"noise over truth": round(noise, 3)}
                for deviations, *_ in WITHIN:
                    covered = (error < deviations * deviation).mean()
                    row[f"within {deviations}"] = round(float(covered), 4)
                ratio = np.sqrt(quarters[-1].mean() / quarters[0].mean())
                row["least sure over surest"] = round(float(ratio), 3)
                rows.append(row)
            print(summary(name, scale, [r for r in rows if r["scale"] == scale]))
    with arguments.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for split in SPLITS:
        print(f"{split}: {counted(rows, split)}")


def summary(name: str, scale: float, rows: list[dict]) -> str:
    """Return a line about the images of a detector and a scale."""
    own = [row for row in rows if row["detector"] == name]
    ratio = np.median([row["least sure over surest"] for row in own])
    parts = [f"{split} {counted(own, split)}" for split in SPLITS]
    return f"{name}, {scale:g} electrons: {', '.join(parts)}, ratio {ratio:.2f}"


def counted(rows: list[dict], split: str) -> str:
    """Say how many rows of a split hold both bars, of all and of those read rightly."""
    own = [row for row in rows if row["split"] == split]
    right = [row for row in own if abs(row["noise over truth"] - 1) < MISREAD]
    texts = []
    for some in (own, right):
        held = [
            sum(least < row[f"within {n}"] < most for row in some)
            for n, least, most in WITHIN
        ]
        texts.append(f"{held[0]} and {held[1]} of {len(some)}")
    return f"{texts[0]} ({texts[1]} read rightly)"


if __name__ == "__main__":
    main()
