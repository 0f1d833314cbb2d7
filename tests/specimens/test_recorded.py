"""Each micrograph that ships has a licence, a source and the pixels that were published."""

import numpy as np
import pytest
import yaml

from emdn import MicrographError
from emdn.files import sha256
from emdn.specimens import load, names
from emdn.specimens.recorded import FOLDER

TABLE = yaml.safe_load((FOLDER / "specimens.yml").read_text(encoding="utf-8"))
MAY_BE_PASSED_ON = {
    "CC0-1.0",
    "CC-BY-4.0",
    "MIT",
}  # also changed, if their authors are named


def test_table_files_and_hashes_name_the_same_micrographs():
    lines = (FOLDER / "SHA256SUMS").read_text().splitlines()
    hashes = {name: digest for digest, name in (line.split() for line in lines)}
    assert hashes == {path.name: sha256(path) for path in FOLDER.glob("*.png")}
    assert {f"{name}.png" for name in TABLE} == hashes.keys()
    assert set(names()) == TABLE.keys()


def test_together_they_stay_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1.5e6


@pytest.mark.parametrize("name", TABLE)
def test_each_may_be_passed_on_and_names_its_authors(name):
    facts = TABLE[name]
    assert facts["licence"] in MAY_BE_PASSED_ON
    assert facts["attribution"]
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    section = readme.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    for key in ("seen", "licence", "attribution", "source", "path", "trained", "note"):
        assert facts[key] in section, f"run studies/corpus/specimens.py: {key} differs"


def test_the_terms_of_the_licence_ship_beside_them():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "The above copyright notice and this permission notice shall be included" in text


@pytest.mark.parametrize("name", TABLE)
def test_a_micrograph_is_the_crop_that_its_table_tells(name):
    image, metadata = load(name)
    assert image.dtype == np.float32
    assert image.shape == tuple(TABLE[name]["crop"][2:])
    assert min(image.shape) >= 256
    assert 0 <= image.min() < image.max() <= 255
    assert metadata.pixel_size == TABLE[name].get("pixel_size")
    assert metadata.other["licence"] == TABLE[name]["licence"]


def test_there_are_noisy_and_exposed_ones():
    exposures = [load(name)[1].other["exposure"] for name in names()]
    assert set(exposures) == {"exposed", "noisy"}
    assert exposures.count("exposed") >= 2


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(MicrographError, match=r"'silver'; there are axons, .*gold"):
        load("silver")
