"""The map names every room, imports run one way, and pyproject names what is imported."""

import ast
import re
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import emdn

ROOT = Path(__file__).parents[1]
# A wing imports from the core and from wings to its left; other folders are of the core.
WINGS = ["specimens", "networks", "weights", "data", "training", "benchmark"]
WINGS += ["trust", "bridges"]
# Where the core opens into the wings, when a function is called and not before.
DOORS = {"emdn.denoiser", "emdn.cli"}
# These open their own door to Keras or ONNX Runtime when they load a file.
LIGHT = {"emdn.weights", "emdn.weights.backends"}


def module(path):
    """Return the dotted name of a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module(path): path for path in sorted((ROOT / "emdn").rglob("*.py"))}


def imports(name):
    """Return what a module imports, and whether each import waits inside a function."""
    found = []
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.col_offset > 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found += [(inner if inner in FILES else node.module, node.col_offset > 0)]
    return found


OURS = {name: [each for each in imports(name) if each[0] in FILES] for name in FILES}


def rooms(text):
    """Return the modules of a map: a line each, and the files of a wing after a colon."""
    listed = {"emdn"}
    for line in re.sub(r"\n {10,}", " ", text).splitlines():
        if found := re.match(r" {4}(\w+)(?:/ .*: ([\w, ]+)$|/? )", line):
            name, files = found.groups()
            inside = re.findall(r"\w+", files or "")
            listed |= {f"emdn.{name}", *(f"emdn.{name}.{file}" for file in inside)}
    return listed


GUIDE = (ROOT / "CONTRIBUTING.md").read_text().partition("The rooms of `emdn/`")[2]
API = "\n".join(
    path.read_text()
    for path in (ROOT / "book" / "api.md", *sorted((ROOT / "book" / "api").glob("*.md")))
)
PLACES = {
    "the docstring of emdn/__init__.py": rooms(emdn.__doc__.partition("The rooms")[2]),
    "'The map' in CONTRIBUTING.md": rooms(GUIDE.partition("\n## ")[0]),
    "book/api.md and book/api/": set(re.findall(r"automodule:: ([\w.]+)", API)),
}


@pytest.mark.parametrize("place", PLACES)
def test_every_room_is_on_the_map(place):
    listed, there = PLACES[place], FILES.keys()
    lacks, extra = sorted(there - listed), sorted(listed - there)
    assert not lacks, f"add {', '.join(lacks)} to {place}"
    assert not extra, f"take {', '.join(extra)} out of {place}"


def test_no_import_runs_in_a_circle():
    graph = {name: {target for target, _ in OURS[name]} for name in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("imports run in a circle: " + " <- ".join(error.args[1]))


@pytest.mark.parametrize("name", FILES)
def test_imports_run_one_way(name):
    def wing(of):
        return WINGS.index(part) if (part := (*of.split("."), "")[1]) in WINGS else -1

    for target, waits in OURS[name]:
        if wing(name) == -1 < wing(target):
            assert name in DOORS, f"{name} is of the core and imports {target}, a wing"
            assert waits or target in LIGHT, f"{name} must import {target} in a function"
        assert wing(name) == -1 or wing(target) <= wing(name), (
            f"{name} imports {target}; the order of wings is {' '.join(WINGS)}"
        )


def test_pyproject_names_every_package_that_is_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    named = {re.match(r"[\w-]+", line)[0].lower() for each in lists for line in each}
    outside = {target.partition(".")[0] for name in FILES for target, _ in imports(name)}
    homes = packages_distributions()
    for package in sorted(outside - {"emdn"} - sys.stdlib_module_names):
        assert named & {home.lower() for home in homes.get(package, [package])}, (
            f"pyproject.toml must name the distribution of {package}"
        )
