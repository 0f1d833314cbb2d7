"""Adaptation gains where a specimen is new, and is undone to the bit where it is not."""

import hashlib
import json

import numpy as np
import pytest

from emdn.denoiser import Denoiser
from emdn.detector import Detector
from emdn.metrics import mse
from emdn.specimens.micrographs import membranes
from emdn.trust.adaptation import LEARNING_SHARE, richest
from emdn.weights import find, load, read_model


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """Save a small gain-aware network that returns its input."""
    import keras

    from emdn.networks import build
    from emdn.networks.unet import UNetConfig

    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("weights") / "untrained.keras"
    build(UNetConfig((8,), (1,))).save(path)
    return path


@pytest.fixture
def learner(untrained, monkeypatch):
    """Let that network, which knows nothing yet, learn in larger steps."""
    monkeypatch.setattr("emdn.trust.adaptation.LEARNING_RATE", 3e-3)
    return untrained


def weave(side=128, period=8.3):
    """Draw threads that pass over and under each other, which no training has shown."""
    y, x = np.indices((side, side)) / period
    v, u = y * np.cos(0.3) - x * np.sin(0.3), y * np.sin(0.3) + x * np.cos(0.3)
    warp, weft = np.abs(np.sin(np.pi * v)), np.abs(np.sin(np.pi * u))
    over = (np.floor(v) + np.floor(u)) % 2 > 0
    return np.where(over, warp * (1 - 0.3 * weft), 0.8 * weft * (1 - 0.3 * warp))


def counts(clean, scale=60.0, seed=0):
    return np.random.default_rng(seed).poisson(scale * clean)


def same_weights(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_a_specimen_that_no_training_has_shown_gains():
    clean = weave()
    noisy = counts(clean)
    shipped = Denoiser()
    adaptation = shipped.adapt(noisy, gain=1.0)
    assert adaptation.kept, adaptation.reason
    assert adaptation.after < adaptation.before
    before, after = (
        mse(60 * clean, each.denoise(noisy, gain=1.0))
        for each in (shipped, adaptation.denoiser)
    )
    assert after < 0.9 * before


def test_what_is_not_better_by_far_is_undone_to_the_bit():
    noisy = counts(membranes((64, 64), np.random.default_rng(0)))
    shipped = Denoiser()
    expected = shipped.denoise(noisy, gain=1.0)
    adaptation = shipped.adapt(noisy, gain=1.0)
    assert not adaptation.kept
    assert "undone" in adaptation.reason
    assert adaptation.after - adaptation.before > -2 * adaptation.error
    np.testing.assert_array_equal(adaptation.denoiser.denoise(noisy, gain=1.0), expected)
    with pytest.raises(ValueError, match="no adapted weights to save; adaptation undone"):
        adaptation.save(find("auto").with_name("never.keras"))


def test_the_network_that_others_share_stays_as_it_is(learner):
    noisy = counts(weave(64))
    tiles = np.random.default_rng(0).random((1, 32, 32), np.float32)
    file, cached = learner.read_bytes(), load(learner)
    before = cached(tiles, 0.01)
    shipped = Denoiser(learner)
    adaptation = shipped.adapt(noisy, gain=1.0)
    assert adaptation.kept, adaptation.reason
    assert load(learner) is cached
    np.testing.assert_array_equal(cached(tiles, 0.01), before)
    assert learner.read_bytes() == file
    assert shipped.weights == learner
    assert not same_weights(adaptation.model, read_model(learner))


def test_adapted_weights_are_saved_with_a_card_and_used_again(learner, tmp_path):
    noisy = counts(weave(64))
    adaptation = Denoiser(learner).adapt(noisy, gain=1.0)
    path = tmp_path / "mine" / "weave.keras"
    adaptation.save(path)
    np.testing.assert_array_equal(
        Denoiser(path).denoise(noisy, gain=1.0),
        adaptation.denoiser.denoise(noisy, gain=1.0),
    )
    card = json.loads(path.with_suffix(".json").read_text())
    for key, data in {
        "weights_sha256": path.read_bytes(),
        "adapted_from_sha256": learner.read_bytes(),
        "counts_sha256": noisy.astype("<i4").tobytes(),
    }.items():
        assert card[key] == hashlib.sha256(data).hexdigest()
    assert card["after"] == adaptation.after < card["before"]
    with pytest.raises(ValueError, match=r"must end in \.keras"):
        adaptation.save(path.with_suffix(".h5"))


def test_adapting_again_and_in_other_units_gives_the_same(learner):
    noisy = counts(weave(64))
    first = Denoiser(learner).adapt(noisy, gain=1.0)
    second = Denoiser(learner).adapt(7 * noisy + 100, detector=Detector(7.0, offset=100.0))
    assert same_weights(first.model, second.model)
    assert (first.before, first.after) == (second.before, second.after)


def test_the_error_before_is_that_of_the_counts_learnt_on(untrained):
    """An untrained network returns its input, whose error is its own shot noise."""
    stack = counts(np.full((3, 128, 128), 0.5))
    adaptation = Denoiser(untrained, clip=False).adapt(stack, gain=1.0)
    assert adaptation.before == pytest.approx(stack.mean() / LEARNING_SHARE, rel=0.05)


def test_masked_pixels_neither_teach_nor_judge(learner):
    """What lies under a mask may be anything."""
    noisy = counts(weave(80))
    hidden = np.zeros(noisy.shape, bool)
    hidden[:, :8] = True
    spoilt = np.where(hidden, 10_000, noisy)
    one, other = (
        Denoiser(learner).adapt(image, mask=hidden, gain=1.0) for image in (noisy, spoilt)
    )
    assert (one.before, one.after) == (other.before, other.after)


def test_an_information_bar_neither_teaches_nor_judges(untrained):
    """Letters are the richest structure there is."""
    field = counts(np.full((128, 128), 0.5))
    bar = np.zeros((32, 128), int)
    bar[8:20, 10:90:6] = bar[8:20, 11:90:6] = 255
    adaptation = Denoiser(untrained, clip=False).adapt(np.vstack([field, bar]), gain=1.0)
    assert adaptation.before == pytest.approx(field.mean() / LEARNING_SHARE, rel=0.05)


CAMERA = 0.5 + np.random.default_rng(0).normal(50.0, 7.0, (64, 64))
REFUSED = {
    "readout": (counts(weave(64)), Detector(1.0, readout=2.0), "no pure shot noise"),
    "correlation": (
        counts(weave(64)),
        Detector(1.0, correlation=(0.3, 0.3)),
        "no pure shot noise, neighbours share it",
    ),
    "camera": (CAMERA, Detector(1.0), "no whole counts"),
    "below nothing": (counts(weave(64)) - 30, Detector(1.0), "no whole counts"),
    "small": (counts(weave(48)), Detector(1.0), "48 x 48 pixels are too few"),
    "no noise": (np.ones((64, 64)), None, "shows no noise"),
}


@pytest.mark.parametrize(("image", "detector", "reason"), REFUSED.values(), ids=REFUSED)
def test_noise_that_the_theory_does_not_cover_is_refused(
    untrained, image, detector, reason
):
    shipped = Denoiser(untrained)
    adaptation = shipped.adapt(image, detector=detector)
    assert not adaptation.kept
    assert np.isnan(adaptation.before)
    assert reason in adaptation.reason
    assert "\n" not in adaptation.reason
    np.testing.assert_array_equal(
        adaptation.denoiser.denoise(image, detector=detector),
        shipped.denoise(image, detector=detector),
    )


def test_a_blind_network_is_refused():
    adaptation = Denoiser("low").adapt(counts(weave(64)))
    assert not adaptation.kept
    assert "blind" in adaptation.reason


def test_the_richest_crops_hold_the_structure():
    image = np.full((128, 192), 30.0, np.float32)
    image[64:, 128:] = counts(weave(64))
    image[:64] = counts(np.full((64, 192), 0.5))  # noise alone
    (crop,) = richest([image], 64, 1)
    np.testing.assert_array_equal(crop, image[64:, 128:])
