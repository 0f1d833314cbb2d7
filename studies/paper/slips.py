"""Re-run what can be re-run of the paper's slips, and write what came out.

    python studies/paper/slips.py CORPUS

Writes ``emdn/benchmark/results/paper_slips.json``. The images are those of the training and
validation splits, for these questions are not about a network; the test split is not read.
Scores are the paper's: nothing is clipped, errors above 0.012 count as 0.012, and the
data range of SSIM is the result's own. All laws of the dose are drawn from the same
uniform numbers, on the same crops, so that their differences are not those of chance.
"""

import argparse
import json
import math
import re
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from emdn.benchmark import filters
from emdn.benchmark.instances import BenchmarkConfig
from emdn.benchmark.methods import PAPER
from emdn.benchmark.rows import LARGEST_MSE, RESULTS
from emdn.benchmark.run import score
from emdn.data.corpus import read_manifest
from emdn.io import read_micrograph
from emdn.noise import LOW_BETA, LOW_OFFSET, ORDINARY_HIGH, ORDINARY_LOW, noisy_pair

SLIPS = RESULTS / "paper_slips.json"
SEED = 2018
LAWS: dict[str, Callable[[float], float]] = {
    "25 + Exp(75)": lambda u: LOW_OFFSET - LOW_BETA * math.log1p(-u),
    "U[25, 100)": lambda u: LOW_OFFSET + 75 * u,
    "U[200, 2500)": lambda u: ORDINARY_LOW + (ORDINARY_HIGH - ORDINARY_LOW) * u,
}
"""Scales from a uniform number: of the text, of the shipped script, and of the text."""

TABLE = {  # the paper's Table 1: mean MSE x 1e-3 and SSIM, at low and at ordinary dose
    "unfiltered": ((4.357, 0.454), (0.508, 0.850)),
    "gaussian": ((0.816, 0.685), (0.344, 0.878)),
    "bilateral": ((1.025, 0.574), (1.243, 0.600)),
    "median": ((1.083, 0.618), (0.507, 0.821)),
    "wiener": ((1.068, 0.681), (0.402, 0.870)),
    "wavelet": ((0.832, 0.657), (0.357, 0.875)),
    "chambolle-tv": ((0.746, 0.686), (0.901, 0.674)),
    "bregman-tv": ((1.109, 0.544), (4.074, 0.348)),
    "nl-means": ((2.924, 0.357), (1.403, 0.545)),
    "network": ((0.562, 0.752), (0.201, 0.926)),
}
PAIR = ("bregman-tv", "nl-means")  # rows that look exchanged at low dose
DISK = np.hypot(*np.mgrid[-4:5, -4:5]) <= 4  # 49 pixels

Image = NDArray[np.floating]


def nl_means(image: Image, *, itself: int, h: float = 0.1) -> Image:
    """Do what scikit-image's fast non-local means does, by plain sums.

    Parameters
    ----------
    image : (H, W) array
        Noisy.
    itself : int
        How often a pixel counts in its own mean: once today, twice in version 0.14 of 2018.
    h : float
        Scale of distances of patches.
    """
    patch, reach = 7, 11
    padded = np.pad(image.astype(np.float64), reach + patch // 2 + 1, mode="reflect")
    weights, sums = np.zeros_like(padded), np.zeros_like(padded)
    for shift in np.ndindex(2 * reach + 1, 2 * reach + 1):
        offset = (shift[0] - reach, shift[1] - reach)
        shifted = np.roll(padded, offset, (0, 1))
        # Its difference of four corners spans 6 x 6 pixels, and is divided by 7 x 7.
        squared = (padded - shifted) ** 2
        distance = cv2.boxFilter(squared, -1, (6, 6), anchor=(2, 2), normalize=False)
        distance /= h**2 * patch**2
        weight = np.where(distance > 5, 0, np.exp(-distance))
        weight *= itself if offset == (0, 0) else 1
        weights += weight
        sums += weight * shifted
    inner = np.s_[reach + patch // 2 + 1 : -(reach + patch // 2 + 1)]
    return (sums / weights)[inner, inner]


def clipped_wavelet(image: Image) -> Image:
    """Shrink wavelets as scikit-image 0.14 did, which clipped its result."""
    return np.clip(filters.wavelet(image), 0, 1)


FILTERS: dict[str, Callable[[Image], Image]] = {method.name: method.run for method in PAPER}
VARIANTS = {"nl-means-2018": partial(nl_means, itself=2), "wavelet-2018": clipped_wavelet}


def crops(config: BenchmarkConfig) -> list[tuple[str, Image]]:
    """Return a central crop of each micrograph of training and validation."""
    cut = []
    for entry in read_manifest(config.folder):
        if entry.split in ("train", "val"):
            image = read_micrograph(config.folder / entry.file)[0]
            y, x = (max(0, side - config.crop) // 2 for side in image.shape)
            cut.append((entry.source, image[y : y + config.crop, x : x + config.crop]))
    return cut


def scores(images: list[tuple[str, Image]], law: str) -> dict[str, list[list[float]]]:
    """Return MSE and SSIM of the paper, and SSIM of a range of 1, of all methods."""
    # Evenly spread, so that a law is well met by few images.
    uniform = (np.random.default_rng(SEED).permutation(len(images)) + 0.5) / len(images)
    methods = FILTERS | VARIANTS
    found: dict[str, list[list[float]]] = {name: [] for name in methods}
    for number, (_, image) in enumerate(images):
        rng = np.random.default_rng([SEED, number])
        noisy, clean, _ = noisy_pair(image, LAWS[law](uniform[number]), rng)
        for name, denoise in methods.items():
            denoised = denoise(noisy)
            _, ssim, mse_paper, ssim_paper = score(clean, denoised, clips=False)
            found[name].append([mse_paper, ssim_paper, ssim])
    return found


def exchanged_rows(low: dict, ordinary: dict) -> dict:
    """Ask which column of Table 1 has Bregman TV and non-local means in the right rows."""
    means = {
        name: [np.mean(found[name], axis=0).tolist() for found in (low, ordinary)]
        for name in (*PAIR, "nl-means-2018")
    }
    answer: dict = {
        "mse_x_1e-3_and_ssim_here_low_ordinary": {
            name: [[round(1e3 * mse, 3), round(ssim, 3)] for mse, ssim, _ in each]
            for name, each in means.items()
        },
        "the_same_in_the_paper": {name: TABLE[name] for name in PAIR},
        "low_over_ordinary_mse": {
            "here": {name: round(a[0] / b[0], 3) for name, (a, b) in means.items()},
            "paper_as_printed": {
                name: round(TABLE[name][0][0] / TABLE[name][1][0], 3) for name in PAIR
            },
            "paper_with_low_rows_exchanged": {
                name: round(TABLE[other][0][0] / TABLE[name][1][0], 3)
                for name, other in zip(PAIR, PAIR[::-1], strict=True)
            },
        },
    }
    for column, found in enumerate((low, ordinary)):
        bregman, other = (np.array(found[name])[:, 0] for name in PAIR)
        _, old = (np.array(found[name])[:, 0] for name in (PAIR[0], "nl-means-2018"))
        printed = [TABLE[name][column] for name in PAIR]
        here = [means[name][column][:2] for name in PAIR]
        answer["low" if column == 0 else "ordinary"] = {
            "share_of_instances_with_bregman_worse": round(
                float(np.mean(bregman > other)), 3
            ),
            "the_same_with_nl_means_of_2018": round(float(np.mean(bregman > old)), 3),
            "paper_has_bregman_worse": printed[0][0] > printed[1][0],
            "distance_as_printed": _distance(here, printed),
            "distance_with_rows_exchanged": _distance(here, printed[::-1]),
        }
    return answer


def _distance(here: list, printed: list) -> float:
    """Return the mean of absolute logarithms of ratios of MSE, 0 for equal ones."""
    ratios = [1e3 * a[0] / b[0] for a, b in zip(here, printed, strict=True)]
    return round(float(np.mean(np.abs(np.log(ratios)))), 3)


def bilateral_is_a_disk(images: list[tuple[str, Image]]) -> dict:
    """Compare the paper's bilateral filter with the mean of a disk."""
    kernel = DISK / DISK.sum()
    largest, spread = [], []
    for number, (_, image) in enumerate(images):
        rng = np.random.default_rng([SEED, number])
        noisy = noisy_pair(image, 100.0, rng).noisy
        mean = cv2.filter2D(noisy, -1, kernel.astype(np.float32))
        largest.append(np.abs(filters.bilateral(noisy) - mean).max())
        spread.append(np.abs(noisy - mean).max())
    return {
        "pixels_of_the_disk": int(DISK.sum()),
        "largest_difference": float(max(largest)),
        "largest_change_by_the_filter": float(max(spread)),
        # At 4 pixels from the centre, for black beside white:
        "smallest_weight_over_largest": math.exp(-(4**2 + 1**2) / (2 * 75**2)),
    }


def gains() -> dict:
    """Recompute the network's gains over the best rival of Table 1, in per cent."""
    answer = {}
    for column, dose in enumerate(("low", "ordinary")):
        for place, metric in enumerate(("mse", "ssim")):
            values = {name: row[column][place] for name, row in TABLE.items()}
            network = values.pop("network")
            best = (min if metric == "mse" else max)(values, key=lambda name: values[name])
            change = network / values[best] - 1
            answer[f"{dose}_{metric}"] = {
                "best_rival": best,
                "gain": round(100 * abs(change), 1),
            }
    wavelet = TABLE["wavelet"][1][0]
    answer["ordinary_mse"]["over_wavelet"] = round(
        100 * (1 - TABLE["network"][1][0] / wavelet), 1
    )
    answer["printed"] = {
        "low_mse": 24.6,
        "low_ssim": 9.6,
        "ordinary_mse": 43.7,
        "ordinary_ssim": 5.5,
    }
    return answer


def laws_of_the_low_dose(text: dict, shipped: dict) -> dict:
    """Compare scores under the dose of the text with those of the shipped script."""
    uniform = (np.arange(100_000) + 0.5) / 100_000
    inverse = {
        law: float(np.mean([1 / LAWS[law](u) for u in uniform]))
        for law in ("25 + Exp(75)", "U[25, 100)")
    }
    answer: dict = {"mean_of_one_over_scale": {k: round(v, 5) for k, v in inverse.items()}}
    for name in FILTERS:
        (mse, ssim, _), (mse_u, ssim_u, _) = (
            np.mean(found[name], axis=0) for found in (text, shipped)
        )
        answer[name] = {
            "25 + Exp(75)": [round(1e3 * mse, 3), round(float(ssim), 3)],
            "U[25, 100)": [round(1e3 * mse_u, 3), round(float(ssim_u), 3)],
            "mse_change_in_per_cent": round(100 * float(mse_u / mse - 1), 1),
        }
    return answer


def libraries(low: dict, ordinary: dict, images: list[tuple[str, Image]]) -> dict:
    """Compare scikit-image of today with its version 0.14 where they differ."""
    noisy = noisy_pair(images[0][1], 100.0, np.random.default_rng(SEED)).noisy[:128, :128]
    today = filters.nl_means(noisy)
    answer: dict = {
        "nl_means_by_plain_sums_minus_scikit_image": float(
            np.abs(nl_means(noisy, itself=1) - today).max()
        )
    }
    for dose, found in (("low", low), ("ordinary", ordinary)):
        for name in ("nl-means", "wavelet"):
            (mse, ssim, _), (mse_old, ssim_old, _) = (
                np.mean(found[each], axis=0) for each in (name, f"{name}-2018")
            )
            answer[f"{name}-{dose}"] = {
                "today": [round(1e3 * mse, 3), round(float(ssim), 3)],
                "2018": [round(1e3 * mse_old, 3), round(float(ssim_old), 3)],
            }
    return answer


def conventions(low: dict, ordinary: dict) -> dict:
    """Say what the paper's cap of errors and its range of SSIM do to the means."""
    answer: dict = {}
    for dose, found in (("low", low), ("ordinary", ordinary)):
        answer[dose] = {}
        for name in FILTERS:
            values = np.array(found[name])
            answer[dose][name] = {
                "share_at_the_cap": round(float(np.mean(values[:, 0] >= LARGEST_MSE)), 3),
                "ssim_of_own_range": round(float(values[:, 1].mean()), 3),
                "ssim_of_range_1": round(float(values[:, 2].mean()), 3),
            }
    return answer


def main() -> None:
    """Write the answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--crop", type=int, default=256)
    arguments = parser.parse_args()
    begun = time.perf_counter()
    images = crops(BenchmarkConfig(arguments.corpus, "val", crop=arguments.crop))
    low, shipped, ordinary = (scores(images, law) for law in LAWS)
    answers = {
        "about": {
            "micrographs": len(images),
            "sources": len({source for source, _ in images}),
            "splits": ["train", "val"],
            "crop": arguments.crop,
            "seed": SEED,
            "versions": {
                name: version(name) for name in ("scikit-image", "opencv-python-headless")
            },
        },
        "exchanged_rows": exchanged_rows(low, ordinary),
        "bilateral": bilateral_is_a_disk(images),
        "gains_in_per_cent": gains(),
        "low_dose_of_text_and_script": laws_of_the_low_dose(low, shipped),
        "libraries": libraries(low, ordinary, images),
        "conventions": conventions(low, ordinary),
    }
    text = json.dumps(answers, indent=1)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), text)
    SLIPS.write_text(text + "\n")
    print(f"{SLIPS}: {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
