"""What a method of denoising is: a record with a name, a label and a function."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from typing import Any, Literal, NamedTuple

from numpy.typing import NDArray

PaperDose = Literal["low", "ordinary"]  # the dose ranges that methods are scored on
Image = NDArray[Any]  # (H, W), of real numbers
Denoise = Callable[[Image, float], Image]  # of a noisy image and its gain


class Package(NamedTuple):
    """A package of other people that a method needs.

    Parameters
    ----------
    module : str
        Module to import.
    distributions : tuple of str
        Name of the package on PyPI, and names of the packages that do its work.
    licence : str
        Licence of the package.
    """

    module: str
    distributions: tuple[str, ...]
    licence: str

    def load(self, module: str | None = None) -> Any:
        """Return the package's module, or another one that it needs.

        Raises
        ------
        ImportError
            If it cannot be imported. The message names package, extra and licence.
        """
        try:
            return import_module(module or self.module)
        except ImportError as error:
            raise ImportError(
                f"the package {self.distributions[0]} cannot be imported ({error}); "
                f'pip install "emdn[peers]" brings it (its licence: {self.licence})'
            ) from error


@dataclass(frozen=True)
class Method:
    """A method of denoising, which can be called with a noisy image and its gain.

    Parameters
    ----------
    name : str
        Identifier, without commas and spaces: what files and the command line say.
    label : str
        Name for readers of tables and figures.
    family : str
        Name that variants of one method share; they have one colour in figures.
    knows : {"nothing", "dose range", "gain"}
        What the method is handed beside the image. A method that knows the gain is
        gain-aware; what knows the dose range has other settings in each.
    run : callable
        Takes a noisy image in [0, 1], if `knows` is "gain" also the gain, and the settings
        as keywords; returns the denoised image. A function at the top of a module can be
        sent to other processes.
    settings : mapping
        Keywords for `run` by dose range.
    package : Package, optional
        Where the method comes from, if not from here.

    Examples
    --------
    >>> import numpy as np
    >>> root = Method("root", "square root", "root", "nothing", np.sqrt)
    >>> root(np.array([[0.25]]), 0.01)
    array([[0.5]])
    """

    name: str
    label: str
    family: str
    knows: Literal["nothing", "dose range", "gain"]
    run: Callable[..., Image]
    settings: Mapping[PaperDose, Mapping[str, Any]] = field(default_factory=dict)
    package: Package | None = None

    def __post_init__(self) -> None:
        if not self.name or set(self.name) & set(", \t\n"):
            raise ValueError(f"a method's name has no comma or space, got {self.name!r}")

    def at(self, dose_range: PaperDose) -> "Method":
        """Return the method with its settings for a dose range."""
        settings = self.settings.get(dose_range, {})
        return replace(self, run=partial(self.run, **settings), settings={})

    def __call__(self, noisy: Image, gain: float) -> Image:
        """Denoise an image, of which one electron adds `gain` to a pixel."""
        return self.run(noisy, gain) if self.knows == "gain" else self.run(noisy)
