"""Gather what the shipped weights are trained on: micrographs, photographs, simulations.

    python studies/corpus/simulate.py runs/simulated      # needs abtem and ase
    python studies/corpus/gather.py CORPUS runs/simulated -o runs/data
    python studies/corpus/gather.py CORPUS runs/simulated --photographs PHOTOGRAPHS \
        -o runs/data-3

CORPUS and runs/simulated hold micrographs and a manifest.csv with columns file, source and
split. The new folder names them, by links, and holds the photographs that scikit-image and
scikit-learn ship, as grey images. Micrographs of the test split are left out.

PHOTOGRAPHS is a folder of the files that photographs.csv, beside this script, lists with
source, commit, licence and SHA-256: the folder `backgrounds` of its source. They are made
grey and downsized, which takes the noise of the camera off. A file of another hash is
refused.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage.data
import tifffile
from numpy.typing import NDArray
from PIL import Image
from skimage.color import rgb2gray
from sklearn.datasets import load_sample_images

from emdn.data.corpus import Entry, read_manifest, write_manifest
from emdn.data.sampler import area_mean
from emdn.weights import sha256

LISTED = Path(__file__).parent / "photographs.csv"
"""What photographs there are. `downsizing` holds the sides, in pixels, of the areas whose
means become pixels: 3, and 2 as well where that leaves an image sharp and without noise.
Then the finest diagonal detail of blocks of 32 x 32 pixels, of the Haar wavelet, has a
deviation of at least 0.02 of the range in a tenth of them, and of at most 0.0055 in
another."""

PHOTOGRAPHS = (
    "astronaut",
    "brick",
    "camera",
    "cat",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "moon",
    "page",
    "retina",
    "rocket",
    "text",
)


def shipped_photographs() -> dict[str, NDArray]:
    """Return (H, W) or (H, W, 3) photographs by package and name."""
    images = {f"skimage/{name}": getattr(skimage.data, name)() for name in PHOTOGRAPHS}
    images["skimage/motorcycle"] = skimage.data.stereo_motorcycle()[0]
    loaded = load_sample_images()
    for name, image in zip(loaded.filenames, loaded.images, strict=True):
        images[f"sklearn/{Path(name).stem}"] = image
    return images


def listed_photographs(folder: Path) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """Yield name, source and grey (H, W) image of each photograph and downsizing.

    Raises
    ------
    ValueError
        If a file is missing, or is another one than the list was made of.
    """
    with LISTED.open(newline="") as file:
        for row in csv.DictReader(file):
            path = folder / row["file"]
            place = f"{row['source']} at commit {row['commit']}"
            if not path.is_file():
                raise ValueError(f"{path}: does not exist; take it from {place}")
            if sha256(path) != row["sha256"]:
                raise ValueError(
                    f"{path}: is another file than {LISTED.name} lists, by its SHA-256; "
                    f"take it from {place}"
                )
            with Image.open(path) as image:
                grey = rgb2gray(np.asarray(image.convert("RGB")))
            for factor in map(int, row["downsizing"].split()):
                yield f"{path.stem}-{factor}", row["source"], area_mean(grey, factor)


def main() -> None:
    """Write links, photographs and a manifest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--photographs", type=Path, help="folder of those that are listed")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    output: Path = arguments.output
    output.mkdir(parents=True)

    entries = []
    for folder in arguments.folders:
        for entry in read_manifest(folder):
            if entry.split == "test":
                continue
            path = output / folder.name / entry.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to((folder / entry.file).resolve())
            entries.append(entry._replace(file=f"{folder.name}/{entry.file}"))
    for name, image in shipped_photographs().items():
        path = output / f"{name}.tif"
        path.parent.mkdir(exist_ok=True)
        grey = rgb2gray(image) if image.ndim == 3 else image
        tifffile.imwrite(path, grey.astype(np.float32))
        source = f"photographs of {path.parent.name}"
        entries.append(Entry(f"{name}.tif", source, "train", "photograph"))
    if arguments.photographs is not None:
        (output / "photographs").mkdir()
        for name, source, image in listed_photographs(arguments.photographs):
            file = f"photographs/{name}.tif"
            tifffile.imwrite(output / file, image)
            entries.append(Entry(file, source, "train", "photograph"))
    write_manifest(output, entries)


if __name__ == "__main__":
    main()
