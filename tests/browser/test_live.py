"""The page that denoises in a browser, beside the package."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page

from emdn.weights import load

DENOISED = "document.getElementById('emdn-live').dataset.done === '{}'"
PATIENCE = 120_000  # milliseconds, on a busy machine


@pytest.fixture
def address(addresses: dict[str, str]) -> str:
    return f"{addresses['http']}/live.html"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Yield a page that must log no error."""
    faults: list[str] = []
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    yield page
    page.close()
    assert not faults


def status(page: Page) -> str:
    return page.inner_text("[data-live=status]")


def tile(counts: float) -> NDArray[np.float32]:
    rng = np.random.default_rng(1)
    rows, columns = np.indices((256, 256))
    clean = 0.5 + 0.4 * np.sin(rows / 9) * np.sin(columns / 13)
    return (rng.poisson(counts * clean) / counts).astype(np.float32)


def test_the_browser_computes_what_the_package_computes(page: Page, address: str):
    page.goto(address)
    page.wait_for_function(DENOISED.format(1))
    noisy = tile(counts=20)
    found = page.evaluate(
        "async (values) => Array.from(await emdnLive.denoise("
        "{pixels: Float32Array.from(values), height: 256, width: 256}, 20))",
        noisy.ravel().tolist(),
    )
    expected = load("auto")(noisy[np.newaxis], 1 / 20)[0]
    assert np.abs(np.reshape(found, (256, 256)) - expected).max() < 1e-4


def test_a_large_image_is_the_same_as_one_tile_where_both_see_it(page: Page, address: str):
    page.goto(address)
    page.wait_for_function(DENOISED.format(1))
    noisy = np.pad(tile(counts=500), ((0, 200), (0, 104)), mode="reflect")
    found = page.evaluate(
        "async ([values, height, width]) => Array.from(await emdnLive.denoise("
        "{pixels: Float32Array.from(values), height, width}, 500))",
        [noisy.ravel().tolist(), *noisy.shape],
    )
    whole = load("auto")(noisy[np.newaxis], 1 / 500)[0]
    difference = np.abs(np.reshape(found, noisy.shape) - whole)
    noise = np.sqrt(0.5 / 500)
    assert np.percentile(difference, 99.9) < 0.1 * noise
    assert np.median(difference) < 0.01 * noise


def test_the_dose_slider_is_moved_by_keys_and_helps_the_image(page: Page, address: str):
    page.goto(address)
    page.wait_for_function(DENOISED.format(1))
    dose = page.locator("[data-live=dose]")
    before, after = (float(x) for x in re.findall(r"([\d.]+) dB", status(page)))
    assert after > before + 3
    dose.press("ArrowRight")
    page.wait_for_function(DENOISED.format(2))
    text = page.inner_text("[data-live=readout]")
    assert text == dose.get_attribute("aria-valuetext")
    assert text.startswith("100 counts")
    assert float(re.findall(r"([\d.]+) dB", status(page))[0]) > before


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("uint8", {}),
        ("uint16", {"byteorder": ">"}),
        ("uint16", {"compression": "lzw", "predictor": 2}),
        ("uint16", {"tile": (64, 64)}),
        ("int32", {}),
        ("float32", {"compression": "zlib"}),
        ("float32", {"byteorder": ">"}),
    ],
)
def test_a_tiff_of_the_readers_is_read(
    page: Page, address: str, tmp_path: Path, kind: str, options: dict[str, Any]
):
    counts = np.rint(20 * tile(counts=20))[:80, :96]
    tifffile.imwrite(tmp_path / "own.tif", counts.astype(kind), **options)
    page.goto(address)
    page.wait_for_function(DENOISED.format(1))
    page.set_input_files("[data-live=file]", tmp_path / "own.tif")
    page.wait_for_function(DENOISED.format(2))
    assert "own.tif: look for structure in what was removed. 80 x 96 pixels" in status(page)
    estimate = page.inner_text("[data-live=estimate]")
    found = float(re.findall(r"about ([\d.e+]+) counts", estimate)[0])
    assert found == pytest.approx(counts.max(), rel=0.25)  # one count is one electron


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [
        (np.zeros((32, 32, 3), np.uint8), "one grey value a pixel"),
        (np.full((32, 32), np.nan, np.float32), "no number"),
        (np.zeros((32, 32), np.uint16), "shows no noise"),
        (np.ones((9, 32), np.uint8), "16 to 2048 a side"),
        (b"no image at all", "neither a TIFF nor a picture"),
    ],
)
def test_what_cannot_be_denoised_is_refused_in_one_line(
    page: Page, address: str, tmp_path: Path, contents: Any, complaint: str
):
    own = tmp_path / "own.tif"
    if isinstance(contents, bytes):
        own.write_bytes(contents)
    else:
        photometric = "rgb" if contents.ndim == 3 else "minisblack"
        tifffile.imwrite(own, contents, photometric=photometric)
    page.goto(address)
    page.wait_for_function(DENOISED.format(1))
    page.set_input_files("[data-live=file]", own)
    page.wait_for_function(
        "text => document.querySelector('[data-live=status]').textContent.includes(text)",
        arg=complaint,
    )


def test_a_page_from_a_disk_says_what_to_do(page: Page, addresses: dict[str, str]):
    page.goto(f"{addresses['file']}/live.html")
    assert "make serve" in status(page)
    assert page.locator("[data-live=controls]").is_hidden()
