"""Gather what the shipped weights are trained on: micrographs, photographs, simulations.

    python studies/corpus/simulate.py runs/simulated      # needs abtem and ase
    python studies/corpus/gather.py CORPUS runs/simulated -o runs/data

CORPUS and runs/simulated hold micrographs and a manifest.csv with columns file, source and
split. The new folder names them, by links, and holds the photographs that scikit-image and
scikit-learn ship, as grey images.
"""

import argparse
from pathlib import Path

import numpy as np
import skimage.data
import tifffile
from skimage.color import rgb2gray
from sklearn.datasets import load_sample_images

from emdn.data.corpus import Entry, read_manifest, write_manifest

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


def photographs() -> dict[str, np.ndarray]:
    """Return (H, W) or (H, W, 3) photographs by package and name."""
    images = {f"skimage/{name}": getattr(skimage.data, name)() for name in PHOTOGRAPHS}
    images["skimage/motorcycle"] = skimage.data.stereo_motorcycle()[0]
    loaded = load_sample_images()
    for name, image in zip(loaded.filenames, loaded.images, strict=True):
        images[f"sklearn/{Path(name).stem}"] = image
    return images


def main() -> None:
    """Write links, photographs and a manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
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
    for name, image in photographs().items():
        path = output / f"{name}.tif"
        path.parent.mkdir(exist_ok=True)
        grey = rgb2gray(image) if image.ndim == 3 else image
        tifffile.imwrite(path, grey.astype(np.float32))
        source = f"photographs of {path.parent.name}"
        entries.append(Entry(f"{name}.tif", source, "train", "photograph"))
    write_manifest(output, entries)


if __name__ == "__main__":
    main()
