"""A method is handed what it knows, and nothing else."""

import pickle

import numpy as np
import pytest

from emdn.benchmark.method import Method
from emdn.benchmark.methods import METHODS

NOISY = np.full((2, 2), 0.5)


def test_a_gain_aware_method_is_handed_the_gain_and_a_blind_one_is_not():
    aware = Method("a", "a", "a", "gain", lambda noisy, gain: noisy * gain)
    blind = Method("b", "b", "b", "nothing", lambda noisy: noisy * 3)
    np.testing.assert_array_equal(aware(NOISY, 0.1), NOISY * 0.1)
    np.testing.assert_array_equal(blind(NOISY, 0.1), NOISY * 3)


def test_settings_are_those_of_the_dose_range():
    settings = {"low": {"factor": 2}, "ordinary": {"factor": 5}}
    scaled = Method(
        "a", "a", "a", "dose range", lambda noisy, *, factor: noisy * factor, settings
    )
    assert scaled.at("low")(NOISY, 1.0).max() == 1.0
    assert scaled.at("ordinary")(NOISY, 1.0).max() == 2.5


@pytest.mark.parametrize("name", ["", "a,b", "emdn, blind", "a\tb"])
def test_names_can_be_listed_with_commas_and_spaces(name):
    with pytest.raises(ValueError, match="no comma or space"):
        Method(name, "label", "family", "nothing", np.array)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_can_be_sent_to_another_process(name):
    method = METHODS[name].at("low")
    sent = pickle.loads(pickle.dumps(method))
    assert (sent.name, sent.run.func) == (name, METHODS[name].run)
    assert sent.run.keywords == method.run.keywords
