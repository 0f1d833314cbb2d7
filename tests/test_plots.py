"""Figures tell the truth: shared greys, centred errors, round scale bars, all closed."""

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

mpl.use("Agg")  # before pyplot looks for a screen

import matplotlib.pyplot as plt

from emdn.plots import (
    plot_learning_curves,
    plot_spectrum,
    scale_bar_length,
    show_error,
    show_images,
    show_tiling,
)
from emdn.tiling import Tiling


@pytest.fixture(autouse=True)
def _closed():
    """Fail a test that leaves a figure open: notebooks would show it twice."""
    yield
    assert plt.get_fignums() == []


@pytest.fixture
def images(micrograph):
    return {"clean": micrograph, "dimmer": micrograph / 2, "counts": micrograph * 100}


def test_one_axes_and_title_for_each_image(images):
    figure = show_images(images)
    assert [axes.get_title() for axes in figure.axes] == list(images)
    for axes, image in zip(figure.axes, images.values(), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), image)
        assert axes.images[0].get_cmap().name == "gray"
        assert not axes.axison


def test_images_share_one_grey_scale(images):
    limits = {axes.images[0].get_clim() for axes in show_images(images).axes}
    assert len(limits) == 1


def test_each_image_can_have_its_own_grey_scale(images):
    clean, dimmer, counts = (
        axes.images[0].get_clim() for axes in show_images(images, shared=False).axes
    )
    assert dimmer == pytest.approx(np.divide(clean, 2), rel=1e-6)
    assert counts == pytest.approx(np.multiply(clean, 100), rel=1e-6)


@pytest.mark.parametrize("number", range(1, 8))
def test_a_row_holds_three_images_at_most(number, micrograph):
    figure = show_images({str(n): micrograph for n in range(number)})
    assert len(figure.axes) == number
    assert figure.axes[0].get_gridspec().ncols <= 3


def test_a_few_hot_pixels_do_not_darken_the_rest(micrograph):
    hot = micrograph.copy()
    hot[3, 4] = 1000
    assert show_images({"hot": hot}).axes[0].images[0].get_clim()[1] <= 1


def test_images_are_left_alone(images):
    before = {title: image.copy() for title, image in images.items()}
    show_images(images, pixel_size=0.1, enlarge=np.s_[:16, :16])
    for title, image in images.items():
        np.testing.assert_array_equal(image, before[title])


@pytest.mark.parametrize(
    ("pixel_size", "unit", "label"),
    [(0.1, "nm", "2 nm"), (0.1, "um", "2 µm"), (0.7, "A", "10 Å"), (30, "nm", "500 nm")],
)
def test_scale_bar_is_as_long_as_it_says(pixel_size, unit, label, micrograph):
    axes = show_images({"a": micrograph}, pixel_size=pixel_size, unit=unit).axes[0]
    assert [text.get_text() for text in axes.texts] == [label]
    (bar,) = axes.patches
    assert bar.get_width() * pixel_size == pytest.approx(float(label.split()[0]))
    assert 0 < bar.get_x() < bar.get_x() + bar.get_width() < micrograph.shape[1]


@settings(deadline=None)
@given(st.floats(1e-12, 1e12))
@example(3 * np.nextafter(1000.0, 0))
def test_scale_bar_lengths_are_round_and_fit(width):
    length = scale_bar_length(width)
    assert f"{length:.6e}"[:8] in {"1.000000", "2.000000", "5.000000"}
    assert width / 3 / 2.51 < length <= width / 3


def test_enlarged_region_comes_from_the_frame(micrograph):
    axes = show_images({"a": micrograph}, enlarge=np.s_[:16, 8:40]).axes[0]
    (inset,) = axes.child_axes
    np.testing.assert_array_equal(inset.images[0].get_array(), micrograph[:16, 8:40])
    assert inset.images[0].get_clim() == axes.images[0].get_clim()
    (frame,) = axes.patches
    assert frame.get_xy() == (7.5, -0.5)
    assert (frame.get_height(), frame.get_width()) == (16, 32)


def test_error_map_is_centred_at_zero(rng, micrograph):
    denoised = micrograph + rng.normal(0.2, 0.1, micrograph.shape)
    shown = show_error(micrograph, denoised).axes[0].images[0]
    low, high = shown.get_clim()
    assert low == -high
    assert high == pytest.approx(np.abs(denoised - micrograph).max())
    red, _, blue, _ = shown.cmap(shown.norm(0.2))
    assert red > blue  # too bright is red
    assert min(shown.cmap(shown.norm(0.0))[:3]) > 0.95  # no error is white


def test_no_error_can_be_drawn(micrograph):
    assert show_error(micrograph, micrograph).axes[0].images[0].get_clim() == (-1, 1)


@pytest.mark.parametrize("shape", [(96, 64), (5, 7), (1, 30)])
def test_tiling_draws_what_tiles_read_and_keep(shape):
    tiling = Tiling(shape, (40, 32), 6)
    axes = show_tiling(np.zeros(shape), tiling).axes[0]
    read, kept = axes.patches[::2], axes.patches[1::2]
    assert len(read) == len(kept) == len(tiling)
    assert {(box.get_height(), box.get_width()) for box in read} == {tiling.size}
    assert {(box.get_height(), box.get_width()) for box in kept} == {tiling.stride}
    corners = [box.get_xy()[::-1] for box in read]
    np.testing.assert_array_equal(corners, tiling.corners())


def test_spectra_are_labelled_and_logarithmic(images):
    axes = plot_spectrum(images).axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert "cycles/px" in axes.get_xlabel()
    assert axes.get_ylabel()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(images)


def test_figures_can_be_drawn(images, tmp_path):
    """All warnings are errors here, so layouts that do not fit would fail."""
    clean = images["clean"]
    for number, figure in enumerate(
        [
            show_images(images, pixel_size=0.2, enlarge=np.s_[:16, :16]),
            show_error(clean, images["dimmer"]),
            show_tiling(clean, Tiling(clean.shape, (40, 40), 6)),
            plot_spectrum(images),
        ]
    ):
        figure.savefig(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 5000


def test_unfit_arguments_are_refused(micrograph):
    with pytest.raises(ValueError, match="images must hold at least one image"):
        show_images({})
    with pytest.raises(ValueError, match=r"batch must be an image .* got \(2, 8, 8\)"):
        show_images({"batch": np.zeros((2, 8, 8))})
    with pytest.raises(ValueError, match="broken must be finite"):
        show_images({"broken": micrograph * np.nan})
    with pytest.raises(ValueError, match="same shape"):
        show_error(micrograph, micrograph.T)
    with pytest.raises(ValueError, match="tiling's shape"):
        show_tiling(micrograph.T, Tiling(micrograph.shape, (40, 40), 6))
    with pytest.raises(ValueError, match="width must be positive and finite, got 0"):
        scale_bar_length(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pixel_size": 0}, "pixel_size must be positive"),
        ({"enlarge": np.s_[200:, :8]}, "enlarge must overlap the image"),
    ],
)
def test_unfit_decorations_are_refused(arguments, message, micrograph):
    with pytest.raises(ValueError, match=message):
        show_images({"a": micrograph}, **arguments)


def log_of(errors, validation=None):
    """Return rows as a log has them, ten steps apart."""
    validation = [2 * error for error in errors] if validation is None else validation
    return [
        {"step": 10.0 * number, "mse": error, "val_mse": scored}
        for number, (error, scored) in enumerate(zip(errors, validation, strict=True), 1)
    ]


def test_each_training_has_a_curve_of_training_and_one_of_validation():
    logs = {"low": log_of([0.4, 0.2, 0.1]), "ordinary": log_of([0.04, 0.02])}
    (axes,) = plot_learning_curves(logs).axes
    assert [line.get_label() for line in axes.lines] == [
        "low, training",
        "low, validation",
        "ordinary, training",
        "ordinary, validation",
    ]
    colours = [line.get_color() for line in axes.lines]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()
    assert axes.get_legend() is not None
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "MSE of clipped outputs")
    assert axes.get_yscale() == "log"


def test_curves_are_the_scores_of_the_log():
    training, validation = (
        plot_learning_curves({"a": log_of([0.4, 0.2, 0.1])}).axes[0].lines
    )
    np.testing.assert_array_equal(training.get_xdata(), [10, 20, 30])
    np.testing.assert_array_equal(training.get_ydata(), [0.4, 0.2, 0.1])
    np.testing.assert_array_equal(validation.get_ydata(), [0.8, 0.4, 0.2])


@pytest.mark.parametrize("width", [1, 2, 3, 7])
def test_a_boxcar_averages_over_rows_and_keeps_the_mean_of_steps(width, rng):
    """Of a straight line it leaves a straight line, which is shorter."""
    errors = np.linspace(2, 1, 12)
    figure = plot_learning_curves({"a": log_of(errors)}, boxcar=width)
    steps, smooth = figure.axes[0].lines[0].get_data()
    assert len(steps) == 12 - width + 1
    np.testing.assert_allclose(smooth, np.interp(steps, 10 * np.arange(1, 13), errors))
    noisy = rng.uniform(1, 2, 12)
    figure = plot_learning_curves({"a": log_of(noisy)}, boxcar=width)
    np.testing.assert_allclose(
        figure.axes[0].lines[0].get_ydata(),
        [noisy[first : first + width].mean() for first in range(12 - width + 1)],
    )


def test_a_boxcar_wider_than_the_log_is_its_mean():
    figure = plot_learning_curves({"a": log_of([3.0, 2.0, 1.0])}, boxcar=50)
    for line, mean in zip(figure.axes[0].lines, (2, 4), strict=True):
        assert line.get_data() == (pytest.approx([20]), pytest.approx([mean]))


def test_rows_without_validation_are_left_out_of_its_curve():
    nan = float("nan")
    log = log_of([4.0, 3.0, 2.0, 1.0], [nan, 6.0, nan, 2.0])
    training, validation = plot_learning_curves({"a": log}, boxcar=2).axes[0].lines
    assert len(training.get_xdata()) == 3
    assert validation.get_data() == (pytest.approx([30]), pytest.approx([4]))


@pytest.mark.parametrize("errors", [[], [0.4, 0.2]])
def test_a_training_without_validation_has_a_figure_all_the_same(errors):
    log = log_of(errors, [float("nan")] * len(errors))
    figure = plot_learning_curves({"a": log, "b": log_of([0.3, 0.1])}, boxcar=5)
    figure.canvas.draw()


def test_a_boxcar_of_nothing_is_refused():
    with pytest.raises(ValueError, match="boxcar must be at least 1, got 0"):
        plot_learning_curves({"a": log_of([1.0])}, boxcar=0)


def test_a_few_dots_on_an_even_ground_are_seen():
    """They are fewer than the pixels that saturate."""
    dots = np.zeros((49, 49))
    dots[::24, ::24] = 1
    figure = show_images({"dots": dots})
    assert figure.axes[0].images[0].get_clim() == (0.0, 1.0)
