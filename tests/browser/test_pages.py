"""Every built page is whole without the internet: wide and narrow, light and dark."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from emdn.widgets import picture_slider

from .conftest import HTML, PAGES, counts

WIDTHS = (1400, 1300, 390)  # pixels of CSS: a laptop, a smaller one and a phone
SCHEMES = ("light", "dark")

READY = """async () => {
  if (document.querySelector("script[src*=mathjax]")) {
    while (!window.MathJax?.startup?.promise) await new Promise(go => setTimeout(go, 20));
    await MathJax.startup.promise;
  }
  await Promise.all([...document.images].map(image => image.decode().catch(() => null)));
}"""

# What is wrong with a page as it stands, one line each.
FAULTS = r"""() => {
  const faults = [];
  const all = (selector) => [...document.querySelectorAll(`.bd-article :is(${selector})`)];
  const says = (element) => element.textContent.trim().replace(/\s+/g, " ").slice(0, 60);
  for (const math of all(".math"))
    if (!math.querySelector("mjx-container")) faults.push("raw formula: " + says(math));
  for (const math of all("mjx-merror")) faults.push("wrong formula: " + says(math));
  for (const image of all("img")) {
    const name = image.alt || image.src.slice(-40);
    if (!image.complete || !image.naturalWidth) faults.push("broken image: " + name);
    if (getComputedStyle(image).filter !== "none") faults.push("filtered image: " + name);
    if (!image.alt.trim() || /[0-9a-f]{40}/.test(image.alt))
      faults.push("image without a description: " + name);
  }
  for (const output of all(".cell_output")) {
    const text = output.innerText;
    if (/\d%\||━|█/.test(text) || output.querySelector("progress, .jupyter-widgets"))
      faults.push("frozen progress bar: " + says(output));
    const shown = output.querySelector("img, svg, table, canvas, video, input");
    if (!text.trim() && !shown && output.offsetHeight)
      faults.push("empty output below: " + says(output.previousElementSibling ?? output));
  }
  const width = document.documentElement.scrollWidth;
  if (width > innerWidth) faults.push(`page of ${width} px in a window of ${innerWidth}`);
  if (innerWidth > 1000)
    for (const code of all(".cell_input pre, .cell_output pre"))
      if (code.scrollWidth > code.clientWidth + 1)
        faults.push(`code or output wider than its column: ${says(code)}`);
  return faults;
}"""


@pytest.fixture
def opened(browser, addresses):
    """Return a function that opens a page, and the faults that the browser reports."""
    reports = []
    contexts = []

    def open_page(kind, name, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()

        def note_request(request):
            counts["requests"] += 1
            if not request.url.startswith((addresses[kind], "data:", "blob:")):
                counts["outer"] += 1
                reports.append(f"request to another host: {request.url}")

        def note_console(message):
            if message.type == "error":
                reports.append(f"console: {message.text}")

        page.on("request", note_request)
        page.on("console", note_console)
        page.on("pageerror", lambda error: reports.append(f"script: {error}"))
        page.goto(f"{addresses[kind]}/{name}", wait_until="load")
        if options.get("java_script_enabled", True):
            page.evaluate(READY)
        return page

    yield open_page, reports
    for context in contexts:
        context.close()


@pytest.mark.parametrize("kind", ["file", "http"])
def test_a_page_is_whole(opened, page_name, kind):
    open_page, reports = opened
    page = open_page(kind, page_name, color_scheme="light")
    counts["pages"] += kind == "file"
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function(
                "theme => document.documentElement.dataset.theme === theme", arg=scheme
            )
            counts["views"] += 1
            reports += [f"{width} px, {scheme}: {fault}" for fault in page.evaluate(FAULTS)]
    counts["errors"] += len(reports)
    assert not reports, "\n".join([f"{page_name} ({kind}):", *reports])


def read(name):
    return (HTML / name).read_text(encoding="utf-8")


def with_sliders():
    return [name for name in PAGES if 'class="picture-slider"' in read(name)]


@pytest.mark.parametrize("name", with_sliders())
def test_each_slider_moves_by_keys_and_alone(opened, name):
    open_page, reports = opened
    page = open_page("file", name)
    sliders = page.locator(".picture-slider").all()

    def state(slider):
        image, control = slider.locator("img"), slider.get_by_role("slider")
        readout = slider.locator("output").inner_text()
        assert control.get_attribute("aria-valuetext") == readout
        return readout, image.get_attribute("src"), image.get_attribute("alt")

    for moved in sliders:
        control = moved.get_by_role("slider")
        assert control.evaluate("input => input.labels[0].innerText.trim()")
        others = [state(other) for other in sliders if other is not moved]
        seen = []
        for key in ("Home", "ArrowRight", "End", "ArrowLeft"):
            control.press(key)
            seen.append(state(moved))
        assert seen[0] != seen[1] != seen[2] != seen[3]
        assert len({readout for readout, _, _ in seen}) >= 2
        assert len({picture for _, picture, _ in seen}) >= 2
        assert [state(other) for other in sliders if other is not moved] == others
        counts["sliders"] += 1
    assert not reports


def test_a_slider_works_where_a_notebook_inserts_it(browser):
    """Notebooks assign HTML: scripts in it need not run, but its handlers do."""

    def draw(value):
        figure, axes = plt.subplots(figsize=(2, 1))
        axes.plot([0, value])
        return figure

    page = browser.new_page()
    sliders = [picture_slider(draw, [1, 2, 3], name=name) for name in ("one", "two")]
    html = "".join(slider._repr_html_() for slider in sliders)
    page.evaluate("html => { document.body.innerHTML = html; }", html)
    page.get_by_label("two").press("ArrowRight")
    assert page.locator("output").all_inner_texts() == ["2", "3"]
    page.close()


@pytest.mark.parametrize("name", with_sliders())
def test_without_scripts_a_slider_is_its_first_picture(opened, name):
    open_page, _ = opened
    page = open_page("file", name, java_script_enabled=False)
    for slider in page.locator(".picture-slider").all():
        assert slider.locator("img").is_visible()
        assert slider.locator("output").inner_text().strip()
        assert not slider.get_by_role("slider").is_visible()


def test_a_figure_is_enlarged_and_put_back_by_keys(opened):
    name = next(name for name in PAGES if "cell_output" in read(name))
    open_page, reports = opened
    page = open_page("file", name)
    figure = page.locator("img.enlargeable").first
    figure.press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.is_visible()
    assert dialog.locator("img").get_attribute("src") == figure.evaluate("each => each.src")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert not reports


def test_every_page_of_the_contents_was_built():
    contents = (Path(__file__).parents[2] / "_toc.yml").read_text()
    pages = re.findall(r"(?:file|root): *(\S+)", contents)
    assert {f"{name}.html" for name in pages} <= set(PAGES), "run `make book`"


def test_each_chapter_offers_its_notebook():
    notebooks = sorted((HTML.parents[1] / "notebooks").glob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        assert f'href="notebooks/{path.name}"' in read(f"{path.stem}.html")
        assert (HTML / "notebooks" / path.name).read_bytes() == path.read_bytes()


def test_each_figure_that_a_chapter_names_is_on_its_page():
    """A cell that shows nothing loses its figure, and the caption, without a word."""
    chapters = sorted((Path(__file__).parents[2] / "book").glob("*.md"))
    named = {
        (path.stem, name)
        for path in chapters
        for name in re.findall(r"^ +name: (fig-\S+)$", path.read_text(), re.M)
    }
    assert named
    missing = {each for each in named if f'id="{each[1]}"' not in read(f"{each[0]}.html")}
    assert not missing


def test_each_page_has_a_description_of_its_own():
    described = [
        match[1]
        for name in PAGES
        if (match := re.search(r'<meta name="description" content="(.+?)"', read(name)))
    ]
    contents = (Path(__file__).parents[2] / "_toc.yml").read_text()
    assert len(described) == len(re.findall(r"(?:file|root): *\S+", contents))
    assert len(set(described)) == len(described)
