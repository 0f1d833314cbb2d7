"""Made micrographs keep to their range, their seed and the parameters asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emdn.specimens import KINDS, film, lattice, membranes, micrograph, particles
from emdn.specimens.micrographs import RANGES

every_kind = pytest.mark.parametrize("kind", [*KINDS.values(), micrograph])


def radial_power(image, bins=128):
    """Mean power in rings of frequency 0 to 0.5 cycles per pixel."""
    power = np.abs(np.fft.fft2(image - image.mean())) ** 2
    frequency = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, image.shape), indexing="ij"))
    ring = np.minimum((frequency * 2 * bins).astype(int).ravel(), bins)
    total = np.bincount(ring, power.ravel(), bins + 1)
    return (total / np.maximum(np.bincount(ring, minlength=bins + 1), 1))[:bins]


@every_kind
def test_images_span_zero_to_one(kind, rng):
    image = kind((101, 64), rng)
    assert image.shape == (101, 64)
    assert image.dtype == np.float32
    assert image.min() == 0
    assert image.max() == 1


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([*KINDS.values(), micrograph]),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.integers(0, 100),
)
def test_any_shape_will_do(kind, shape, seed):
    image = kind(shape, np.random.default_rng(seed))
    assert image.shape == shape
    assert image.dtype == np.float32
    assert image.min() >= 0  # fails for NaN too
    assert image.max() <= 1


@every_kind
def test_same_seed_same_image(kind):
    one, two, other = (kind((64, 48), np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).mean() > 0.01


@every_kind
def test_images_have_contrast(kind, rng):
    assert kind((128, 128), rng).std() > 0.05


def test_ranges_name_every_kind_and_its_parameters(rng):
    assert list(RANGES) == list(KINDS)
    for kind, ranges in RANGES.items():
        for corner in (0, 1):
            parameters = {name: limits[corner] for name, limits in ranges.items()}
            assert KINDS[kind]((32, 32), rng, **parameters).max() == 1


def test_every_kind_is_drawn(monkeypatch, rng):
    drawn = []
    for name in KINDS:
        monkeypatch.setitem(KINDS, name, lambda *_, name=name, **__: drawn.append(name))
    for _ in range(100):
        micrograph((8, 8), rng)
    assert all(drawn.count(name) > 10 for name in KINDS)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])  # both square and hexagonal lattices
@pytest.mark.parametrize("spacing", [8.0, 16.0])
def test_lattice_planes_have_the_asked_spacing(spacing, seed):
    image = lattice((256, 256), np.random.default_rng(seed), spacing=spacing, grain=1e4)
    power = radial_power(image)
    expected = round(256 / spacing)
    low = expected // 2  # slow changes of thickness lie below
    first_peak = low + np.argmax(power[low : round(1.25 * expected)])
    assert first_peak == pytest.approx(expected, abs=1.5)
    assert power[first_peak] > 10 * np.median(power[low : round(0.8 * expected)])


def test_vacancies_take_away_intensity():
    perfect, defective = (
        lattice((128, 128), np.random.default_rng(3), vacancies=fraction)
        for fraction in (0.0, 0.5)
    )
    assert defective.mean() < perfect.mean()


@pytest.mark.parametrize("coverage", [0.1, 0.3, 0.6])
def test_particles_hide_the_asked_fraction(coverage, rng):
    """Particles of endless contrast are black, wherever they are thin or thick."""
    options = {"radius": 8.0, "coverage": coverage, "contrast": 1e6}
    hidden = [(particles((256, 256), rng, **options) < 1e-3).mean() for _ in range(6)]
    assert np.mean(hidden) == pytest.approx(coverage, abs=0.04)


def test_particles_are_dark_on_a_bright_film(rng):
    image = particles((256, 256), rng, coverage=0.2)
    assert np.median(image) > image.mean()
    assert (image < np.median(image) - 0.25).mean() == pytest.approx(0.2, abs=0.1)


def test_no_coverage_leaves_the_film_alone():
    """So no particle is there whose contrast could matter."""
    one, other = (
        particles((64, 64), np.random.default_rng(0), coverage=0.0, contrast=contrast)
        for contrast in (0.1, 10.0)
    )
    np.testing.assert_array_equal(one, other)


def test_smaller_cells_have_more_membrane(rng):
    dark = [
        np.mean([(membranes((192, 192), rng, cell=cell) < 0.3).mean() for _ in range(4)])
        for cell in (40.0, 160.0)
    ]
    assert dark[0] > 1.5 * dark[1]


@pytest.mark.parametrize("cutoff", [0.15, 0.3, 0.45])
def test_film_is_band_limited(cutoff, rng):
    power = radial_power(film((256, 256), rng, cutoff=cutoff))
    beyond = round(256 * cutoff) + 2
    assert power[beyond:].max() < 1e-8 * power.max()
    assert power[beyond // 2] > 1e-3 * power[5:].max()


def test_film_has_thon_rings(rng):
    """The transfer function vanishes at cutoff * sqrt(k / rings) for whole k."""
    power = np.mean(
        [radial_power(film((256, 256), rng, rings=3.0)) for _ in range(4)], axis=0
    )
    zeros, peaks = (
        power[np.round(256 * 0.3 * np.sqrt(np.array(k) / 3)).astype(int)]
        for k in ([1, 2], [0.5, 1.5])
    )
    assert (peaks > 10 * zeros).all()


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        (lattice, {"spacing": 0}, "spacing must be positive, got 0"),
        (lattice, {"vacancies": 1}, "vacancies must be from 0 to below 1, got 1"),
        (particles, {"coverage": -0.1}, "coverage must be from 0 to below 1, got -0.1"),
        (particles, {"radius": float("nan")}, "radius must be positive, got nan"),
        (membranes, {"stain": 2}, "stain must be from 0 to below 1, got 2"),
        (film, {"cutoff": -1}, "cutoff must be positive, got -1"),
    ],
)
def test_impossible_parameters_are_refused(kind, parameters, message, rng):
    with pytest.raises(ValueError, match=message):
        kind((8, 8), rng, **parameters)
