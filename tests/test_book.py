"""Chapters are text and show their figures; tables of contents name what there is."""

import hashlib
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

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


def test_times_of_the_two_ways_are_sums_of_those_of_their_chapters():
    items = re.findall(
        r"^\d\. (.*?) \((\d+) minutes\)", (BOOK / "intro.md").read_text(), re.M
    )
    assert len(items) == 8
    for chapters, total in items:
        minutes = 0
        for name in re.findall(r"{doc}`(\w+)`", chapters):
            card = re.search(
                r"(?:\*\*Time:\*\*|takes) (\d+) minutes", (BOOK / f"{name}.md").read_text()
            )
            assert card, f"{name} does not say how long it takes"
            minutes += int(card[1])
        assert minutes == int(total), f"{chapters}: {minutes} minutes, not {total}"


def test_the_environment_of_conda_installs_extras_that_there_are():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, by_pip = environment["dependencies"]
    assert pip == "pip"
    assert python.removeprefix("python=") in SpecifierSet(project["requires-python"])
    (package,) = by_pip["pip"]
    asked = re.fullmatch(r"-e \.\[([\w,]+)\]", package)[1].split(",")
    assert set(asked) <= set(project["optional-dependencies"])


def test_every_script_is_told_of():
    studies = ROOT / "studies"
    listed = re.findall(r"^\| `([\w/]+\.py)` \|", (studies / "README.md").read_text(), re.M)
    scripts = sorted(str(path.relative_to(studies)) for path in studies.rglob("*.py"))
    assert sorted(listed) == scripts, (
        "the table of studies/README.md lists each script once"
    )


def test_files_of_others_are_those_of_the_manifest():
    """What pages load from other projects is unchanged, and its licence lies beside it."""
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


NAME = "quickstart.ipynb"


@pytest.fixture(scope="module")
def emdn_pages():
    """Return the extension of the book, as a module."""
    spec = importlib.util.spec_from_file_location("_", BOOK / "_ext" / "emdn_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_an_address_nothing_is_launched(emdn_pages):
    assert emdn_pages.launch_links("", "main", "https://hub.example.org", NAME) == {}


def test_launch_links_open_the_notebook_of_the_repository(emdn_pages):
    links = emdn_pages.launch_links(
        "https://github.com/someone/emdn/", "main", "https://hub.example.org/", NAME
    )
    assert links == {
        "Colab": "https://colab.research.google.com/github/someone/emdn/blob/main/"
        "notebooks/quickstart.ipynb",
        "Binder": "https://mybinder.org/v2/gh/someone/emdn/main"
        "?urlpath=lab/tree/notebooks/quickstart.ipynb",
        "JupyterHub": "https://hub.example.org/hub/user-redirect/git-pull"
        "?repo=https%3A%2F%2Fgithub.com%2Fsomeone%2Femdn&branch=main"
        "&urlpath=lab%2Ftree%2Femdn%2Fnotebooks%2Fquickstart.ipynb",
    }


def test_colab_is_offered_for_github_only(emdn_pages):
    links = emdn_pages.launch_links("https://git.example.org/a/emdn", "main", "", NAME)
    assert links == {
        "Binder": "https://mybinder.org/v2/git/https%3A%2F%2Fgit.example.org%2Fa%2Femdn/main"
        "?urlpath=lab/tree/notebooks/quickstart.ipynb"
    }
