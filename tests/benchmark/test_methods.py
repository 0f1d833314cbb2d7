"""Methods are chosen by identifiers, and functions of one's own are methods too."""

import sys

import numpy as np
import pytest

from emdn.benchmark import methods
from emdn.benchmark.methods import (
    BLIND,
    COMPACT,
    METHODS,
    NETWORK,
    PEERS,
    STANDARD,
    TRUE_GAIN,
    choose,
    own_method,
)
from emdn.noise import noisy_pair
from emdn.specimens.micrographs import membranes

OWN = """
def of_an_image(noisy):
    return noisy / 2

def of_gain(noisy, gain):
    return noisy * gain

def with_settings(noisy, strength=3):
    return noisy * strength

class Denoiser:
    def denoise(self, noisy, clip=True):
        return noisy / 4

denoiser = Denoiser()
number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Write modules of somebody's own where Python finds them; return a name."""
    (tmp_path / "own_methods.py").write_text(OWN)
    (tmp_path / "misspelt.py").write_text("def f(noisy) return noisy\n")
    (tmp_path / "quitting.py").write_text("raise SystemExit('bye')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_methods"
    for name in ("own_methods", "misspelt", "quitting"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("function", "factor"),
    [
        ("of_an_image", 0.5),
        ("of_gain", 7),
        ("with_settings", 3),
        ("denoiser.denoise", 0.25),
    ],
)
def test_a_function_of_ones_own_is_a_method_with_or_without_the_gain(own, function, factor):
    denoised = own_method(f"{own}:{function}")(np.ones((2, 2)), 7.0)
    np.testing.assert_array_equal(denoised, factor)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("own_methods", "a method is package.module:function, got 'own_methods'"),
        ("../x:y", "a method is package.module:function, got '../x:y'"),
        ("own_methods:a,b", "a method is package.module:function"),
        ("own_methods:other", "own_methods:other: .*no attribute 'other'"),
        ("nowhere.at_all:other", "cannot be imported .*No module named 'nowhere'"),
        ("misspelt:f", "misspelt:f: cannot be imported .SyntaxError"),
        ("quitting:f", "quitting:f: cannot be imported .SystemExit: bye"),
        ("own_methods:number", "is no function but int"),
    ],
)
def test_a_method_that_cannot_be_had_is_named_in_one_line(own, place, message):
    assert own
    with pytest.raises(ValueError, match=message) as caught:
        own_method(place)
    assert len(str(caught.value).splitlines()) == 1


def test_methods_of_any_choice_come_in_one_order(own):
    place = f"{own}:of_an_image"
    chosen = choose(["median", "wavelet-vst", "gaussian"], own=[place])
    names = [method.name for method in chosen]
    assert names == ["gaussian", "median", "wavelet-vst", place]


def test_no_choice_is_all_but_peers():
    assert choose() == STANDARD
    assert {*METHODS} - {method.name for method in STANDARD} == {
        method.name for method in PEERS
    }


def test_an_unknown_method_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"no method is called 'Gauss'; there are: emdn, "):
        choose(["median", "Gauss"])


def test_peers_that_are_not_installed_are_refused_before_anything_is_done(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm3d", None)
    for names, with_peers in ((["bm3d-vst"], False), ([], True)):
        with pytest.raises(ImportError, match=r"emdn\[peers\]"):
            choose(names, with_peers=with_peers)
    monkeypatch.setattr(methods, "find_spec", lambda _: True)
    assert choose(["gaussian"], with_peers=True)[1:] == PEERS


def test_names_labels_and_settings_are_those_of_methods():
    labels = [method.label for method in METHODS.values()]
    assert len({*labels}) == len(labels)
    for method in METHODS.values():
        assert bool(method.settings) == (
            method.knows == "dose range" or "-aware" in method.name or "-vst" in method.name
        )


@pytest.mark.slow
def test_the_network_measures_the_gain_unless_it_is_given():
    """A wrong gain changes the result of the one that is given it, and of no other."""
    rng = np.random.default_rng(0)
    noisy, _, gain = noisy_pair(membranes((64, 64), rng), 80.0, rng)
    told = {NETWORK: False, BLIND: False, TRUE_GAIN: True, COMPACT: True}
    for name, changes in told.items():
        method = METHODS[name].at("low")
        results = [method(noisy, factor * gain) for factor in (1, 3)]
        assert np.array_equal(*results) != changes
