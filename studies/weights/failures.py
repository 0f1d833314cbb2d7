"""Draw how the shipped networks fail: on a faint lattice, on faint atoms, on nothing.

    python studies/weights/failures.py

Writes a picture for each dose range, and a JSON file of what the model cards say of them:
shares of contrast that are left, averaged over many exposures, so that noise averages out
and what a method makes of the specimen in every one of them remains.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emdn.benchmark.instances import Instance
from emdn.benchmark.method import Denoise
from emdn.benchmark.methods import choose
from emdn.benchmark.plots import show_examples
from emdn.benchmark.rows import RESULTS
from emdn.data.corpus import Entry
from emdn.files import written_whole
from emdn.metrics import mse
from emdn.noise import add_shot_noise, noisy_pair
from emdn.specimens.micrographs import membranes

PICTURES = Path(__file__).parents[2] / "book" / "_static"
SIDE = 128
SCALES = {"low": 40.0, "ordinary": 400.0}  # counts at the brightest pixel
EXPOSURES = 50
DETAIL_SCALES = {"low": (25.0, 100.0), "ordinary": (250.0, 800.0, 2000.0)}
DETAIL_IMAGES = 4
WIDTH = 1.3  # deviation of an atom, pixels
FILM = 0.4  # brightness under the atoms
HEIGHTS = (0.15, 0.3, 0.6)  # of atoms above it
METHODS = ("emdn", "emdn-compact", "emdn-blind", "wavelet-vst")

Places = NDArray[np.float64]  # (N, 2), rows and columns


class Specimen(NamedTuple):
    """An image in [0, 1], and where something is there or conspicuously not."""

    image: NDArray[np.float64]
    present: Places
    absent: Places


def spots(places: Places) -> NDArray[np.float64]:
    """Return an image of Gaussian spots of height 1."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    image = np.zeros((SIDE, SIDE))
    for y, x in places:
        image += np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * WIDTH**2))
    return image


def lattice() -> Specimen:
    """Return a lattice of faint columns, of which one in forty is missing."""
    spacing, angle = 6.0, np.deg2rad(17)
    u, v = np.mgrid[-40:41, -40:41].reshape(2, -1) * spacing
    y = SIDE / 2 + u * np.cos(angle) - v * np.sin(angle)
    x = SIDE / 2 + u * np.sin(angle) + v * np.cos(angle)
    places = np.stack([y, x], axis=1)
    places = places[np.all((places > 4) & (places < SIDE - 5), axis=1)]
    missing = np.random.default_rng(0).random(len(places)) < 1 / 40
    image = 0.3 + 0.35 * spots(places[~missing])
    return Specimen(image, places[~missing], places[missing])


def atoms() -> Specimen:
    """Return single atoms of three heights on an even film."""
    grid = np.stack(np.mgrid[10:SIDE:18, 10:SIDE:18], axis=-1).reshape(-1, 2)
    places = grid + np.random.default_rng(1).uniform(-4, 4, grid.shape)
    image = FILM + sum(h * spots(places[n :: len(HEIGHTS)]) for n, h in enumerate(HEIGHTS))
    return Specimen(image, places, np.empty((0, 2)))


def nothing() -> Specimen:
    """Return an even field."""
    image = np.full((SIDE, SIDE), 0.5)
    return Specimen(image, np.empty((0, 2)), np.empty((0, 2)))


SPECIMENS: dict[str, Callable[[], Specimen]] = {
    "lattice": lattice,
    "atoms": atoms,
    "nothing": nothing,
}


def expose(specimen: Specimen, scale: float, seed: int) -> Instance:
    """Return an exposure, in which the largest count is 1, and its truth."""
    counts = add_shot_noise(specimen.image, scale, np.random.default_rng([5, seed]))
    top = float(counts.max())
    clean = (specimen.image * scale / top).astype(np.float32)
    return Instance(counts / top, clean, 1 / top, scale, Entry(file="", source=""))


def at(image: NDArray, places: Places) -> NDArray:
    """Return an image's pixels next to places."""
    y, x = np.rint(places).astype(int).T
    return image[y, x]


def main() -> None:
    """Draw the pictures and measure."""
    report: dict[str, Any] = {"scales": SCALES, "exposures": EXPOSURES, "side": SIDE}
    for dose_range, scale in SCALES.items():
        methods = {each.name: each.at(dose_range) for each in choose(METHODS)}
        specimens = {name: make() for name, make in SPECIMENS.items()}
        shown = {name: expose(each, scale, 0) for name, each in specimens.items()}
        figure = show_examples(shown, methods, enlarge=np.s_[:40, :40])
        with written_whole(PICTURES / f"failures_{dose_range}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=80)
        report[dose_range] = {
            name: {
                **measured(specimens, method, scale),
                **of_membranes(method, DETAIL_SCALES[dose_range]),
            }
            for name, method in methods.items()
        }
    text = json.dumps(report, indent=1) + "\n"
    with written_whole(RESULTS / "failures.json") as temporary:
        temporary.write_text(text)
    print(text, end="")


def measured(
    specimens: dict[str, Specimen], method: Denoise, scale: float
) -> dict[str, Any]:
    """Return what a method leaves of each specimen."""
    found = {name: denoised(each, method, scale) for name, each in specimens.items()}
    return {
        **of_lattice(specimens["lattice"], found["lattice"]),
        **of_atoms(specimens["atoms"], found["atoms"], scale),
        **of_nothing(specimens["nothing"], found["nothing"], scale),
    }


def denoised(specimen: Specimen, method: Denoise, scale: float) -> NDArray:
    """Return a stack of denoised exposures, in units of the specimen."""
    exposures = [expose(specimen, scale, seed) for seed in range(EXPOSURES)]
    results = [method(each.noisy, each.gain) / each.gain for each in exposures]
    return np.stack(results) / scale


def of_lattice(crystal: Specimen, found: NDArray) -> dict[str, float]:
    """Measure the contrast between columns and vacancies."""
    gap = at(crystal.image, crystal.absent).mean()
    contrast = at(crystal.image, crystal.present).mean() - gap
    columns = [(at(each, crystal.present) - gap) / contrast for each in found]
    filled = np.array([(at(each, crystal.absent) - gap) / contrast for each in found])
    return {
        "brightness of columns, % of the truth": percent(np.mean(columns)),
        "brightness of vacancies, % of a column": percent(filled.mean()),
        "vacancies": filled.size,
        "vacancies brighter than half a column": int(np.sum(filled > 0.5)),
    }


def of_atoms(film: Specimen, found: NDArray, scale: float) -> dict[str, dict[str, float]]:
    """Measure the contrast of atoms of each height."""
    mean, kept = found.mean(axis=0), {}
    for n in range(len(HEIGHTS)):
        places = film.present[n :: len(HEIGHTS)]
        true = at(film.image, places).mean() - FILM
        share = (at(mean, places).mean() - FILM) / true
        kept[f"{true * scale:.0f} counts"] = percent(share)
    return {"contrast of atoms, % of the truth": kept}


def of_nothing(empty: Specimen, found: NDArray, scale: float) -> dict[str, float]:
    """Measure what is left where nothing is."""
    blotches = (found - empty.image) * scale
    noise = np.sqrt(empty.image * scale).mean()
    return {
        "deviation of nothing, % of the noise": percent(blotches.std() / noise),
        "largest blotch, counts": round(float(np.abs(blotches).max(axis=(1, 2)).mean()), 1),
    }


def of_membranes(method: Denoise, scales: Sequence[float]) -> dict[str, dict[str, float]]:
    """Measure the error of stained tissue, whose detail is finer than the others'."""
    shares = {}
    for scale in scales:
        ratios = []
        for seed in range(DETAIL_IMAGES):
            rng = np.random.default_rng([6, seed])
            noisy, clean, gain = noisy_pair(membranes((256, 256), rng), scale, rng)
            denoised = np.clip(method(noisy, gain), 0, 1)
            ratios.append(mse(clean, denoised) / mse(clean, noisy))
        shares[f"{scale:.0f} counts"] = percent(np.mean(ratios))
    return {"MSE of membranes, % of the noisy image's": shares}


def percent(share: float) -> float:
    """Return a share in per cent."""
    return round(100 * float(share), 1)


if __name__ == "__main__":
    main()
