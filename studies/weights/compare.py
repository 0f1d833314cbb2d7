"""Compare trained networks on the validation split, from one count to thousands.

    python studies/weights/compare.py CORPUS auto runs/any-dose-4/denoiser.keras

CORPUS is a folder of micrographs with a `manifest.csv`; only its validation split is read.
All networks see the same crops and the same noise, and are told the true gain. The script
prints the mean squared error, in thousandths of the square of the noisy image's range, over
crops and over sources, and its ratio to that of the first network with the standard error
of the ratio. Crops of one micrograph are not independent, so that error is too small.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emdn.benchmark.instances import (
    DOSE_RANGES,
    BenchmarkConfig,
    Instance,
    make_instance,
    micrographs,
)
from emdn.denoiser import Denoiser
from emdn.metrics import mse
from emdn.noise import noisy_pair

FEW = (1.0, 5.0)  # counts at the brightest pixel, below the paper's dose ranges


def instances(config: BenchmarkConfig) -> Iterator[tuple[str, Instance]]:
    """Yield the name of a range and an instance of it, all instances of all ranges."""
    images = micrographs(config.folder, config.split)
    for scale in FEW:
        for number in range(config.instances):
            rng = np.random.default_rng([config.seed, int(scale), number])
            entry, image = images[number % len(images)]
            sides = [min(config.crop, length) for length in image.shape]
            y, x = (
                int(rng.integers(length - side + 1))
                for length, side in zip(image.shape, sides, strict=True)
            )
            crop = image[y : y + sides[0], x : x + sides[1]]
            yield f"{scale:g}", Instance(*noisy_pair(crop, scale, rng), scale, entry)
    for name in DOSE_RANGES:
        for number in range(config.instances):
            yield name, make_instance(config, name, number)


def errors(instance: Instance, networks: list[Denoiser]) -> list[float]:
    """Return the mean squared error of each network."""
    noisy, clean, gain = instance[:3]
    results = (each.denoise(noisy, gain=gain, offset=0.0) for each in networks)
    return [mse(clean, np.clip(each, 0, 1)) for each in results]


def over_sources(values: NDArray[np.floating], sources: NDArray) -> NDArray[np.floating]:
    """Return the mean, over sources, of the means of rows of each source."""
    means = [values[sources == name].mean(axis=0) for name in np.unique(sources)]
    return np.mean(means, axis=0)


def main() -> None:
    """Print a line for each range and network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path, help="folder of micrographs")
    parser.add_argument("networks", nargs="+", help="auto, or files")
    parser.add_argument("--instances", type=int, default=42, help="crops of each range")
    parser.add_argument("--crop", type=int, default=256, help="side of a crop in pixels")
    arguments = parser.parse_args()
    config = BenchmarkConfig(
        arguments.corpus, "val", instances=arguments.instances, crop=arguments.crop
    )
    networks = [Denoiser(each) for each in arguments.networks]
    rows = [
        (name, each.entry.source, errors(each, networks))
        for name, each in instances(config)
    ]
    ranges, sources, found = (np.array(column) for column in zip(*rows, strict=True))
    print(f"{'scale':10}{'MSE x 1e-3':>11}{'sources':>9}{'ratio':>8}{'+-':>7}  network")
    for name in dict.fromkeys(ranges):
        own = found[ranges == name]
        by_source = over_sources(own, sources[ranges == name])
        means = own.mean(axis=0)
        for number, network in enumerate(arguments.networks):
            ratio = means[number] / means[0]
            apart = own[:, number] - ratio * own[:, 0]
            error = apart.std() / np.sqrt(len(apart)) / means[0]
            print(
                f"{name:10}{1e3 * means[number]:11.4f}{1e3 * by_source[number]:9.4f}"
                f"{ratio:8.4f}{error:7.4f}  {network}"
            )


if __name__ == "__main__":
    main()
