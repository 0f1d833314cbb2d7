"""Gather what the shipped weights are trained on: micrographs, photographs, simulations.

    python studies/corpus/simulate.py runs/simulated      # needs abtem and ase
    python studies/corpus/gather.py CORPUS runs/simulated -o runs/data

CORPUS and runs/simulated hold micrographs and a manifest.csv with columns file, source and
split. The new folder names them, by links, and holds the photographs that scikit-image and
scikit-learn ship, as grey images.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import skimage.data
import tifffile
from skimage.color import rgb2gray
from sklearn.datasets import load_sample_images

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

    rows = []
    for folder in arguments.folders:
        with (folder / "manifest.csv").open() as file:
            for row in csv.DictReader(file):
                if row["split"] == "test":
                    continue
                path = output / folder.name / row["file"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to((folder / row["file"]).resolve())
                name = f"{folder.name}/{row['file']}"
                rows.append((name, row["source"], row["split"]))
    for name, image in photographs().items():
        path = output / f"{name}.tif"
        path.parent.mkdir(exist_ok=True)
        grey = rgb2gray(image) if image.ndim == 3 else image
        tifffile.imwrite(path, grey.astype(np.float32))
        rows.append((f"{name}.tif", f"photographs of {path.parent.name}", "train"))
    with (output / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "source", "split"))
        writer.writerows(rows)


if __name__ == "__main__":
    main()
