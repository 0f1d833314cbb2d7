"""Chapters are text without outputs, and show their figures; lists name what there is."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
CHAPTERS = sorted(BOOK.glob("*.md"))
DRAWING = [path for path in CHAPTERS if "plots" in path.read_text()]


def cells(path):
    """Return the code cells of a chapter."""
    return [part.split("```")[0] for part in path.read_text().split("```{code-cell}")[1:]]


def test_every_chapter_is_in_the_table_of_contents():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [each["file"] for part in contents["parts"] for each in part["chapters"]]
    assert sorted([contents["root"], *listed]) == [path.stem for path in CHAPTERS]


def test_no_notebook_with_outputs_is_kept():
    assert not list(BOOK.rglob("*.ipynb"))


@pytest.mark.parametrize("path", DRAWING, ids=lambda path: path.stem)
def test_a_chapter_that_draws_asks_for_its_figures_first(path):
    """Else figures of pyplot stay away without a word."""
    code = cells(path)
    assert not code or "%matplotlib inline" in code[0]


def test_contributors_find_every_script():
    listed = re.findall(r"^\| `(\w+\.py)` \|", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    assert sorted(listed) == sorted(path.name for path in (ROOT / "studies").rglob("*.py"))
