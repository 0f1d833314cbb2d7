"""Laws of consistency: false alarms as often as said, true ones where detail is wrong."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from emdn.detector import Detector
from emdn.trust.consistency import consistency
from emdn.trust.thinning import thin

CAMERAS = {
    "counter": Detector(1.0),
    "inverted": Detector(-2.0, offset=900.0),
    "CCD": Detector(3.7, offset=100.0, readout=3.0),
    "scintillator": Detector(7.0, offset=100.0, correlation=(0.445, 0.445)),
}
cameras = pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
COUNTER = CAMERAS["counter"]
SHAPE = (256, 320)
ATOM = (100, 200)
DOSES = [0.5, 2.0, 5.0, 20.0, 200.0]


def field(dose):
    """Return expected electrons of a wavy film."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return dose * (1 + 0.5 * np.sin(x / 20) * np.cos(y / 15))


def atom(electrons):
    """Return an atom of 5 pixels, of so many electrons at its peak."""
    spot = np.zeros(SHAPE)
    spot[ATOM] = 1.0
    spot = gaussian_filter(spot, 2.0)
    return electrons * spot / spot.max()


@cameras
@pytest.mark.parametrize("dose", DOSES)
def test_a_truth_raises_as_many_false_alarms_as_said(camera, dose):
    electrons = field(dose)
    truth, alarms, excess = camera.expected(electrons), [], []
    for seed in range(4):
        noisy = camera.apply(electrons, np.random.default_rng(seed))
        found = consistency(noisy, truth, camera)
        alarms.append(found.alarms(0.01))
        excess.append(found.excess)
    assert 0.005 < np.mean(alarms) < 0.02
    assert np.mean(excess) == pytest.approx(0, abs=0.06)
    assert np.std(excess) == pytest.approx(1, abs=0.06)


@cameras
def test_a_truth_is_seldom_wrong_for_sure(camera):
    electrons = field(5.0)
    truth = camera.expected(electrons)
    wrong = [
        consistency(camera.apply(electrons, np.random.default_rng(seed)), truth, camera)
        .places(0.01)
        .any()
        for seed in range(8)
    ]
    assert sum(wrong) <= 1


@cameras
@pytest.mark.parametrize("dose", [2.0, 5.0, 20.0])
def test_a_removed_atom_is_found(camera, dose, rng):
    electrons = field(dose) + atom(4 * dose + 8)
    noisy = camera.apply(electrons, rng)
    found = consistency(noisy, camera.expected(field(dose)), camera)
    assert found.places()[ATOM]
    assert found.excess[ATOM] > 3


@cameras
@pytest.mark.parametrize("dose", [2.0, 5.0, 20.0])
def test_an_invented_atom_is_found(camera, dose, rng):
    noisy = camera.apply(field(dose), rng)
    found = consistency(noisy, camera.expected(field(dose) + atom(4 * dose + 8)), camera)
    assert found.places()[ATOM]
    assert found.excess[ATOM] < -3


@cameras
@pytest.mark.parametrize("dose", [5.0, 20.0])
def test_a_shifted_edge_is_found_and_nothing_else(camera, dose, rng):
    edge, moved = (np.where(np.arange(320) < end, dose, 3 * dose) for end in (160, 162))
    noisy = camera.apply(np.broadcast_to(edge, SHAPE), rng)
    chance = consistency(
        noisy, camera.expected(np.broadcast_to(moved, SHAPE)), camera
    ).chance
    assert (chance[:, 157:165] < 0.01).mean() > 0.4
    assert (chance[:, :140] < 0.01).mean() < 0.03


def test_lost_texture_is_found_everywhere(rng):
    texture = 20 + 8 * np.sin(np.arange(SHAPE[1]) / 1.5) * np.ones((SHAPE[0], 1))
    noisy = COUNTER.apply(texture, rng)
    assert consistency(noisy, np.full(SHAPE, 20.0), COUNTER).alarms() > 0.2


def test_a_half_that_was_held_out_finds_what_follows_the_noise(rng):
    noisy = COUNTER.apply(field(20.0), rng)
    assert consistency(noisy, noisy, COUNTER).alarms() == 0
    first, second, (_, half) = thin(noisy, COUNTER, 0.5, rng)
    assert consistency(second, first, half).alarms() > 0.1
    assert 0.005 < consistency(second, field(10.0), half).alarms() < 0.02


def test_no_electrons_where_none_are_expected_are_plausible():
    black = np.zeros((32, 32))
    assert consistency(black, black, COUNTER).alarms() == 0


def test_images_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="shape of the noisy one"):
        consistency(np.ones((32, 32)), np.ones((32, 33)), COUNTER)


def test_images_smaller_than_a_window_are_refused():
    with pytest.raises(ValueError, match="at least 9 x 9"):
        consistency(np.ones((8, 32)), np.ones((8, 32)), COUNTER)
