"""Figures of a benchmark draw what its rows and images say, and say what they leave out."""

import math
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

mpl.use("Agg")  # before pyplot looks for a screen

import matplotlib.pyplot as plt
from matplotlib.text import Text

from emdn.benchmark.error_maps import ErrorMap, edge_ratio, measure_grid
from emdn.benchmark.instances import Instance
from emdn.benchmark.methods import METHODS, label_of
from emdn.benchmark.plots import (
    COLOURS,
    SPARE_COLOURS,
    leading_methods,
    method_styles,
    plot_error_against_dose,
    plot_experiments,
    plot_mean_spectra,
    plot_score_distributions,
    show_error_maps,
    show_examples,
)
from emdn.benchmark.rows import Row
from emdn.data.corpus import Entry
from emdn.metrics import mse, ssim

NAMES = ("emdn", "gaussian", "wavelet", "wavelet-aware", "unfiltered")
LABELS = ["emdn", "Gaussian", "wavelet", "wavelet, gain-aware", "unfiltered"]


@pytest.fixture(autouse=True)
def _closed():
    """Fail a test that leaves a figure open: notebooks would show it twice."""
    yield
    assert plt.get_fignums() == []


def make_row(dose_range, number, method, error, similarity=0.9, dose=20.0):
    texts = ("file", "source", "modality")
    paper = (min(error, 0.012), similarity)
    return Row(
        dose_range, number, method, *texts, 50.0, dose, error, similarity, *paper, 0.0
    )


@pytest.fixture
def rows(rng):
    """Return scores that fall with the dose, the same ones in each run."""
    table = []
    for dose_range, doses in (("low", (10, 100)), ("ordinary", (100, 1000))):
        for number, dose in enumerate(rng.uniform(*doses, size=40)):
            for rank, name in enumerate(NAMES, 1):
                error = rank / dose * rng.uniform(0.05, 0.1)
                similarity = float(rng.beta(20, rank))
                table.append(make_row(dose_range, number, name, error, similarity, dose))
    return pd.DataFrame(table)


def with_rows(rows, *more):
    return pd.concat([rows, pd.DataFrame(more)], ignore_index=True)


def column(rows, dose_range, method, name):
    own = rows[(rows["dose_range"] == dose_range) & (rows["method"] == method)]
    return own[name].to_numpy()


def names_in(legend):
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("score", ["mse", "ssim", "mse_paper", "ssim_paper"])
def test_densities_peak_among_the_scores_and_the_highest_is_1(rows, score):
    figure = plot_score_distributions(rows, score, methods=NAMES)
    (legend,) = figure.legends
    assert names_in(legend) == LABELS
    for axes, dose_range in zip(figure.axes, ("low", "ordinary"), strict=True):
        assert axes.get_title() == f"{dose_range} dose"
        assert axes.get_xlabel().startswith(score[:3].upper().replace("SSI", "SSIM"))
        assert max(line.get_ydata().max() for line in axes.lines) == pytest.approx(1)
        for line, name in zip(axes.lines[:2], NAMES, strict=False):
            scores = column(rows, dose_range, name, score)
            peak = line.get_xdata()[np.argmax(line.get_ydata())]
            assert np.percentile(scores, 10) < peak < np.percentile(scores, 90)


def test_the_factor_is_the_area_below_a_curve(rng):
    """As a density's area is 1, if all of it is shown."""
    rows = pd.DataFrame(
        [
            make_row("low", number, name, error)
            for name in ("emdn", "gaussian")
            for number, error in enumerate(rng.normal(1e-3, 1e-4, size=100))
        ]
    )
    figure = plot_score_distributions(rows)
    factor = figure.legends[0].get_title().get_text()
    line = figure.axes[0].lines[0]
    area = np.trapezoid(line.get_ydata(), line.get_xdata())
    assert rf"{area * 1e4:.2f} \times 10^{{-4}}" in factor


def test_the_mse_is_labelled_in_thousandths(rows):
    figure = plot_score_distributions(rows, "mse")
    for axes in figure.axes:
        assert "10⁻³" in axes.get_xlabel()
        assert axes.xaxis.get_major_formatter()(0.0004, None) == "0.4"


def test_scores_that_are_missing_are_left_out_and_said_to_be(rows):
    rows = with_rows(
        rows,
        *(make_row("low", 40 + n, "gaussian", math.nan) for n in range(3)),
        *(make_row("ordinary", n, "median", 0.001) for n in range(5)),
    )
    names = [*NAMES, "median"]
    figure = plot_score_distributions(rows, methods=names)
    note = " ".join(figure.get_supxlabel().split())
    assert "3 scores of Gaussian (low dose) that are not finite" in note
    assert "median (ordinary dose), whose scores are all alike" in note
    assert all(np.isfinite(line.get_ydata()).all() for line in figure.axes[0].lines)
    note = plot_error_against_dose(rows, methods=names).get_supxlabel()
    assert "3 scores of Gaussian" in note
    assert "median" not in note


def test_nothing_is_said_of_what_is_all_there(rows):
    assert plot_score_distributions(rows).get_supxlabel() == ""
    assert plot_error_against_dose(rows).get_supxlabel() == ""


def test_the_paper_drew_its_own_methods(rows):
    figure = plot_score_distributions(rows, "mse_paper")
    of_paper = ["emdn", "Gaussian", "wavelet", "unfiltered"]
    assert names_in(figure.legends[0]) == of_paper
    chosen = plot_score_distributions(rows, "mse_paper", methods=["wavelet-aware"])
    assert names_in(chosen.legends[0]) == ["wavelet, gain-aware"]


def test_errors_are_medians_of_bins_of_as_many_instances(rows):
    axes = plot_error_against_dose(rows, methods=NAMES).axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert "counts per pixel" in axes.get_xlabel()
    assert "MSE" in axes.get_ylabel()
    lines = iter(axes.lines)
    for dose_range in ("low", "ordinary"):
        for name in NAMES:
            dose = column(rows, dose_range, name, "dose")
            error = column(rows, dose_range, name, "mse")[np.argsort(dose)]
            line = next(lines)
            bins = np.sort(dose).reshape(4, 10)
            np.testing.assert_allclose(line.get_xdata(), np.median(bins, axis=1))
            np.testing.assert_allclose(
                line.get_ydata(), np.median(error.reshape(4, 10), axis=1)
            )


def test_the_band_spans_the_quartiles_of_the_first_method(rows):
    axes = plot_error_against_dose(rows, methods=["wavelet", "emdn"]).axes[0]
    assert axes.get_title().endswith("quartiles of wavelet")
    dose = column(rows, "low", "wavelet", "dose")
    error = column(rows, "low", "wavelet", "mse")[np.argsort(dose)].reshape(4, 10)
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    for quartile in np.percentile(error, (25, 75), axis=1).ravel():
        assert np.isclose(heights, quartile).any()
    assert len(axes.collections) == 2  # one for each dose range


def test_names_stand_at_the_ends_of_lines_without_touching(rows):
    figure = plot_error_against_dose(rows, methods=NAMES)
    axes = figure.axes[0]
    figure.draw_without_rendering()
    labels = sorted(axes.texts, key=lambda text: text.get_position()[1])
    by_error = sorted(
        NAMES, key=lambda name: axes.lines[5 + NAMES.index(name)].get_ydata()[-1]
    )
    assert [label.get_text() for label in labels] == [*map(label_of, by_error)]
    # Of the text alone: an annotation's own extent has its arrow in it.
    boxes = [Text.get_window_extent(label) for label in labels]
    for below, above in pairwise(boxes):
        assert below.y1 <= above.y0


def test_a_few_instances_are_one_bin(rng):
    rows = pd.DataFrame(
        [make_row("low", n, "emdn", rng.uniform(), dose=10 + n) for n in range(3)]
    )
    (line,) = plot_error_against_dose(rows).axes[0].lines
    assert line.get_xdata() == [11]


def test_the_best_of_each_family_leads_between_network_and_noise(rows):
    assert leading_methods(rows) == ["emdn", "gaussian", "wavelet", "unfiltered"]
    better = rows[rows["method"] != "wavelet"]
    assert leading_methods(better)[2] == "wavelet-aware"
    assert leading_methods(rows, most=3) == ["emdn", "gaussian", "unfiltered"]
    given = [make_row("low", n, "emdn-true-gain", 0.0) for n in range(3)]
    assert leading_methods(with_rows(rows, *given)) == leading_methods(rows)


def test_a_method_without_scores_comes_last_of_the_others(rows):
    broken = [make_row("low", n, "broken", math.nan) for n in range(3)]
    perfect = [make_row("low", n, "perfect", 0.0) for n in range(3)]
    order = leading_methods(with_rows(rows, *broken, *perfect))
    assert order == ["emdn", "perfect", "gaussian", "wavelet", "broken", "unfiltered"]


@given(st.permutations([*METHODS]), st.integers(2, 9))
def test_a_method_has_one_colour_whatever_else_is_drawn(names, number):
    for name, style in method_styles(names[:number]).items():
        assert style["color"] == method_styles([name])[name]["color"]


def test_no_two_known_methods_look_the_same():
    styles = method_styles(METHODS).values()
    looks = {(style["color"], str(style["linestyle"])) for style in styles}
    assert len(looks) == len(METHODS)
    colours = [*COLOURS.values(), *SPARE_COLOURS]
    assert len(set(colours)) == len(colours) - 1  # noisy images are unfiltered ones


def test_every_family_has_a_colour():
    families = {method.family for method in METHODS.values()}
    assert families == set(COLOURS) - {"noisy", "truth"}


def test_methods_of_ones_own_have_a_colour_too():
    first, again = (method_styles(["my.code:denoise"]) for _ in range(2))
    assert first == again
    assert first["my.code:denoise"]["color"] in SPARE_COLOURS


@pytest.fixture
def instances(micrograph, rng):
    """Return two instances of different shapes."""
    entry = Entry("a.tif", "a", "", "TEM of something with a very long description")
    cleans = [micrograph, micrograph[:80, :56]]
    return {
        name: Instance(
            np.clip(clean + rng.normal(0, 0.1, clean.shape), 0, 1),
            clean,
            1 / 60,
            40.0,
            entry,
        )
        for name, clean in zip(("first", "second"), cleans, strict=True)
    }


TWO_METHODS = {
    "halved": lambda noisy, _: noisy / 2,
    "bright": lambda noisy, gain: noisy + 1 / gain,
}


def test_examples_are_rows_of_noisy_denoised_and_clean_images(instances):
    figure = show_examples(instances, TWO_METHODS)
    grid = np.reshape(figure.axes, (2, 4))
    for line, (name, instance) in zip(grid, instances.items(), strict=True):
        assert line[0].get_ylabel().startswith(f"{name}\nTEM of something")
        dose = 60 * instance.noisy.mean()
        assert f"scale 40, dose {dose:.0f} counts/px" in line[0].get_ylabel()
        images = [instance.noisy, instance.noisy / 2, np.ones_like(instance.clean)]
        for axes, image in zip(line, [*images, instance.clean], strict=True):
            np.testing.assert_allclose(axes.images[0].get_array(), image, rtol=1e-6)
        for axes, image, title in zip(
            line, images, ("noisy", "halved", "bright"), strict=False
        ):
            first, second = axes.get_title().splitlines()
            assert first == title
            assert f"MSE {1e3 * mse(instance.clean, image):.2f} " in second
            assert f"SSIM {ssim(instance.clean, image, data_range=1):.3f}" in second
        assert line[-1].get_title() == "truth"


def test_a_row_of_examples_has_one_grey_scale(instances):
    for line in np.reshape(show_examples(instances, TWO_METHODS).axes, (2, 4)):
        limits = {axes.images[0].get_clim() for axes in line}
        limits |= {axes.child_axes[0].images[0].get_clim() for axes in line}
        assert len(limits) == 1


def test_the_upper_left_corner_is_enlarged(instances):
    figure = show_examples(instances, {}, enlarge=np.s_[:16, :24])
    inset = figure.axes[0].child_axes[0].images[0].get_array()
    np.testing.assert_allclose(inset, instances["first"].noisy[:16, :24])
    assert not show_examples(instances, {}, enlarge=None).axes[0].child_axes


def test_methods_cannot_spoil_the_image_that_others_get(instances):
    def spoil(noisy, _):
        noisy *= 0
        return noisy

    figure = show_examples(instances, {"spoil": spoil, **TWO_METHODS})
    np.testing.assert_allclose(
        figure.axes[2].images[0].get_array(), instances["first"].noisy / 2
    )


def test_spectra_scale_with_the_square_and_are_relative_to_the_truth(instances):
    figure = plot_mean_spectra(list(instances.values()), TWO_METHODS)
    names = ["noisy", "halved", "bright", "truth"]
    images, errors, ratios = (
        dict(zip(names, axes.lines, strict=True)) for axes in figure.axes
    )
    power = {name: line.get_ydata() for name, line in images.items()}
    np.testing.assert_allclose(power["halved"], power["noisy"] / 4)
    np.testing.assert_allclose(ratios["truth"].get_ydata(), 1)
    np.testing.assert_allclose(
        ratios["halved"].get_ydata(), power["halved"] / power["truth"]
    )
    np.testing.assert_allclose(errors["truth"].get_ydata(), power["truth"])
    np.testing.assert_allclose(errors["bright"].get_ydata(), power["truth"])
    assert np.median(errors["noisy"].get_ydata()) == pytest.approx(0.01, rel=0.5)
    for axes in figure.axes:
        assert "cycles/px" in axes.get_xlabel()
        assert axes.get_xlim() == (0, 0.5)
        assert axes.lines[0].get_xdata()[-1] == 0.5
    assert names_in(figure.legends[0]) == list(images)


@pytest.fixture
def maps(rng):
    """Return a map with a grid and a bright edge, and one without."""
    plain = 0.02 + 0.001 * rng.normal(size=(128, 160))
    grid = plain + np.tile([[0.002, 0], [0, 0.002]], (64, 80))
    grid[0] += 0.01
    return {
        "low dose": ErrorMap(grid, 70, 3, 0),
        "ordinary dose": ErrorMap(plain, 75, 0, 0),
    }


def test_maps_of_errors_are_drawn_with_their_numbers(maps):
    figure = show_error_maps(maps)
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    for line, (name, errors) in zip(np.reshape(panels, (2, 4)), maps.items(), strict=True):
        plain, equalised, profile, phases = line
        assert plain.get_ylabel().startswith(f"{name}\n{errors.instances} instances")
        np.testing.assert_array_equal(plain.images[0].get_array(), errors.mean)
        assert f"{errors.mean.mean():.4f}" in plain.get_title()
        low, high = (float(limit(errors.mean)) for limit in (np.min, np.max))
        assert f"{low:.4f} to {high:.4f}" in plain.get_title()
        assert equalised.images[0].get_array().std() > errors.mean.std()
        corner = equalised.child_axes[0].images[0]
        np.testing.assert_array_equal(corner.get_array(), errors.mean[:16, :16])
        assert f"{edge_ratio(errors.mean):.2f} times" in profile.get_title()
        for period in (2, 4):
            strength = measure_grid(errors.mean, period).strength
            assert f"period {period}: strength {strength:.3g} " in phases.get_title()
    assert "left out: 3 too small" in panels[0].get_ylabel()
    assert "left out" not in panels[4].get_ylabel()


def test_phases_are_relative_and_on_one_scale_centred_at_zero(maps):
    figure = show_error_maps(maps)
    tables = [a.images[0] for a in figure.axes if "modulo" in a.get_xlabel()]
    low, high = tables[0].get_clim()
    assert low == -high
    assert tables[1].get_clim() == (low, high)
    phases = tables[0].get_array()
    expected = 100 * 0.001 / 0.021 * (1 - 2 * (np.indices((4, 4)).sum(axis=0) % 2))
    np.testing.assert_allclose(phases, expected, atol=0.7)
    assert np.abs(tables[1].get_array()).max() < 0.7


def test_a_map_of_one_error_can_be_drawn():
    figure = show_error_maps({"even": ErrorMap(np.full((128, 128), 0.5), 1, 0, 2)})
    assert "left out: 2 not finite" in figure.axes[0].get_ylabel()
    figure.draw_without_rendering()


@pytest.fixture
def trainings():
    """Return logs of two variants with two seeds: errors fall as powers of the step."""
    return pd.DataFrame(
        [
            {"variant": name, "seed": seed, "step": step, "mse": (1 + seed) * step**-power}
            for name, power in (("ReLU6", 1.0), ("ReLU", 0.5))
            for seed in (0, 1)
            for step in range(10, 110, 10)
        ]
    )


def test_each_training_is_a_line_and_each_variant_a_colour(trainings):
    figure = plot_experiments(trainings, boxcar=1)
    lines = figure.axes[0].lines
    assert len(lines) == 4
    assert [line.get_color() for line in lines] == ["C0", "C0", "C1", "C1"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ReLU6", "ReLU"]
    np.testing.assert_allclose(lines[3].get_ydata(), 2 * lines[3].get_xdata() ** -0.5)


def test_a_boxcar_moves_neither_a_line_nor_its_mean(trainings):
    straight = trainings.assign(mse=1e-3 * trainings["step"])
    line = plot_experiments(straight, boxcar=3).axes[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(), range(20, 100, 10))
    np.testing.assert_allclose(line.get_ydata(), 1e-3 * line.get_xdata())


def test_a_boxcar_longer_than_a_training_is_refused(trainings):
    with pytest.raises(ValueError, match=r"ReLU6, seed 0: has 10 rows.*shorter boxcar"):
        plot_experiments(trainings, boxcar=11)


def test_figures_can_be_drawn(rows, instances, maps, tmp_path):
    """All warnings are errors here, so layouts that do not fit would fail."""
    for number, figure in enumerate(
        [
            plot_score_distributions(rows),
            plot_error_against_dose(rows),
            plot_mean_spectra(list(instances.values()), TWO_METHODS),
            show_examples(instances, TWO_METHODS),
            show_error_maps(maps),
        ]
    ):
        figure.savefig(tmp_path / f"{number}.png", dpi=50)
        assert (tmp_path / f"{number}.png").stat().st_size > 5000


def test_unfit_arguments_are_refused(rows, instances):
    with pytest.raises(ValueError, match=r"among emdn, .*; got median"):
        plot_score_distributions(rows, methods=["emdn", "median"])
    with pytest.raises(ValueError, match="at least one score"):
        plot_error_against_dose(pd.DataFrame(columns=Row._fields))
    broken = pd.DataFrame([make_row("low", 0, "emdn", math.nan)])
    with pytest.raises(ValueError, match="finite scores 'mse', got none"):
        plot_score_distributions(broken)
    with pytest.raises(ValueError, match="two different scores at low dose"):
        plot_score_distributions(pd.DataFrame([make_row("low", 0, "emdn", 0.1)]))
    with pytest.raises(ValueError, match="at least one instance"):
        show_examples({}, TWO_METHODS)
    with pytest.raises(ValueError, match="at least one instance"):
        plot_mean_spectra([], TWO_METHODS)
    with pytest.raises(ValueError, match="at least one map"):
        show_error_maps({})
    with pytest.raises(ValueError, match="broken must be finite"):
        show_examples(instances, {"broken": lambda noisy, _: noisy * np.nan})
