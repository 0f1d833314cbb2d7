"""Cut the micrographs that ship out of their sources, by the table that ships with them.

    python studies/corpus/specimens.py SOURCES

SOURCES holds the files that `emdn/specimens/real/specimens.yml` names, as
SOURCES/owner/repository/path; each at the commit named there, of the SHA-256 named there.
Of colour images, whose channels are equal, the first is taken. Images of 16 bits are
divided by 257, so that 65535 becomes 255, and all are rounded to 8 bits.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from emdn.data.sampler import area_mean
from emdn.files import sha256
from emdn.specimens.recorded import FOLDER, table

HEAD = """\
# Real micrographs

Written by `studies/corpus/specimens.py` from `specimens.yml`; load them by
`emdn.specimens.load("gold")`. They are for looking and for teaching. Where the source is of
the test split of the project's corpus, nothing may be trained or tuned on it.
"""
LICENCE = (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8")


def cut(path: Path, facts: dict[str, Any]) -> NDArray[np.uint8]:
    """Return the crop of a source as (H, W) pixels.

    Raises
    ------
    ValueError
        If the file is another one than the table was made of.
    """
    if sha256(path) != facts["sha256"]:
        place = f"{facts['source']} at commit {facts['commit']}"
        raise ValueError(f"{path}: is another file, by its SHA-256; take it from {place}")
    if path.suffix == ".tif":
        pixels = tifffile.imread(path)
    else:
        with Image.open(path) as image:
            pixels = np.asarray(image)
    grey = pixels[..., 0] if pixels.ndim == 3 else pixels
    grey = grey / (257 if grey.dtype == np.uint16 else 1)
    means = area_mean(grey, facts["area"])
    top, left, height, width = facts["crop"]
    crop = means[top : top + height, left : left + width]
    return np.round(crop).astype(np.uint8)


def describe(name: str, facts: dict[str, Any]) -> str:
    """Return the section of README.md on a micrograph."""
    size, unit = facts.get("pixel_size"), facts.get("unit")
    top, left, height, width = facts["crop"]
    source = f"`{facts['path']}` of <https://github.com/{facts['source']}>"
    lines = {
        "Seen": facts["seen"],
        "Modality": facts["modality"],
        "Pixel": f"{size} {unit}" if size else "size not known",
        "Noise": facts["exposure"],
        "Source": f"{source}, commit `{facts['commit'][:12]}`",
        "Crop": f"{height} x {width} pixels from row {top}, column {left}",
        "Licence": facts["licence"],
        "Attribution": facts["attribution"],
        "Split of the source": f"{facts['split']}. {facts['trained']}",
        "Note": facts["note"],
    }
    return f"\n## {name}\n\n" + "".join(f"- {key}: {text}\n" for key, text in lines.items())


def main() -> None:
    """Write the images, their hashes and README.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", type=Path)
    sources: Path = parser.parse_args().sources
    hashes = []
    for name, facts in sorted(table().items()):
        target = FOLDER / f"{name}.png"
        pixels = cut(sources / facts["source"] / facts["path"], facts)
        Image.fromarray(pixels).save(target, optimize=True)
        hashes.append(f"{sha256(target)}  {target.name}\n")
    (FOLDER / "SHA256SUMS").write_text("".join(hashes), encoding="utf-8")
    sections = "".join(describe(*each) for each in sorted(table().items()))
    terms = LICENCE[LICENCE.index("Permission is hereby") :]
    licence = f"\n## The MIT License\n\nIt holds for each, by those named above.\n\n{terms}"
    (FOLDER / "README.md").write_text(HEAD + sections + licence, encoding="utf-8")


if __name__ == "__main__":
    main()
