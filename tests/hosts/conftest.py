"""Recipes of the page "In other programs": its code is what the tests run."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

PAGE = Path(__file__).parents[2] / "book" / "hosts.md"


def recipe(program: str) -> str:
    """Return the first Python code below the heading of a program."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {program}\n")[2]
    found = re.search(r"^```python\n(.+?)^```$", section.partition("\n## ")[0], re.M | re.S)
    assert found, f"{PAGE}: has no recipe for {program}"
    return found[1]


@pytest.fixture(scope="session")
def run_recipe() -> Callable[..., dict[str, Any]]:
    """Return a function that runs a program's recipe with names, and returns all names.

    `change` is a text of the recipe, and what to put in its place.
    """

    def run(
        program: str, change: tuple[str, str] = ("", ""), **names: Any
    ) -> dict[str, Any]:
        code = recipe(program)
        assert change[0] in code
        exec(compile(code.replace(*change), f"recipe for {program}", "exec"), names)
        return names

    return run


@pytest.fixture(scope="session")
def frames() -> NDArray[np.float32]:
    """Return counts of a disc that wanders, (3, 64, 80)."""
    rows, columns = np.mgrid[:64, :80]
    discs = [np.hypot(rows - 32, columns - 30 - 10 * n) < 15 for n in range(3)]
    clean = np.where(discs, 60.0, 20.0)
    return np.random.default_rng(0).poisson(clean).astype(np.float32)


@pytest.fixture(scope="session")
def denoised(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the recipes shall return."""
    from emdn import Denoiser

    return Denoiser(progress=False).denoise(frames)
