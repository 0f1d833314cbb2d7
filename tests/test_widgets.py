"""A slider has a picture for each stop, as plain HTML that any page can hold."""

import base64
import json
from io import BytesIO
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
from matplotlib.figure import Figure

from emdn.plots import show_images
from emdn.scaling import to_unit
from emdn.widgets import SCALES, dose_slider, live_dose_slider, picture_slider

FEW = (20, 2000)  # counts at the brightest pixel
HOSTILE = """<b onload="x">'dose' & "more"</b>"""


def draw(value):
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.bar([0], [value])
    axes.set(title=f"height {value}", ylim=(0, 60))
    return figure


def page(slider):
    """Return the HTML of a slider, which must be well-formed, as a tree."""
    return ElementTree.fromstring(slider._repr_html_())


def decoded(source):
    kind, data = source.split(",")
    assert kind == "data:image/png;base64"
    return PIL.Image.open(BytesIO(base64.b64decode(data)))


def test_there_is_a_picture_for_each_value_and_it_is_that_of_the_value():
    slider = picture_slider(draw, [10, 50], name="height", unit="mm")
    stops = json.loads(page(slider).get("data-pictures"))
    assert [stop["value"] for stop in stops] == ["10 mm", "50 mm"]
    low, high = [np.asarray(decoded(stop["source"]).convert("L"), float) for stop in stops]
    assert high.mean() < low.mean()  # more of the bar's ink
    assert [stop["description"] for stop in stops] == [
        "height 10 mm; height 10",
        "height 50 mm; height 50",
    ]


@pytest.mark.parametrize(("start", "place"), [(None, 1), (10, 0), (50, 2)])
def test_the_page_shows_the_start_before_any_script_runs(start, place):
    slider = picture_slider(draw, [10, 30, 50], name="height", unit="mm", start=start)
    tree = page(slider)
    (image,), (control,), (readout,) = (
        list(tree.iter(tag)) for tag in ("img", "input", "output")
    )
    stop = json.loads(tree.get("data-pictures"))[place]
    assert image.get("src") == stop["source"]
    assert image.get("alt") == stop["description"]
    assert readout.text == control.get("aria-valuetext") == stop["value"]
    assert control.get("value") == str(place)
    assert (control.get("min"), control.get("max")) == ("0", "2")


def test_a_control_without_scripts_is_hidden_and_the_picture_is_not():
    tree = page(picture_slider(draw, [10, 30], name="height"))
    hidden = [part for part in tree.iter() if part.get("hidden")]
    (control,), (image,) = (list(tree.iter(tag)) for tag in ("input", "img"))
    assert [control in list(part.iter()) for part in hidden] == [True]
    assert not any(image in list(part.iter()) for part in hidden)


def test_a_label_names_the_control_and_ticks_name_the_stops():
    tree = page(picture_slider(draw, [0.5, 30], name="height", unit="mm"))
    (label,) = tree.iter("label")
    assert label.text.strip() == "height"
    assert label.find("input") is not None
    assert [tick.text for tick in tree.iter("span")] == ["0.5", "30"]


def test_names_and_units_stay_text():
    slider = picture_slider(draw, [10, 30], name=HOSTILE, unit=HOSTILE)
    tree = page(slider)
    assert next(tree.iter("label")).text.strip() == HOSTILE
    assert next(tree.iter("output")).text == f"30 {HOSTILE}"
    assert json.loads(tree.get("data-pictures"))[0]["value"] == f"10 {HOSTILE}"
    assert not list(tree.iter("b"))


def test_values_are_spelled_as_asked():
    slider = picture_slider(draw, [10, 30], name="height", unit="mm", format="{:.2f}")
    assert slider.values == ("10.00", "30.00")
    assert slider.readouts == ("10.00 mm", "30.00 mm")


def test_nothing_in_a_slider_names_an_element_of_the_page():
    """Two sliders on a page, even equal ones, cannot mistake each other's parts."""
    slider = picture_slider(draw, [10, 30], name="height")
    assert not [part for part in page(slider).iter() if part.get("id") or part.get("for")]


def test_a_small_marker_keeps_its_colour_beside_a_grey_picture():
    def marked(size):
        figure = Figure(figsize=(4, 2))
        left, right = figure.subplots(1, 2)
        left.imshow(np.random.default_rng(0).normal(size=(256, 256)), cmap="gray")
        right.plot(0, 0, "s", color="#e69f00", markersize=size)
        return figure

    slider = picture_slider(marked, [6, 8], name="size")
    for stop in json.loads(page(slider).get("data-pictures")):
        pixels = np.asarray(decoded(stop["source"]).convert("RGB")).astype(int)
        assert np.abs(pixels - [0xE6, 0x9F, 0x00]).max(axis=-1).min() <= 10


def test_figures_are_closed():
    before = plt.get_fignums()
    picture_slider(draw, [10, 30], name="height")
    assert plt.get_fignums() == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"values": []}, "values must be two or more, for a slider, got 0"),
        ({"values": [100]}, "values must be two or more, for a slider, got 1"),
        ({"values": [1, 2, 1]}, "values must differ from each other"),
        ({"start": 7}, r"start must be one of the values \[10, 30\], got 7"),
        ({"name": " "}, "name must say what the slider sets"),
    ],
)
def test_what_makes_no_slider_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        picture_slider(draw, **{"values": [10, 30], "name": "height", **changed})


def test_the_denoiser_is_given_counts_of_each_scale(micrograph):
    seen = []

    def denoise(noisy):
        seen.append(noisy)
        return noisy / 2

    slider = dose_slider(7 * micrograph - 3, denoise, scales=FEW)
    assert slider.values == ("20", "2000")
    truth = to_unit(micrograph)
    for counts, scale in zip(seen, FEW, strict=True):
        np.testing.assert_array_equal(counts, np.round(counts))
        assert counts.mean() == pytest.approx(scale * truth.mean(), rel=0.05)


def test_titles_tell_dose_and_scores_in_units_of_the_brightest_pixel(
    monkeypatch, micrograph
):
    shown = []

    def remember(images, enlarge):
        shown.append((images, enlarge))
        return show_images(images)

    monkeypatch.setattr("emdn.widgets.show_images", remember)
    region = np.s_[:8, :8]
    dose_slider(micrograph, lambda noisy: noisy + 7, scales=FEW, enlarge=region)
    truth = to_unit(micrograph)
    for (images, enlarged), scale in zip(shown, FEW, strict=True):
        (noisy_title, noisy), (title, denoised), (_, clean) = images.items()
        assert noisy_title == f"noisy\n{noisy.mean():.3g} counts per pixel"
        np.testing.assert_allclose(clean, scale * truth)
        decibels = -10 * np.log10(np.mean((denoised / scale - truth) ** 2))
        assert title.startswith(f"denoised\nPSNR {decibels:.1f} dB, SSIM 0.")
        assert enlarged == region


def test_the_same_seed_makes_the_same_noise(micrograph):
    first, again, other = (
        dose_slider(micrograph, np.copy, scales=FEW, seed=seed) for seed in (0, 0, 1)
    )
    assert first.pictures == again.pictures
    assert first.pictures[0] != other.pictures[0]


def test_a_live_slider_computes_the_picture_of_the_dose_it_is_moved_to(micrograph):
    doses = []

    def denoise(noisy):
        doses.append(noisy.mean())
        return noisy

    slider, image = live_dose_slider(micrograph, denoise).children
    before = image.value
    slider.value = SCALES[-1]
    assert image.value != before
    mean = to_unit(micrograph).mean()
    assert doses == pytest.approx([100 * mean, SCALES[-1] * mean], rel=0.05)


@pytest.mark.parametrize("make", [dose_slider, live_dose_slider])
def test_what_is_no_image_is_refused(make, micrograph):
    with pytest.raises(ValueError, match=r"clean must be an image of shape \(H, W\)"):
        make(np.stack([micrograph, micrograph]))
    micrograph[3, 4] = np.nan
    with pytest.raises(ValueError, match="clean must be finite"):
        make(micrograph)
