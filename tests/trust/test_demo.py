"""The demonstration gains on a real micrograph, and says whose it is."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from emdn import Denoiser, MicrographError, read_micrograph
from emdn.cli import app
from emdn.metrics import mse
from emdn.specimens import load
from emdn.trust.demo import FILES, SIDE, demonstrate, exposed, write


@pytest.fixture(scope="module")
def shown():
    return demonstrate("gold", 25.0, Denoiser(clip=False, progress=False))


@pytest.fixture(scope="module")
def folder(shown, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "made"
    assert write(shown, folder) == [folder / name for name in FILES]
    return folder


def run(*arguments):
    return CliRunner().invoke(app, ["demo", *map(str, arguments)])


def test_the_counts_are_poisson_draws_of_the_truth(shown):
    assert np.array_equal(shown.before, np.round(shown.before))
    assert shown.before.mean() == pytest.approx(shown.truth.mean(), rel=0.005)
    # The standard error of a mean of squares over so many pixels is about 1 %.
    assert mse(shown.truth, shown.before) == pytest.approx(shown.truth.mean(), rel=0.05)


def test_denoising_gains_what_ten_exposures_would(shown):
    assert shown.gained > 10
    assert mse(shown.truth, shown.after) * shown.gained == pytest.approx(
        mse(shown.truth, shown.before)
    )


def test_it_says_whose_micrograph_it_is_and_what_was_gained(shown):
    text = "\n".join(shown.sentences())
    told = load("gold")[1].other
    assert all(told[key] in text for key in ("attribution", "licence", "source", "trained"))
    assert f"{10 * np.log10(shown.gained):.1f} dB better" in text


def test_before_is_after_and_what_was_removed(folder, shown):
    before, metadata = read_micrograph(folder / "before.tif")
    after, _ = read_micrograph(folder / "after.tif")
    removed, _ = read_micrograph(folder / "removed.tif")
    assert before.shape == (SIDE, SIDE)
    np.testing.assert_allclose(after + removed, before, atol=1e-4)
    assert metadata.pixel_size == pytest.approx(shown.metadata.pixel_size)


def test_the_figure_holds_four_pictures(folder):
    with Image.open(folder / "demo.png") as figure:
        assert min(figure.size) > 2 * SIDE


def test_the_report_names_the_authors(folder):
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert load("gold")[1].other["attribution"] in page


def test_exposed_micrographs_may_be_shown_and_noisy_ones_not():
    assert "gold" in exposed()
    with pytest.raises(MicrographError, match=r"superalloy: has noise .* take axons"):
        demonstrate("superalloy", 25.0, Denoiser(progress=False))


@pytest.mark.slow
def test_the_command_writes_into_a_folder_and_prints_what_was_gained(tmp_path):
    result = run("--micrograph", "nanoparticles", "--scale", 10, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(FILES)
    assert "dB better" in result.output
    again = run("-o", tmp_path / "out")
    assert again.exit_code == 1
    assert "exists already; use --overwrite" in again.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--micrograph", "silver"), "there are axons"),
        (("--micrograph", "carbon"), "no truth"),
        (("--scale", "0"), "scale must be from 0.01 to 2500 counts, got 0"),
        (("--scale", "1e30"), "got 1e+30"),
        (("--scale", "nan"), "got nan"),
    ],
)
def test_what_cannot_be_shown_is_one_line(tmp_path, options, message):
    result = run(*options, "-o", tmp_path)
    assert result.exit_code == 1
    assert message in result.output
    assert not list(tmp_path.iterdir())
