"""Compare the noise that is measured with that of places that were exposed twice.

    python studies/weights/overlaps.py CORPUS

CORPUS is a folder of micrographs; those of `PAIRS` are neighbouring tiles of two mosaics of
stained tissue by transmission electron microscopy (https://github.com/saalfeldlab/render),
which overlap by a tenth. Two exposures of a place share the specimen and no noise. So the
power that a tile does not share with its neighbour, by their cross-spectrum, is that of its
noise, and of what is left of the distortion between them. Small parts of the neighbour are
laid onto the tile, and the half that fit best are taken.

The tiles of the first mosaic are of a camera array. If two of its cameras saw the same
exposure, the electrons that both saw count as specimen. Those of the second mosaic are of
one camera.

Writes `emdn/benchmark/results/overlaps.csv`, a row for a tile: the standard deviation of
its noise in two bands of frequency, by its neighbour, and as `estimate_detector` measures
it from this tile alone, at the mean of the overlap, in grey levels. Slow waves tell how
much contrast one tile has more than the other. Takes a minute.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, shift
from skimage.registration import phase_cross_correlation

from emdn import read_micrograph
from emdn.benchmark.rows import RESULTS
from emdn.detector import estimate_detector

FAFB, PERF = "render_fafb__col{}_cam{}_png_level_1_mipmap", "render_perf__col{}_cam0_tif_{}"
LEVEL = "level_1_mipmap"
PAIRS = (  # left and right
    (FAFB.format("0075_row0021", 1), FAFB.format("0076_row0021", 0)),
    (FAFB.format("0075_row0022", 3), FAFB.format("0076_row0022", 2)),
    (PERF.format("0060_row0140", LEVEL), PERF.format("0061_row0140", LEVEL)),
    (PERF.format("0060_row0141", LEVEL), PERF.format("0061_row0141", LEVEL)),
)
STRIP, PART, REACH = 200, 64, 8  # pixels: of the search, of a part, and around it

Image = NDArray[np.float64]
Bands = NDArray[np.float64]  # variances in bands of frequency
WINDOW = np.outer(np.hanning(PART), np.hanning(PART))
FREQUENCY = np.hypot(np.fft.fftfreq(PART)[:, np.newaxis], np.fft.fftfreq(PART))
EDGES = (1 / 16, 1 / 6, 1 / 3, 1.0)  # of the bands, cycles a pixel; the first is slow
BANDS = [np.digitize(FREQUENCY, EDGES) == number for number in (1, 2, 3)]


def details(image: Image) -> Image:
    """Return an image without its slow waves and its noise, for laying on each other."""
    return gaussian_filter(image, 0.7) - gaussian_filter(image, 6)


def offset(left: Image, right: Image) -> tuple[int, int]:
    """Return the row and column of the left strip at which the right one begins."""
    shape = [2 * length for length in left.shape]
    first, second = (np.fft.rfft2(details(each), shape) for each in (left, right))
    together = np.fft.irfft2(first * second.conj(), shape)
    found = np.unravel_index(together.argmax(), together.shape)
    row, column = (
        int(n) - (2 * length if n >= length else 0)
        for n, length in zip(found, left.shape, strict=True)
    )
    return row, column


def laid_on(part: Image, around: Image) -> Image:
    """Return the middle of an image, moved onto a part by fractions of a pixel."""
    moved, total = around[REACH:-REACH, REACH:-REACH], np.zeros(2)
    for _ in range(2):
        step, *_ = phase_cross_correlation(
            details(part) * WINDOW,
            details(moved) * WINDOW,
            upsample_factor=50,
            normalization=None,
        )
        total += step
        moved = shift(around, total, order=5)[REACH:-REACH, REACH:-REACH]
    return moved if np.abs(total).max() < REACH else np.zeros_like(part)


def power(first: Image, second: Image) -> Bands:
    """Return the power that two images share, in each band of frequency."""
    spectra = [np.fft.fft2((each - each.mean()) * WINDOW) for each in (first, second)]
    shared = (spectra[0] * spectra[1].conj()).real / (WINDOW**2).sum()
    return np.array([shared[band].sum() for band in BANDS]) / PART**2


def overlap(left: Image, right: Image) -> tuple[Bands, float, int]:
    """Return the noise of the left tile in bands, its mean, and how many parts told it."""
    row, column = offset(left[:, -STRIP:], right[:, :STRIP])
    found = []
    for y in range(max(0, row) + REACH, len(left) + min(0, row) - PART - REACH, PART // 2):
        for x in range(REACH, STRIP - PART, PART // 4):
            at, from_left = x - column, y - row
            if at < REACH or from_left < REACH:
                continue
            part = left[y : y + PART, left.shape[1] - STRIP + x :][:, :PART]
            around = right[from_left - REACH :, at - REACH :]
            around = around[: PART + 2 * REACH, : PART + 2 * REACH]
            if around.shape != (PART + 2 * REACH,) * 2:
                continue
            other = laid_on(part, around)
            fit = np.corrcoef(details(part).ravel(), details(other).ravel())[0, 1]
            own, theirs = power(part, part), power(other, other)
            contrast = np.sqrt(own[0] / theirs[0])  # of the tiles, by slow waves
            noise = own - contrast * power(part, other)
            found.append((fit, part.mean(), *noise[1:]))
    fits, means, *noise = np.array(found).T
    best = fits > np.median(fits)
    bands = np.array([each[best].mean() for each in noise])
    return bands, float(means[best].mean()), int(best.sum())


def measured(tile: Image, mean: float) -> Bands:
    """Return the noise of a tile in bands, as it is measured from this tile alone."""
    estimate = estimate_detector(tile)
    if estimate is None:
        return np.zeros(len(BANDS) - 1)
    at = estimate.detector
    shot = max(at.dose_of(mean), 0.0) * np.abs(at.transfer((PART, PART))) ** 2
    half = slice(PART // 2 + 1)
    twice = np.full(shot.shape, 2.0)  # of each wave and its mirror image
    twice[:, [0, -1]] = 1
    noise = at.gain**2 * (shot + at.readout**2) * twice
    return np.array([noise[band[:, half]].sum() for band in BANDS[1:]]) / PART**2


def main() -> None:
    """Print and write a table."""
    folder, rows = Path(sys.argv[1]), []
    for names in PAIRS:
        paths = [next(folder.rglob(f"{name}.tif")) for name in names]
        left, right = (read_micrograph(path)[0].astype(np.float64) for path in paths)
        length = min(len(left), len(right))
        turned = right[:length, ::-1], left[:length, ::-1]
        for name, pair in zip(
            names, ((left[:length], right[:length]), turned), strict=True
        ):
            variances, mean, parts = overlap(*pair)
            row = {"tile": name.removesuffix(f"_{LEVEL}"), "parts": parts}
            row["mean"] = round(mean, 1)
            for how, noise in (
                ("by_neighbour", variances),
                ("measured", measured(pair[0], mean)),
            ):
                deviations = np.sqrt(np.maximum(noise, 0)).round(2)
                names_of = (f"{band}_{how}" for band in ("middle", "fast"))
                row |= dict(zip(names_of, deviations.tolist(), strict=True))
            rows.append(row)
            print(*row.values(), sep="\t", flush=True)
    pd.DataFrame(rows).to_csv(RESULTS / "overlaps.csv", index=False, lineterminator="\r\n")


if __name__ == "__main__":
    main()
