"""Denoise behind point spreads with a tail, and films that look like their noise.

    python studies/weights/tails.py

Five MTFs are applied to counts, of which one is that of a Gaussian and one of the model of
`emdn.detector`; the others are of no model. emdn measures the detector, and its error is
compared with that of the same network which is told the exact MTF. Then textures as fine
as pixels, which fill the image, are recorded by cameras without a tail: a gain that is
found much too large takes them for noise.

Writes `studies/results/tails.csv`, one row for an image. Takes about two minutes.
"""

import csv
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from emdn import Denoiser
from emdn.detector import Detector, estimate_detector
from emdn.scaling import Scaling
from emdn.specimens import KINDS, load
from emdn.whitening import LEAST_POWER, MARGIN, Whitening

SIDE = 256  # pixels
GAIN, OFFSET = 7.0, 100.0
DOSES = (40.0, 200.0)  # electrons at the brightest pixel
READOUTS = (0.0, 0.4)  # electrons
# Of f, the share of the highest frequency along an axis.
MTFS = {
    "CCD": lambda f: 0.65 / (1 + (f / 0.25) ** 2) + 0.25 * np.exp(-((f / 0.6) ** 2)) + 0.1,
    "thick scintillator": lambda f: (
        0.8 / (1 + (f / 0.2) ** 2) + 0.15 * np.exp(-((f / 0.6) ** 2)) + 0.05
    ),
    "exponential": lambda f: np.exp(-2.1 * f),
    "integrating": lambda f: 0.3 * np.exp(-3 * f) + 0.7 * np.exp(-0.8 * f**2),
    "Gaussian": lambda f: np.exp(-2 * np.pi**2 * 0.36 * (f / 2) ** 2),
}
CAMERAS = {
    "white": Detector(GAIN, OFFSET, 1.0),
    "scintillator": Detector(GAIN, OFFSET, 0.5, (0.45, 0.45)),
    "slow amplifier": Detector(GAIN, OFFSET, 0.5, (0.35, 0.0)),
}


def frequencies(height: int, width: int) -> NDArray[np.float64]:
    """Return the frequencies of a real transform, as `MTFS` takes them."""
    return 2 * np.hypot(np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width))


def specimens() -> Iterator[tuple[str, NDArray[np.floating]]]:
    """Yield names and clean images in [0, 1]."""
    for kind in ("particles", "membranes"):
        yield kind, KINDS[kind]((SIDE, SIDE), np.random.default_rng(0))
    for name in ("axons", "gold", "nanoparticles"):
        micrograph = load(name)[0].astype(np.float32)[:SIDE, :SIDE]
        yield name, Scaling.of_range(micrograph).apply(micrograph)
    yield "even field", np.full((SIDE, SIDE), 0.8)


def behind_tails() -> Iterator[dict[str, str | float]]:
    """Yield a row for each MTF, readout noise, specimen and dose."""
    noise_remover = Denoiser(progress=False)
    for mtf, curve in MTFS.items():
        for readout in READOUTS:
            for specimen, clean in specimens():
                for dose in DOSES:
                    rng = np.random.default_rng([1, int(dose)])
                    electrons = dose * (0.15 + 0.85 * clean)
                    spread = curve(frequencies(SIDE, SIDE))

                    def recorded(
                        counts: NDArray, spread: NDArray = spread
                    ) -> NDArray[np.float64]:
                        blurred = np.fft.irfft2(np.fft.rfft2(counts) * spread)
                        return GAIN * blurred + OFFSET

                    truth = recorded(electrons)
                    noise = GAIN * readout * rng.normal(0, 1, truth.shape)
                    image = np.round(recorded(rng.poisson(electrons)) + noise)
                    found = estimate_detector(image)
                    blurred = curve(frequencies(*(np.array(image.shape) + 2 * MARGIN)))
                    power = (electrons.mean() * blurred**2 + readout**2) / (
                        electrons.mean() + readout**2
                    )
                    white = Whitening(1 / np.sqrt(np.maximum(power, LEAST_POWER)))
                    camera = Detector(GAIN, OFFSET, readout)
                    told = noise_remover.denoise(white.apply(image), detector=camera)

                    def left(
                        result: NDArray, truth: NDArray = truth, image: NDArray = image
                    ) -> float:
                        return float(np.std(result - truth) / np.std(image - truth))

                    yield {
                        "camera": mtf,
                        "readout": readout,
                        "specimen": specimen,
                        "dose": dose,
                        "gain": found.detector.gain / GAIN if found else 0.0,
                        "left": left(noise_remover.denoise(image)),
                        "left, told": left(white.invert(told)),
                    }


def textures() -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield textures as fine as pixels, of mean 0 and deviation 1."""
    white = np.random.default_rng(21).normal(size=(SIDE, SIDE))
    made = {"box of 2 pixels": uniform_filter(white, 2, mode="wrap")}
    for width in (0.6, 0.8, 1.0):
        made[f"Gaussian of {width} pixels"] = gaussian_filter(white, width, mode="wrap")
    cycles = frequencies(SIDE, SIDE) / 2
    for damping in (8, 20):
        transfer = np.sin(24 * np.pi * cycles**2) * np.exp(-damping * cycles**2)
        made[f"film, damped by {damping}"] = np.fft.irfft2(np.fft.rfft2(white) * transfer)
    for name, texture in made.items():
        yield name, texture / texture.std()


def films() -> Iterator[dict[str, str | float]]:
    """Yield a row for each camera, texture, contrast and dose."""
    for name, camera in CAMERAS.items():
        for texture, values in textures():
            for contrast in (0.05, 0.08, 0.12):
                for dose in (100.0, 200.0, 400.0):
                    electrons = dose * np.clip(0.6 + contrast * values, 0.02, 2)
                    image = np.round(camera.apply(electrons, np.random.default_rng(3)))
                    found = estimate_detector(image)
                    yield {
                        "camera": name,
                        "readout": camera.readout,
                        "specimen": f"{texture}, contrast {contrast}",
                        "dose": dose,
                        "gain": found.detector.gain / GAIN if found else 0.0,
                    }


def main() -> None:
    """Write the table and print what it says in short."""
    warnings.simplefilter("ignore")
    tails, others = list(behind_tails()), list(films())
    target = Path(__file__).parents[1] / "results" / "tails.csv"
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, tails[0])
        writer.writeheader()
        for row in (*tails, *others):
            writer.writerow(
                {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
            )
    ratios = np.array([float(row["left"]) / float(row["left, told"]) for row in tails])
    mean, worst = np.exp(np.log(ratios).mean()), ratios.max()
    print(
        f"{len(tails)} images behind tails: {mean:.3f} of the error told, worst {worst:.2f}"
    )
    gains = np.array([float(row["gain"]) for row in others])
    wrong = np.count_nonzero((gains > 2.5) | (gains < 0))
    print(f"{wrong} of {len(others)} textures have a gain more than 2.5 times too large")


if __name__ == "__main__":
    main()
