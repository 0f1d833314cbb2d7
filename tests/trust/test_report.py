"""The verdict of a report says what is wrong, and its page needs no other host."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from emdn.cli import app
from emdn.denoiser import Denoiser
from emdn.detector import Detector
from emdn.io import read_micrograph, write_micrograph
from emdn.specimens import KINDS
from emdn.trust.report import as_page, assess

COUNTER = Detector(1.0)


def by_network(image, detector):
    return Denoiser(clip=False).denoise(image, detector=detector)


def exposed(clean, scale=60.0):
    return np.random.default_rng(2).poisson(scale * clean).astype(np.float32)


@pytest.fixture(scope="module")
def noisy():
    return exposed(KINDS["membranes"]((128, 128), np.random.default_rng(1)))


@pytest.fixture(scope="module")
def assessment(noisy):
    return assess(noisy, by_network)


def levels(found):
    return {each.level for each in found.verdict}


def test_what_is_good_is_called_good():
    y, x = np.mgrid[:128, :128] / 16
    found = assess(exposed(0.5 + 0.4 * np.sin(x) * np.cos(y)), by_network)
    assert levels(found) == {"good"}


@pytest.mark.parametrize("scale", [10.0, 100.0])
def test_an_empty_field_is_called_empty(scale):
    found = assess(exposed(np.full((128, 128), 0.5), scale), by_network)
    assert any("empty" in each.text for each in found.verdict if each.level == "bad")


def test_lost_structure_is_named(noisy):
    found = assess(noisy, by_network, denoised=gaussian_filter(noisy, 4.0))
    texts = [each.text for each in found.verdict if each.level == "bad"]
    assert any("structure was lost" in text for text in texts)
    assert found.uncertainty is None


def test_an_invented_particle_is_named(noisy, assessment):
    y, x = np.mgrid[-64:64, -64:64]
    invented = assessment.denoised + 30 * np.exp(-(x**2 + y**2) / 18)
    found = assess(noisy, by_network, denoised=invented)
    assert any("no plausible draw" in each.text for each in found.verdict)
    assert found.consistency.places()[64, 64]


def test_a_gain_that_is_not_measured_is_named():
    even = np.random.default_rng(0).normal(50.0, 3.0, (128, 128))
    found = assess(even, by_network)
    assert any("gain could not be measured" in each.text for each in found.verdict)


def test_an_image_without_noise_is_refused():
    with pytest.raises(ValueError, match="shows no noise"):
        assess(np.ones((64, 64)), by_network)


def test_numbers_are_json_and_the_errors_are_those_of_the_truth(noisy, assessment):
    numbers = json.loads(json.dumps(assessment.numbers))
    clean = 60 * KINDS["membranes"]((128, 128), np.random.default_rng(1))
    truth = np.mean((assessment.denoised - clean) ** 2)
    error = numbers["mean_squared_error_standard_error"]
    assert abs(numbers["mean_squared_error"] - truth) < 4 * error
    assert numbers["dose_electrons_per_pixel"] == pytest.approx(noisy.mean())


def test_an_error_that_few_pixels_cannot_tell_is_given_with_its_doubt(assessment):
    small = assess(exposed(np.full((64, 64), 0.5)), by_network)
    (text,) = (each.text for each in small.verdict if "The error is as usual" in each.text)
    share, doubt = (float(each) for each in re.findall(r"([\d.]+)%", text))
    risk = small.uncertainty.risk
    assert share == pytest.approx(100 * max(risk.mse, 0) / risk.noise, abs=0.06)
    assert doubt == pytest.approx(100 * risk.error / risk.noise, abs=0.06)
    assert doubt > share / 10
    assert not any("is known to" in each.text for each in assessment.verdict)


class Links(HTMLParser):
    """Collects what a page asks for."""

    def __init__(self):
        super().__init__()
        self.asked, self.pictures = [], 0

    def handle_starttag(self, tag, attrs):
        """Note what a tag loads or leads to."""
        known = dict(attrs)
        self.asked += [known[name] for name in ("src", "href") if name in known]
        self.pictures += tag == "img"


def test_the_page_asks_no_host_and_escapes_names(assessment):
    text = as_page(assessment, "<script>alert(1)</script>", "end")
    links = Links()
    links.feed(text)
    assert links.pictures == 5
    assert all(each.startswith("data:image/png;base64,") for each in links.asked)
    assert "<script" not in text
    assert not re.search(r"https?://|url\(|@import", text)


def test_reports_of_files_whose_names_have_dots_do_not_meet(tmp_path, noisy):
    from typer.testing import CliRunner

    wanted = {"grid.0001.mrc": "grid.0001", "grid.0002.mrc": "grid.0002"}
    wanted |= {"15.31.07.tif": "15.31.07"}
    for name, stem in wanted.items():
        write_micrograph(tmp_path / name, noisy[:64, :64])
        command = ["report", str(tmp_path / name), "--consistency"]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        made = (f"{stem}_report.html", f"{stem}_report.json", f"{stem}_consistency.tif")
        assert all((tmp_path / each).exists() for each in made)
        assert json.loads((tmp_path / made[1]).read_text())["file"] == name


def test_the_command_writes_page_numbers_and_maps(tmp_path, noisy):
    from typer.testing import CliRunner

    write_micrograph(tmp_path / "a.mrc", noisy)
    command = ["report", str(tmp_path / "a.mrc"), "--uncertainty", "--consistency"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    numbers = json.loads((tmp_path / "a_report.json").read_text())
    assert numbers["file"] == "a.mrc"
    assert len(numbers["verdict"]) == 4
    assert "Nothing recognisable was removed" in (tmp_path / "a_report.html").read_text()
    for name in ("uncertainty", "consistency"):
        assert read_micrograph(tmp_path / f"a_{name}.tif")[0].shape == noisy.shape
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 1
    assert "exists already" in again.output


def test_the_command_plans_a_dose(tmp_path):
    from typer.testing import CliRunner

    good = KINDS["particles"]((64, 64), np.random.default_rng(1))
    write_micrograph(tmp_path / "a.tif", good)
    command = ["plan", str(tmp_path / "a.tif"), "--doses", "1,100", "--period", "60"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "A period of 60 pixels survives at" in result.output
