"""All methods that can be scored, in one table, and functions of one's own.

Settings of methods that differ by dose range are in ``settings.json``, by name. Those of
filters and peers are tuned on validation micrographs: ``studies/paper/tune_filters.py``
writes them.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from inspect import Parameter, signature
from operator import attrgetter
from pathlib import Path
from typing import Any

from emdn.benchmark import filters, peers
from emdn.benchmark.method import Image, Method, Package
from emdn.denoiser import Denoiser

SETTINGS = Path(__file__).with_name("settings.json")
"""The file of settings by method and dose range.

:meta hide-value:
"""


def network(noisy: Image, gain: float | None = None, *, weights: str = "auto") -> Image:
    """Denoise by the weights of a name, which without a gain measure it or do without."""
    return _denoiser(weights).denoise(noisy, gain=gain)


def compact(noisy: Image, gain: float) -> Image:
    """Denoise by the compact network."""
    return network(noisy, gain, weights="compact")


def _aware(family: str, label: str, run: Callable[..., Image]) -> Method:
    return Method(f"{family}-aware", f"{label}, gain-aware", family, "gain", run)


def _vst(
    family: str, label: str, run: Callable[..., Image], package: Package | None = None
) -> Method:
    name = f"{family}-vst"
    return Method(name, f"{label}, stabilised", family, "gain", run, package=package)


def _with_settings(*methods: Method) -> tuple[Method, ...]:
    settings = json.loads(SETTINGS.read_text())
    return tuple(replace(each, settings=settings.get(each.name, {})) for each in methods)


NETWORKS = _with_settings(
    Method("emdn", "emdn", "emdn", "nothing", network),
    Method("emdn-true-gain", "emdn, true gain", "emdn", "gain", network),
    Method("emdn-compact", "emdn, compact", "emdn", "gain", compact),
    Method("emdn-blind", "emdn, blind", "emdn", "dose range", network),
)
"""The network that ships for all doses, which measures the gain; the same with the true
gain; the compact one with the true gain; the paper's blind network of the dose range."""

PAPER = (
    Method("unfiltered", "unfiltered", "unfiltered", "nothing", filters.unfiltered),
    Method("gaussian", "Gaussian", "gaussian", "nothing", filters.gaussian),
    Method("bilateral", "bilateral", "bilateral", "nothing", filters.bilateral),
    Method("median", "median", "median", "nothing", filters.median),
    Method("wiener", "Wiener", "wiener", "nothing", filters.wiener_3),
    Method("wavelet", "wavelet", "wavelet", "nothing", filters.wavelet),
    Method("chambolle-tv", "Chambolle TV", "chambolle-tv", "nothing", filters.chambolle_tv),
    Method("bregman-tv", "Bregman TV", "bregman-tv", "nothing", filters.bregman_tv),
    Method("nl-means", "NL means", "nl-means", "nothing", filters.nl_means),
)
"""The methods of the paper's Table 1 with its parameters."""

AWARE = _with_settings(
    _aware("gaussian", "Gaussian", filters.aware_gaussian),
    _aware("bilateral", "bilateral", filters.aware_bilateral),
    Method("median-tuned", "median, tuned", "median", "dose range", filters.median),
    _aware("wiener", "Wiener", filters.aware_wiener),
    _aware("wavelet", "wavelet", filters.aware_wavelet),
    _aware("chambolle-tv", "Chambolle TV", filters.aware_chambolle_tv),
    _aware("bregman-tv", "Bregman TV", filters.aware_bregman_tv),
    _aware("nl-means", "NL means", filters.aware_nl_means),
)
"""The same filters with one parameter that follows from the gain, or the dose range."""

STABILISED = _with_settings(
    _vst("chambolle-tv", "Chambolle TV", filters.chambolle_tv_vst),
    _vst("nl-means", "NL means", filters.nl_means_vst),
    _vst("wavelet", "wavelet", filters.wavelet_vst),
)
"""Gain-aware filters of Anscombe-transformed counts."""

PEERS = _with_settings(
    _vst("bm3d", "BM3D", peers.bm3d, peers.BM3D),
    _vst("ffdnet", "FFDNet", peers.ffdnet, peers.FFDNET),
    Method("topaz", "Topaz", "topaz", "nothing", peers.topaz, package=peers.TOPAZ),
    Method("r-em", "r_em", "r-em", "dose range", peers.r_em, package=peers.R_EM),
)
"""Methods of packages of other people."""

STANDARD = (*NETWORKS, *PAPER, *AWARE, *STABILISED)
METHODS = {method.name: method for method in (*STANDARD, *PEERS)}
NETWORK, TRUE_GAIN, COMPACT, BLIND = (method.name for method in NETWORKS)


def choose(
    names: Sequence[str] = (), *, with_peers: bool = False, own: Sequence[str] = ()
) -> tuple[Method, ...]:
    """Return methods by name, in the order of `METHODS`, own ones last.

    Parameters
    ----------
    names : sequence of str
        Names in `METHODS`; without any, all of `STANDARD`.
    with_peers : bool
        Add all of `PEERS`, whose packages must be installed.
    own : sequence of str
        Functions to add, as "package.module:function"; see `own_method`.

    Raises
    ------
    ValueError
        If there is no such method.
    ImportError
        If the package of a peer is not installed.

    Examples
    --------
    >>> [method.label for method in choose(["gaussian", "unfiltered"])]
    ['unfiltered', 'Gaussian']
    """
    for name in names:
        if name not in METHODS:
            raise ValueError(
                f"no method is called {name!r}; there are: {', '.join(METHODS)}"
            )
    wanted = {*names} or {method.name for method in STANDARD}
    wanted |= {method.name for method in PEERS} if with_peers else set()
    chosen = [method for name, method in METHODS.items() if name in wanted]
    for method in chosen:
        if method.package is not None and find_spec(method.package.module) is None:
            method.package.load()  # which says how to get it
    return (*chosen, *map(own_method, own))


def label_of(name: str) -> str:
    """Return the label of a method; a function of somebody's own has its name."""
    return METHODS[name].label if name in METHODS else name


def family_of(name: str) -> str:
    """Return the family of a method; a function of somebody's own is one by itself.

    Examples
    --------
    >>> family_of("wavelet-vst"), family_of("my.code:denoise")
    ('wavelet', 'my.code:denoise')
    """
    return METHODS[name].family if name in METHODS else name


def own_method(place: str) -> Method:
    """Return a function of somebody's own as a method.

    Parameters
    ----------
    place : str
        "package.module:function", which Python must be able to import here, and on all
        workers of a cluster. The function is called with a noisy image in [0, 1], and with
        the gain if it has a second parameter that must be given.

    Raises
    ------
    ValueError
        If the function cannot be imported, whatever its module does.
    """
    module, _, name = place.partition(":")
    parts = [*module.split("."), *name.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise ValueError(f"a method is package.module:function, got {place!r}")
    try:
        function: Any = attrgetter(name)(import_module(module))
    except (Exception, SystemExit) as error:
        fault = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{place}: cannot be imported ({fault})") from error
    if not isinstance(function, Callable):
        raise ValueError(f"{place}: is no function but {type(function).__name__}")
    knows = "gain" if _takes_gain(function) else "nothing"
    return Method(place, place, place, knows, function)


def _takes_gain(function: Callable[..., Image]) -> bool:
    """Return whether a function has a second parameter that must be given."""
    try:
        parameters = signature(function).parameters.values()
    except ValueError:  # a compiled function that does not tell
        return True
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return len(needed) > 1


@cache
def _denoiser(weights: Any) -> Denoiser:
    return Denoiser(weights, progress=False)
