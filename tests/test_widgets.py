"""The slider shows each dose once, and the browser itself links it to the pictures."""

from io import BytesIO

import numpy as np
import PIL.Image
import pytest
from ipywidgets.embed import embed_data

from emdn.plots import show_images
from emdn.scaling import to_unit
from emdn.widgets import dose_slider

SCALES = (20, 2000)


@pytest.fixture
def seen():
    """Collect what the denoiser of the slider is given."""
    return []


@pytest.fixture
def box(micrograph, seen):
    def denoise(noisy):
        seen.append(noisy)
        return noisy / 2

    return dose_slider(7 * micrograph - 3, denoise, scales=SCALES)


def test_there_is_a_picture_for_each_scale(box):
    slider, stack = box.children
    assert slider.options == ("20", "2000")
    pictures = [PIL.Image.open(BytesIO(each.value)) for each in stack.children]
    few, many = [np.asarray(picture.convert("L"), float) for picture in pictures]
    assert few.shape == many.shape
    assert np.abs(few - many).mean() > 5  # of 255 grey levels


@pytest.mark.usefixtures("box")
def test_the_denoiser_is_given_counts_of_each_scale(seen, micrograph):
    truth = to_unit(micrograph)
    for counts, scale in zip(seen, SCALES, strict=True):
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
    dose_slider(micrograph, lambda noisy: noisy + 7, scales=SCALES, enlarge=region)
    truth = to_unit(micrograph)
    for (images, enlarged), scale in zip(shown, SCALES, strict=True):
        (noisy_title, noisy), (title, denoised), (_, clean) = images.items()
        assert noisy_title == f"noisy: {noisy.mean():.3g} counts per pixel"
        np.testing.assert_allclose(clean, scale * truth)
        decibels = -10 * np.log10(np.mean((denoised / scale - truth) ** 2))
        assert title.startswith(f"PSNR {decibels:.1f} dB, SSIM 0.")
        assert enlarged == region


def test_the_same_seed_makes_the_same_noise(box, micrograph):
    again = dose_slider(7 * micrograph - 3, lambda noisy: noisy / 2, scales=SCALES)
    other = dose_slider(7 * micrograph - 3, lambda noisy: noisy / 2, scales=SCALES, seed=1)
    values = [[each.value for each in each.children[1].children] for each in (box, again)]
    assert values[0] == values[1]
    assert values[0][0] != other.children[1].children[0].value


def test_a_page_holds_the_link_of_slider_and_pictures(box):
    """What needs no kernel is in the state that a rendered page embeds."""
    state = embed_data(views=[box])["manager_state"]["state"]
    slider, stack = (f"IPY_MODEL_{each.model_id}" for each in box.children)
    links = [each["state"] for each in state.values() if each["model_name"] == "LinkModel"]
    assert any(
        link["source"] == [slider, "index"] and link["target"] == [stack, "selected_index"]
        for link in links
    )
    assert (box.children[0].index, box.children[1].selected_index) == (0, 0)


@pytest.mark.parametrize("scales", [[], [100]])
def test_fewer_than_two_scales_are_refused(micrograph, scales):
    with pytest.raises(ValueError, match=f"scales must be two or more, .* {len(scales)}"):
        dose_slider(micrograph, np.copy, scales=scales)


def test_what_is_no_image_is_refused(micrograph):
    with pytest.raises(ValueError, match=r"clean must be an image of shape \(H, W\)"):
        dose_slider(np.stack([micrograph, micrograph]))
    micrograph[3, 4] = np.nan
    with pytest.raises(ValueError, match="clean must be finite"):
        dose_slider(micrograph)
