"""The denoiser keeps shape, units, mean and range, and refuses what is no image."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter

from emdn.denoiser import Denoiser
from emdn.detector import Detector
from emdn.metrics import mse, ssim
from emdn.noise import noisy_pair
from emdn.specimens.micrographs import KINDS, micrograph

slowly = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def denoiser():
    return Denoiser()


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    """Save a network that is not trained, as a user's own file."""
    import keras

    from emdn.networks import build
    from emdn.networks.ede2019 import TINY

    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.keras"
    build(TINY).save(path)
    return path


def noisy_counts(shape=(128, 128), scale=60.0, seed=0):
    rng = np.random.default_rng(seed)
    noisy, _, gain = noisy_pair(micrograph(shape, rng), scale, rng)
    return noisy / np.float32(gain)


CORRELATED = {
    "scintillator": Detector(7.0, offset=100.0, correlation=(0.43, 0.43)),
    "slow amplifier": Detector(3.7, correlation=(0.37, 0.0)),
}


@pytest.mark.parametrize("kind", ["lattice", "particles", "membranes"])
@pytest.mark.parametrize("camera", CORRELATED.values(), ids=CORRELATED)
def test_noise_that_neighbours_share_is_no_structure(camera, kind, denoiser):
    """Measured or told, it comes out better than any Gaussian could leave it."""
    electrons = 60 * KINDS[kind]((256, 256), np.random.default_rng(1))
    noisy = np.round(camera.apply(electrons, np.random.default_rng(2)))
    truth = camera.expected(electrons)
    best = min(
        mse(gaussian_filter(noisy, width), truth) for width in np.arange(0.5, 4, 0.1)
    )
    assert mse(denoiser.denoise(noisy), truth) < 0.8 * best
    assert mse(denoiser.denoise(noisy, detector=camera), truth) < 0.8 * best


def test_the_best_quality_treats_all_symmetries_alike_and_is_nearer_to_the_truth():
    clean = 60 * KINDS["membranes"]((96, 128), np.random.default_rng(1))
    noisy = np.random.default_rng(2).poisson(clean)
    fast, best = (
        Denoiser(quality=each).denoise(noisy, gain=1.0) for each in ("fast", "best")
    )
    turned = Denoiser(quality="best").denoise(np.rot90(noisy)[:, ::-1], gain=1.0)
    np.testing.assert_allclose(np.rot90(turned[:, ::-1], -1), best, rtol=1e-4, atol=1e-2)
    assert mse(best, clean) < mse(fast, clean)


def test_an_unknown_quality_is_refused():
    with pytest.raises(ValueError, match="quality must be one of fast, best, got 'good'"):
        Denoiser(quality="good")


TRIED = {"auto": (30.0, 300.0, 2500.0), "compact": (3.0, 30.0, 300.0, 2500.0)}
TRIED |= {"low": (60.0,), "ordinary": (400.0, 800.0)}
HARMED = ("membranes", "ordinary", 800.0)  # about as far from it, as the model card says
NEARER = {(k, dose, s) for k in KINDS for dose, scales in TRIED.items() for s in scales}


@pytest.mark.parametrize(("kind", "dose", "scale"), sorted(NEARER - {HARMED}))
def test_denoised_images_are_nearer_to_the_truth(kind, dose, scale):
    rng = np.random.default_rng(5)
    noisy, clean, _ = noisy_pair(KINDS[kind]((256, 256), rng), scale, rng)
    denoised = Denoiser(dose).denoise(noisy)
    assert mse(clean, denoised) < mse(clean, noisy)
    assert ssim(clean, denoised, data_range=1.0) > ssim(clean, noisy, data_range=1.0)


def test_the_usage_printed_in_the_paper_works():
    from emdn import Denoiser

    noise_remover = Denoiser()
    img1, img2 = noisy_counts(seed=1), noisy_counts((60, 90), seed=2)
    restored_img1 = noise_remover.denoise(img1)
    restored_img2 = noise_remover.denoise(img2)
    assert (restored_img1.shape, restored_img2.shape) == (img1.shape, img2.shape)


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 40), (40, 1), (2, 2), (17, 31), (97, 64), (3, 20, 30), (1, 5, 7)]
)
def test_any_size_comes_back_in_its_shape_as_finite_float32(denoiser, shape):
    image = np.random.default_rng(0).poisson(20.0, shape)
    restored = denoiser.denoise(image)
    assert restored.shape == shape
    assert restored.dtype == np.float32
    assert np.isfinite(restored).all()


@pytest.mark.filterwarnings("ignore:the image shows no noise")
@pytest.mark.parametrize(
    "dtype",
    ["uint8", "int16", "uint16", "int32", "uint64", "float16", "float64", ">u2", "?"],
)
def test_any_real_type_gives_what_its_values_give_as_float32(denoiser, dtype):
    image = (noisy_counts((48, 48)) > 20) * 1 if dtype == "?" else noisy_counts((48, 48))
    image = image.round().astype(dtype)
    expected = denoiser.denoise(image.astype(np.float32))
    np.testing.assert_allclose(denoiser.denoise(image), expected, rtol=1e-4, atol=1e-3)


def test_the_callers_array_is_untouched(denoiser):
    image = noisy_counts((48, 48))
    image[3, 4] = np.nan
    before = image.copy()
    with pytest.warns(UserWarning, match="1 of 2304"):
        denoiser.denoise(image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("gain", "offset"), [(7.5, 0.0), (1e-6, 0.0), (3e4, 0.0), (2.0, 50.0)]
)
def test_units_go_through_the_denoiser(gain, offset):
    """Denoising commutes with a change of units."""
    denoiser = Denoiser("low")
    counts = noisy_counts()
    expected = gain * denoiser.denoise(counts) + offset
    restored = denoiser.denoise(gain * counts + offset)
    np.testing.assert_allclose(restored, expected, atol=gain * counts.max() * 1e-4)


@pytest.mark.filterwarnings("ignore:.*(shows no noise|are hot or dead)")
@slowly
@given(
    image=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40),
        elements=st.floats(0, 1000, width=32),
    )
)
def test_mean_and_range_are_kept_whatever_the_image(denoiser, image):
    restored = denoiser.denoise(image)
    assert restored.min() >= image.min()
    assert restored.max() <= image.max()


@pytest.mark.parametrize("scale", [0.05, 1.0, 25.0, 250.0, 2500.0])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_mean_counts_are_kept_within_half_a_percent(kind, scale, clip):
    rng = np.random.default_rng(1)
    noisy, _, gain = noisy_pair(KINDS[kind]((200, 150), rng), scale, rng)
    counts = noisy / np.float32(gain)
    restored = Denoiser(clip=clip).denoise(counts)
    assert restored.mean(dtype=float) == pytest.approx(counts.mean(dtype=float), rel=0.005)


def test_clipping_confines_to_the_range_of_the_input_and_can_be_switched_off(tiny_file):
    image = noisy_counts()
    clipped = Denoiser(tiny_file).denoise(image)
    free = Denoiser(tiny_file, clip=False).denoise(image)
    assert image.min() <= clipped.min() <= clipped.max() <= image.max()
    assert free.min() < image.min() or free.max() > image.max()


@pytest.mark.parametrize("value", [0, 7, -3.5, 1e9])
def test_constant_images_come_back_as_they_are(denoiser, value):
    image = np.full((30, 40), value)
    np.testing.assert_array_equal(denoiser.denoise(image), image)


# A screenshot by PIL or imageio, with and without opacity, and an image as Keras has it.
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_an_image_with_an_axis_of_colours_is_no_stack_of_slivers(
    denoiser, channels, masked
):
    image = np.repeat(noisy_counts((48, 64))[..., np.newaxis], channels, axis=-1)
    image = np.ma.array(image, mask=image < 3) if masked else image
    remedy = r"got shape \(48, 64, .\); .*image.mean\(-1\) or image\[..., 0\]"
    for method in (denoiser.denoise, denoiser.adapt):
        with pytest.raises(ValueError, match=remedy):
            method(image)
    if not masked:
        single = denoiser.denoise(noisy_counts((48, 64)))
        np.testing.assert_allclose(denoiser.denoise(image.mean(-1)), single, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:.*shows no noise")
@pytest.mark.parametrize("shape", [(5, 1, 5), (5, 3, 40), (2, 40, 5), (1, 40, 3), (40, 3)])
def test_low_images_and_single_narrow_ones_are_denoised(denoiser, shape):
    image = np.random.default_rng(0).poisson(30.0, shape)
    assert denoiser.denoise(image).shape == shape


@pytest.mark.parametrize("defect", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_not_finite_does_not_spread(denoiser, defect):
    image = noisy_counts()
    expected = denoiser.denoise(image)
    broken = image.copy()
    broken[50, 60] = defect
    with pytest.warns(UserWarning, match=r"1 of 16384 pixels are NaN or infinite"):
        restored = denoiser.denoise(broken)
    assert np.isfinite(restored).all()
    difference = np.abs(restored - expected)
    assert np.median(difference) < 0.01 * image.std()
    assert difference.max() < 3 * image.std()


@pytest.mark.parametrize("value", [1e6, -1e6])
def test_a_hot_or_dead_pixel_changes_only_its_surroundings(denoiser, value):
    image = noisy_counts()
    expected = denoiser.denoise(image)
    broken = image.copy()
    broken[50, 60] = value
    with pytest.warns(UserWarning, match="1 of 16384 pixels are hot or dead"):
        restored = denoiser.denoise(broken)
    far = np.ones(image.shape, bool)
    far[30:71, 40:81] = False
    assert np.abs(restored - expected)[far].max() < 0.3 * image.std()


def test_an_image_without_a_finite_pixel_is_refused(denoiser):
    with pytest.raises(ValueError, match="must have a finite pixel"):
        denoiser.denoise(np.full((8, 8), np.nan))
    with pytest.raises(ValueError, match="that is not masked"):
        denoiser.denoise(np.ones((8, 8)), mask=np.ones((8, 8), bool))


# What real files hold beside an image: none of it may decide how the image is denoised.

HILLS = 60 * (
    0.55 + 0.4 * np.sin(np.arange(320) / 23) * np.cos(np.arange(320) / 17)[:, None]
)
INNER = np.s_[60:180, 60:260]


@pytest.fixture(scope="module")
def hills():
    """Return counts of smooth hills, and the error of their denoised image."""
    noisy = np.random.default_rng(0).poisson(HILLS).astype(np.float32)
    return noisy, error_of(Denoiser().denoise(noisy))


def error_of(denoised, gain=1.0, offset=0.0):
    return mse(HILLS[INNER], ((denoised - offset) / gain)[INNER])


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.4])
@pytest.mark.parametrize("grey", [0, 33, 90, 255])
def test_an_information_bar_changes_nothing(denoiser, hills, share, grey):
    noisy, plain = hills
    with_bar = noisy.copy()
    with_bar[-int(320 * share) :] = grey
    assert error_of(denoiser.denoise(with_bar)) < 1.05 * plain


@pytest.mark.parametrize("fill", ["mean", 0.0, np.nan])
def test_a_border_changes_nothing(denoiser, hills, fill):
    noisy, plain = hills
    with_border = np.full_like(noisy, noisy.mean() if fill == "mean" else fill)
    with_border[30:-30, 30:-30] = noisy[30:-30, 30:-30]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert error_of(denoiser.denoise(with_border)) < 1.05 * plain


@pytest.mark.parametrize("correlation", [(0.0, 0.0), (0.445, 0.445)])
@pytest.mark.parametrize("outside", [0.0, 100.0, 500.0])
def test_what_lies_outside_of_an_aperture_moves_no_level_inside(
    denoiser, outside, correlation
):
    camera = Detector(7.0, offset=100.0, correlation=correlation)
    noisy = camera.apply(HILLS, np.random.default_rng(3))
    y, x = np.mgrid[-1:1:320j, -1:1:320j]
    masked = np.where(x**2 + y**2 < 0.75**2, noisy, np.float32(outside))
    inner = np.s_[110:210, 110:210]
    whole, part = (denoiser.denoise(each)[inner] for each in (noisy, masked))
    assert abs(part.mean(dtype=float) - whole.mean(dtype=float)) < 0.01 * 7 * HILLS.mean()


@pytest.mark.parametrize("offset", [100, 1000, 10_000, 65_000, -500])
@pytest.mark.parametrize("gain", [1.0, 12.5, -1.0])
def test_neither_a_pedestal_nor_inverted_contrast_matters(denoiser, hills, gain, offset):
    noisy, plain = hills
    restored = denoiser.denoise(gain * noisy + np.float32(offset))
    assert error_of(restored.astype(float), gain, offset) < 1.1 * plain


def test_a_blank_field_on_a_pedestal_becomes_even(denoiser):
    rng = np.random.default_rng(0)
    blank = np.round(9995 + 1.9 * rng.standard_normal((128, 128))).astype(np.uint16)
    assert denoiser.denoise(blank).std() < 0.2 * blank.std()


@pytest.mark.parametrize(
    "where",
    [np.s_[150, 200:202], np.s_[150, :], np.s_[:, 200:202], np.s_[150:154, :]],
    ids=["a pair", "a row", "two columns", "a gap of four rows"],
)
@pytest.mark.parametrize("value", [1e6, -1e6, 2.0**32 - 1])
def test_defects_leave_no_trace_beside_them(denoiser, hills, where, value):
    noisy, plain = hills
    broken = noisy.copy()
    broken[where] = value
    with pytest.warns(UserWarning, match="are hot or dead"):
        restored = denoiser.denoise(broken)
    restored[where] = HILLS[where]  # which nobody can know there
    assert error_of(restored) < 1.1 * plain


def test_lone_counts_and_atoms_are_no_defects(denoiser):
    rng = np.random.default_rng(0)
    sparse = rng.poisson(0.02, (128, 128)).astype(np.float32)
    y, x = np.mgrid[:128, :128]
    atom = 2000 * np.exp(-((y - 64) ** 2 + (x - 64) ** 2) / (2 * 1.3**2))
    peaked = rng.poisson(20 + atom).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        denoiser.denoise(sparse)
        assert denoiser.denoise(peaked)[64, 64] > 1000


def test_masked_pixels_are_like_those_that_are_not_finite(denoiser, hills):
    noisy, plain = hills
    mask = np.zeros(noisy.shape, bool)
    mask[100:120, 100:120] = True
    spoiled = np.where(mask, np.float32(-9999), noisy)
    by_array = denoiser.denoise(np.ma.array(spoiled, mask=mask))
    np.testing.assert_array_equal(by_array, denoiser.denoise(spoiled, mask=mask))
    stack = denoiser.denoise(np.stack([spoiled] * 2), mask=mask)
    np.testing.assert_allclose(stack[1], by_array, atol=1e-3)
    outside = by_array.copy()
    outside[mask] = HILLS[mask]
    assert error_of(outside) < 1.1 * plain


def test_a_mask_of_another_shape_is_refused(denoiser):
    with pytest.raises(ValueError, match=r"mask must have shape \(32, 32\)"):
        denoiser.denoise(noisy_counts((32, 32)), mask=np.zeros((3, 3), bool))


def test_an_image_without_noise_comes_back_as_it_is_and_a_warning_says_so(denoiser):
    clean = 60 * KINDS["membranes"]((256, 256), np.random.default_rng(0))
    with pytest.warns(UserWarning, match="shows no noise"):
        np.testing.assert_array_equal(denoiser.denoise(clean), clean)


def test_an_image_with_hardly_any_noise_is_named(denoiser):
    """As one that was denoised before; one of the largest dose that is usual is not."""
    clean = KINDS["particles"]((256, 256), np.random.default_rng(0))
    noisy = np.random.default_rng(0).poisson(60 * clean).astype(np.float32)
    with pytest.warns(UserWarning, match="hardly any noise"):
        denoiser.denoise(denoiser.denoise(noisy, gain=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        denoiser.denoise(np.random.default_rng(0).poisson(2500 * clean))
        bright = 30 * clean
        bright[100:124, 100:124] = 10_000  # a few pixels are no contrast of the others
        denoiser.denoise(Detector(7.0, 100.0, 1.0).apply(bright, np.random.default_rng(0)))


def test_what_is_told_of_a_detector_is_used(denoiser):
    """Readout noise is known to be there, or taken for structure."""
    camera = Detector(gain=3.0, offset=200.0, readout=6.0)
    image = camera.apply(HILLS, np.random.default_rng(1))
    whole = denoiser.denoise(image, detector=camera)
    pieces = denoiser.denoise(image, gain=3.0, offset=200.0, readout=6.0)
    np.testing.assert_array_equal(whole, pieces)
    deaf = denoiser.denoise(image, gain=3.0, offset=200.0)
    assert error_of(whole, 3.0, 200.0) < 0.7 * error_of(deaf, 3.0, 200.0)


def test_a_readout_without_a_gain_is_refused(denoiser):
    with pytest.raises(ValueError, match="readout needs a gain"):
        denoiser.denoise(noisy_counts((32, 32)), readout=2.0)


@pytest.mark.parametrize("gain", [None, 2.0])
@pytest.mark.parametrize("offset", [np.inf, np.nan])
def test_an_offset_that_is_no_number_is_named(denoiser, gain, offset):
    with pytest.raises(ValueError, match=f"^offset must be finite, got {offset}$"):
        denoiser.denoise(noisy_counts((32, 32)), gain=gain, offset=offset)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), complex), "take np.abs"),
        (np.zeros(4), r"\(H, W\) or \(N, H, W\), got \(4,\)"),
        (np.zeros((2, 3, 4, 5)), r"got \(2, 3, 4, 5\)"),
        (np.zeros((0, 4)), "must not be empty"),
        (np.array([["a", "b"]]), "real numbers"),
        (np.array([[None, 1]]), "real numbers"),
    ],
)
def test_arrays_that_are_no_image_are_refused(denoiser, image, message):
    with pytest.raises(ValueError, match=message):
        denoiser.denoise(image)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "medium"}, "auto, compact, low, ordinary"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"overlap": -16}, "overlap must not be negative"),
        ({"overlap": 25}, "overlap must be a multiple of 16"),
        ({"overlap": 304}, "smaller overlap"),
        ({"tile_size": 100}, "multiple of 16"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(settings, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        Denoiser(**settings)


@pytest.mark.parametrize("settings", [{"batch_size": 1}, {"batch_size": 7}])
def test_the_size_of_a_batch_does_not_change_the_result(settings):
    image = noisy_counts((150, 170))
    expected = Denoiser("low", tile_size=96).denoise(image)
    restored = Denoiser("low", tile_size=96, **settings).denoise(image)
    np.testing.assert_allclose(restored, expected, atol=1e-4 * image.max())


def test_a_stack_is_denoised_image_by_image():
    stack = np.stack([noisy_counts(seed=seed) for seed in range(3)])
    denoiser = Denoiser("low")
    expected = np.stack([denoiser.denoise(image) for image in stack])
    np.testing.assert_allclose(denoiser.denoise(stack), expected, atol=1e-4 * stack.max())


def test_an_image_of_a_stack_is_denoised_as_it_would_be_alone(denoiser):
    """Its gain is its own: the second image has twenty times the gain of the first."""
    first, second = noisy_counts(seed=1), 20 * noisy_counts(seed=2)
    stack = denoiser.denoise(np.stack([first, second]))
    np.testing.assert_allclose(stack[0], denoiser.denoise(first), atol=1e-4)
    np.testing.assert_allclose(stack[1], denoiser.denoise(second), atol=1e-3)


def test_tiles_with_an_overlap_give_what_the_whole_image_gives():
    """Within a hundredth of the noise, in the middle, which no reflection reaches."""
    image = noisy_counts((320, 320))
    whole = Denoiser(tile_size=576).denoise(image)
    tiled = Denoiser(tile_size=192).denoise(image)
    middle = np.s_[64:-64, 64:-64]
    assert (tiled - whole)[middle].std() < 0.01 * (image - whole).std()


@pytest.mark.parametrize("gain", [1e-3, 1.0, 12.5])
def test_a_gain_that_is_told_and_the_one_that_counts_show_agree(denoiser, gain):
    image = gain * noisy_counts()
    expected = denoiser.denoise(image, gain=gain)
    np.testing.assert_allclose(denoiser.denoise(image), expected, atol=1e-3 * image.max())


def test_the_more_an_electron_is_told_to_add_the_smoother_the_image(denoiser):
    image = noisy_counts()
    rough = [np.diff(denoiser.denoise(image, gain=g)).std() for g in (0.1, 1, 10)]
    assert rough[0] > 1.2 * rough[1] > 1.2**2 * rough[2]


@pytest.mark.parametrize("gain", [0, np.nan, np.inf])
def test_an_impossible_gain_is_refused(denoiser, gain):
    with pytest.raises(ValueError, match="gain must be finite and not 0"):
        denoiser.denoise(noisy_counts((32, 32)), gain=gain)


def test_the_two_dose_ranges_have_weights_of_their_own():
    image = noisy_counts()
    assert not np.array_equal(
        Denoiser("low").denoise(image), Denoiser("ordinary").denoise(image)
    )


def test_a_network_of_ones_own_is_used(tiny_file):
    image = noisy_counts((64, 64))
    ours, theirs = Denoiser("low").denoise(image), Denoiser(tiny_file).denoise(image)
    assert not np.allclose(ours, theirs, atol=1)


def test_progress_is_shown_when_asked_for(capfd):
    Denoiser("low", progress=True, tile_size=80).denoise(noisy_counts((100, 100)))
    assert "Denoising tiles" in capfd.readouterr().err
    Denoiser("low", progress=False, tile_size=80).denoise(noisy_counts((100, 100)))
    assert capfd.readouterr().err == ""


def test_clean_input_raises_no_warning(denoiser):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        denoiser.denoise(noisy_counts((32, 32)))


def test_importing_emdn_loads_no_heavy_package():
    heavy = {"tensorflow", "keras", "skimage", "scipy", "numpy"}
    code = f"import sys, emdn; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
    assert done.returncode == 0


def test_public_names_are_listed_and_others_refused():
    import emdn

    assert set(emdn.__all__) <= set(dir(emdn))
    assert all(getattr(emdn, name).__name__ == name for name in emdn.__all__)
    with pytest.raises(AttributeError, match="no attribute 'denoise'"):
        _ = emdn.denoise
