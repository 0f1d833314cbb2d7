"""All methods that can be scored, and functions of one's own."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from inspect import Parameter, signature
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

from emdn.benchmark import peers
from emdn.benchmark.filters import BASELINES, STABILISED, STRENGTHS, TOLD, tuned_methods
from emdn.benchmark.method import Image, Method, PaperDose, blind
from emdn.console import load_tensorflow
from emdn.denoiser import Denoiser

NETWORK = "emdn"  # the network that ships for all doses, which measures the noise itself
NETWORKS = (NETWORK, "emdn, told", "emdn, blind")  # told the noise; the paper's graph


def standard_methods(dose_range: PaperDose) -> dict[str, Method]:
    """Return the network, the paper's filters, and those that are told the noise."""
    return _networks(dose_range) | _filters(dose_range)


KNOWN = (*NETWORKS, *BASELINES, *TOLD, *STABILISED, *peers.PEERS)
"""Names of all methods of this package and of `emdn.benchmark.peers`."""


@dataclass(frozen=True)
class Methods:
    """A choice of methods, which returns them for a dose range when called.

    Parameters
    ----------
    names : tuple of str
        Of `KNOWN`, in any order; empty for the standard methods.
    with_peers : bool
        Add all of `emdn.benchmark.peers`, whose packages must be installed.
    own : tuple of str
        Functions to add, as "package.module:function"; see `imported_method`.

    Examples
    --------
    >>> list(Methods(("Gaussian", "unfiltered"))("low"))
    ['unfiltered', 'Gaussian']
    """

    # A value, not a closure: workers are sent it and know it again by its hash.
    names: tuple[str, ...] = ()
    with_peers: bool = False
    own: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in KNOWN:
                raise ValueError(f"no method is called {name!r}; {_known()}")
        for name in self.chosen:
            if name in peers.PEERS:
                peers.require(name)

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of all methods, in the order of `KNOWN`, own ones last."""
        names = self.names or set(KNOWN) - set(peers.PEERS)
        wanted = {*names, *(peers.PEERS if self.with_peers else ())}
        return (*(name for name in KNOWN if name in wanted), *self.own)

    def __call__(self, dose_range: PaperDose) -> dict[str, Method]:
        """Return the methods for a dose range by name."""
        known = _filters(dose_range) | peers.peer_methods(dose_range)
        if not {*NETWORKS}.isdisjoint(self.chosen):
            known |= _networks(dose_range)
        known |= {place: imported_method(place) for place in self.own}
        return {name: known[name] for name in self.chosen}


def split_names(text: str) -> tuple[str, ...]:
    """Split names of methods at commas, of which some names have one themselves.

    Parameters
    ----------
    text : str
        Names of `KNOWN`; upper and lower case are alike.

    Examples
    --------
    >>> split_names("emdn,wavelet, stabilised,median")
    ('emdn', 'wavelet, stabilised', 'median')
    """
    longest_first = sorted(KNOWN, key=len, reverse=True)
    names = []
    rest = text.strip()
    while rest:
        for name in longest_first:
            head, tail = rest[: len(name)], rest[len(name) :].lstrip()
            if head.lower() == name.lower() and tail[:1] in ("", ","):
                names.append(name)
                rest = tail[1:].strip()
                break
        else:
            raise ValueError(f"no method is called {rest.split(',')[0]!r}; {_known()}")
    return tuple(names)


def imported_method(place: str) -> Method:
    """Return a function of somebody's own as a method.

    Parameters
    ----------
    place : str
        "package.module:function". It is called with a noisy image in [0, 1], and with the
        counts that its 1 stands for if it has a second parameter that must be given.
        Modules in the working directory are found too.
    """
    module, colon, name = place.partition(":")
    if not (module and colon and name):
        raise ValueError(f"a method is package.module:function, got {place!r}")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # which only `python -m` would do by itself
    try:
        method: Any = attrgetter(name)(import_module(module))
    except ImportError as error:
        raise ValueError(f"{place}: cannot be imported, {error}") from error
    except AttributeError as error:
        raise ValueError(f"{place}: {error}") from error
    if not callable(method):
        raise ValueError(f"{place}: is no function but {type(method).__name__}")
    function = cast("Callable[..., Image]", method)
    return function if _takes_counts(function) else blind(function)


def _networks(dose_range: PaperDose) -> dict[str, Method]:
    """Return the shipped networks as methods, by the names in `NETWORKS`."""
    load_tensorflow()  # else it would write into the progress bar
    every_dose, of_paper = Denoiser(progress=False), Denoiser(dose_range, progress=False)
    methods: list[Method] = [
        blind(every_dose.denoise),
        lambda noisy, gain: every_dose.denoise(noisy, gain=gain),
        blind(of_paper.denoise),
    ]
    return dict(zip(NETWORKS, methods, strict=True))


def _filters(dose_range: PaperDose) -> dict[str, Method]:
    """Return all methods of `emdn.benchmark.filters`."""
    return BASELINES | tuned_methods(STRENGTHS[dose_range])


def _takes_counts(method: Callable[..., Image]) -> bool:
    """Return whether a function has a second parameter that must be given."""
    try:
        parameters = signature(method).parameters.values()
    except ValueError:  # of a compiled function
        return True
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return len(needed) > 1


def _known() -> str:
    return f"there are: {'; '.join(KNOWN)}"
