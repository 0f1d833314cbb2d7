"""Chapters are text and show their figures; tables of contents name what there is."""

import hashlib
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
CHAPTERS = sorted([*BOOK.glob("*.md"), *BOOK.glob("api/*.md")])
DRAWING = [path for path in CHAPTERS if "plots" in path.read_text()]


def cells(path):
    """Return the code cells of a chapter."""
    return [part.split("```")[0] for part in path.read_text().split("```{code-cell}")[1:]]


def test_every_chapter_is_in_the_table_of_contents():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    chapters = [each for part in contents["parts"] for each in part["chapters"]]
    sections = [each for chapter in chapters for each in chapter.get("sections", [])]
    listed = [contents["root"], *(each["file"] for each in (*chapters, *sections))]
    there = [path.relative_to(BOOK).with_suffix("").as_posix() for path in CHAPTERS]
    assert sorted(listed) == sorted(there)


@pytest.mark.parametrize("path", DRAWING, ids=lambda path: path.stem)
def test_a_chapter_that_draws_asks_for_its_figures_first(path):
    """Else figures of pyplot stay away without a word."""
    code = cells(path)
    assert not code or "%matplotlib inline" in code[0]


def test_every_script_is_told_of():
    studies = ROOT / "studies"
    listed = re.findall(r"^\| `([\w/]+\.py)` \|", (studies / "README.md").read_text(), re.M)
    scripts = sorted(str(path.relative_to(studies)) for path in studies.rglob("*.py"))
    assert sorted(listed) == scripts, (
        "the table of studies/README.md lists each script once"
    )


def test_files_of_others_are_those_of_the_manifest():
    """What the pages load from other projects is unchanged, and its licence lies beside it."""
    vendor = BOOK / "_extra" / "vendor"
    manifest = yaml.safe_load((vendor / "manifest.yml").read_text())
    texts = {vendor / facts["licence_text"] for facts in manifest.values()}
    assert {path for path in vendor.rglob("*") if path.is_file()} == {
        vendor / "manifest.yml",
        *texts,
        *(vendor / name for name in manifest),
    }
    for name, facts in manifest.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == facts["sha256"]
