"""Score the shipped weights against classical filters on a split of real micrographs.

    python benchmarks/score.py CORPUS --split val --output benchmarks/results/val.json

CORPUS holds a manifest.csv with columns file, split and source. Every image gives its
middle, at most 512 x 512 pixels, with several instances of noise by the paper's protocol;
every method sees the same noisy images, and every result is clipped to [0, 1]. The filters
are those of `emdn.baselines`: the paper's, and stronger ones that are told the noise and
were tuned on the validation split. The network is told nothing.
"""

import argparse
import csv
import hashlib
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from emdn.baselines import BASELINES, STRENGTHS, Method, tuned_methods
from emdn.denoiser import WEIGHTS, Denoiser
from emdn.metrics import mse, ssim
from emdn.noise import SCALE_SAMPLERS, noisy_pair, sample_scale

SIDE = 512
SEED = 2018
METRICS = ("mse", "ssim")
PACKAGES = (
    "emdn",
    "tensorflow",
    "numpy",
    "scipy",
    "scikit-image",
    "opencv-python-headless",
    "pywavelets",
)


def read_crops(corpus: Path, split: str) -> list[tuple[dict[str, str], NDArray]]:
    """Return manifest rows with the middle of their images."""
    with (corpus / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    return [(row, middle(tifffile.imread(corpus / row["file"]))) for row in rows]


def middle(image: NDArray) -> NDArray:
    """Return the middle of an image, at most SIDE x SIDE pixels."""
    cut = [
        slice(max(0, (n - SIDE) // 2), max(0, (n - SIDE) // 2) + SIDE) for n in image.shape
    ]
    return image[tuple(cut)]


def network(dose: Literal["low", "ordinary", "auto"]) -> Method:
    """Return the shipped network as a method, which ignores the counts."""
    denoise = Denoiser(dose, progress=False).denoise
    return lambda noisy, _: denoise(noisy)


def score(
    methods: dict[str, Method], crops: list, dose_range: str, instances: int
) -> list[dict]:
    """Return a row of scores for every method, image and instance of noise."""
    rows = []
    for number, (facts, crop) in enumerate(crops):
        for instance in range(instances):
            rng = np.random.default_rng([SEED, number, instance])
            scale = sample_scale(dose_range, rng)
            noisy, clean, scaling = noisy_pair(crop, scale, rng)
            for name, method in methods.items():
                denoised = np.clip(method(noisy, scaling.scale), 0, 1)
                row = {"method": name, "file": facts["file"], "source": facts["source"]}
                row |= {
                    "mse": mse(clean, denoised),
                    "ssim": ssim(clean, denoised, data_range=1),
                }
                rows.append({**row, "scale": scale})
    return rows


def summarise(rows: list[dict], methods: dict[str, Method]) -> dict[str, dict[str, float]]:
    """Return mean scores, their standard errors over images, and images won, by method."""
    files = sorted({row["file"] for row in rows})

    def of(name: str, metric: str) -> NDArray:
        """Return the mean over instances for each file."""
        chosen = [row for row in rows if row["method"] == name]
        return np.array(
            [np.mean([r[metric] for r in chosen if r["file"] == f]) for f in files]
        )

    table = {}
    for name in methods:
        table[name] = {}
        for metric in METRICS:
            values = of(name, metric)
            table[name][metric] = float(values.mean())
            table[name][f"{metric}_error"] = float(values.std(ddof=1) / np.sqrt(len(files)))
            ahead = (
                of("emdn", metric) < values
                if metric == "mse"
                else of("emdn", metric) > values
            )
            table[name][f"emdn_ahead_{metric}"] = int(ahead.sum())
    return table


def main() -> None:
    """Print a table for each dose range, and write all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--instances", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()

    crops = read_crops(arguments.corpus, arguments.split)
    results: dict = {
        "split": arguments.split,
        "images": len(crops),
        "instances": arguments.instances,
        "side": SIDE,
        "seed": SEED,
        "versions": {name: version(name) for name in PACKAGES},
        "python": sys.version.split()[0],
        "sha256": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(WEIGHTS.glob("*.keras"))
        },
    }
    for dose_range in SCALE_SAMPLERS:
        methods = {
            **BASELINES,
            **tuned_methods(STRENGTHS[dose_range]),
            "emdn": network(dose_range),
            "emdn, auto dose": network("auto"),
        }
        rows = score(methods, crops, dose_range, arguments.instances)
        table = summarise(rows, methods)
        own = [row for row in rows if row["method"] == "emdn"]
        results[dose_range] = {"summary": table, "emdn": own}
        print(
            f"\n{dose_range} dose, {arguments.split}: {len(crops)} images, "
            f"{arguments.instances} instances each"
        )
        print(f"{'method':<26}{'MSE x 1e-3':>16}{'SSIM':>18}   images where emdn is ahead")
        for name, cells in table.items():
            print(
                f"{name:<26}{1e3 * cells['mse']:>9.3f} ± {1e3 * cells['mse_error']:.3f}"
                f"{cells['ssim']:>10.3f} ± {cells['ssim_error']:.3f}"
                f"   {cells['emdn_ahead_mse']} by MSE, {cells['emdn_ahead_ssim']} by SSIM"
            )
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
