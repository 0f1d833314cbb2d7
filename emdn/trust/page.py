"""A report as one HTML page that asks no other host for anything."""

import base64
from collections.abc import Mapping
from html import escape
from string import Template

import imagecodecs
import numpy as np
from numpy.typing import NDArray

LARGEST = 1024  # pixels at a side of a picture on the page

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #1c2128; --soft: #57606a; --page: #ffffff;
  --line: #d0d7de; --good: #1a7f37; --care: #9a6700; --bad: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9da7b1;
  --page: #0d1117; --line: #30363d; --good: #3fb950; --care: #d29922; --bad: #f85149; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin-top: 2rem; }
.verdict { list-style: none; padding: 0; }
.verdict li { padding: .4rem .8rem; margin: .4rem 0;
  border-left: .3rem solid var(--line); }
.verdict .good { border-color: var(--good); } .verdict .care { border-color: var(--care); }
.verdict .bad { border-color: var(--bad); }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr));
  gap: 1rem; }
figure { margin: 0; } img { width: 100%; height: auto; image-rendering: pixelated;
  border: 1px solid var(--line); } figcaption { color: var(--soft); font-size: .9rem; }
table { border-collapse: collapse; } td, th { padding: .25rem .8rem .25rem 0;
  border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  font-weight: normal; overflow-wrap: anywhere; } th { color: var(--soft); }
svg { width: 100%; max-width: 40rem; height: auto; } svg text { fill: currentColor;
  font-size: 13px; } footer { color: var(--soft); font-size: .9rem; margin-top: 2rem; }
</style>
</head>
<body>
<h1>$title</h1>
<h2>Verdict</h2>
<ul class="verdict">$verdict</ul>
<h2>Pictures</h2>
<div class="pictures">$pictures</div>
$curve
<h2>Numbers</h2>
<table>$numbers</table>
<footer>$footer</footer>
</body>
</html>
""")


def page(
    title: str,
    *,
    verdict: list[tuple[str, str]],
    pictures: Mapping[str, tuple[NDArray, tuple[float, float], str]],
    curves: Mapping[str, tuple[NDArray, NDArray]],
    threshold: float,
    numbers: Mapping[str, str],
    footer: str,
) -> str:
    """Return a report as HTML.

    Parameters
    ----------
    title : str
        What the report is of.
    verdict : list of (str, str)
        "good", "care" or "bad", and a sentence.
    pictures : mapping
        By its heading, an (H, W) image, the levels that are black and white, and a caption.
        What is not finite is drawn black.
    curves : mapping
        By its name, frequencies in cycles per pixel and correlations; none, no drawing.
    threshold : float
        Correlation at which a line is drawn.
    numbers : mapping
        Values by their names.
    footer : str
        A line at the end.
    """
    return PAGE.substitute(
        title=escape(title),
        verdict="".join(
            f'<li class="{level}">{escape(text)}</li>' for level, text in verdict
        ),
        pictures="".join(_figure(name, *each) for name, each in pictures.items()),
        curve=_drawing(curves, threshold) if curves else "",
        numbers="".join(
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in numbers.items()
        ),
        footer=escape(footer),
    )


def _figure(name: str, image: NDArray, levels: tuple[float, float], caption: str) -> str:
    """Return a picture with its caption; large images are shown as means of areas."""
    factor = -(-max(image.shape) // LARGEST)
    rows, columns = (length // factor * factor for length in image.shape)
    low, high = levels
    finite = np.where(np.isfinite(image), image, low)[:rows, :columns]
    areas = finite.reshape(rows // factor, factor, -1, factor)
    small = areas.mean((1, 3), dtype=np.float64)
    grey = np.clip((small - low) * (255 / ((high - low) or 1.0)), 0, 255).round()
    data = base64.b64encode(imagecodecs.png_encode(grey.astype(np.uint8))).decode()
    text = f"<b>{escape(name)}.</b> {escape(caption)}"
    source = f"data:image/png;base64,{data}"
    return (
        f'<figure><img alt="{escape(name)}" src="{source}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


WIDTH, HEIGHT, LEFT, BOTTOM = 640, 260, 46, 40  # of the drawing, in its own units
DASHES = ("none", "6 4", "2 3")


def _drawing(curves: Mapping[str, tuple[NDArray, NDArray]], threshold: float) -> str:
    """Return correlations against frequency as SVG."""

    def place(frequency: float, correlation: float) -> str:
        x = LEFT + frequency / 0.5 * (WIDTH - LEFT - 10)
        y = 10 + (1 - np.clip(correlation, 0, 1)) * (HEIGHT - BOTTOM - 10)
        return f"{x:.1f},{y:.1f}"

    def line(points: list[str], dash: str, width: float) -> str:
        style = f'stroke="currentColor" stroke-width="{width}" stroke-dasharray="{dash}"'
        return f'<polyline fill="none" {style} points="{" ".join(points)}"/>'

    drawn = [line([place(0, 0), place(0.5, 0)], "none", 1)]
    drawn.append(line([place(0, 0), place(0, 1)], "none", 1))
    drawn.append(line([place(0, threshold), place(0.5, threshold)], "1 4", 1))
    names = []
    for (name, (frequency, correlation)), dash in zip(curves.items(), DASHES, strict=False):
        points = [place(f, c) for f, c in zip(frequency, correlation, strict=True)]
        drawn.append(line(points, dash, 2))
        x, y = place(0.3, 1 - 0.09 * (len(names) + 0.3)).split(",")
        drawn.append(line([f"{x},{y}", f"{float(x) + 30},{y}"], dash, 2))
        names.append(_text(float(x) + 36, float(y) + 4, name))
    ticks = [
        _text(LEFT + each / 0.5 * (WIDTH - LEFT - 10) - 8, HEIGHT - BOTTOM + 16, f"{each}")
        for each in (0, 0.1, 0.2, 0.3, 0.4, 0.5)
    ]
    heights = [
        _text(LEFT - 34, 14 + (1 - each) * (HEIGHT - BOTTOM - 10), f"{each:.1f}")
        for each in (0, 0.5, 1)
    ]
    axis = _text(WIDTH / 2 - 60, HEIGHT - 6, "cycles per pixel")
    inner = "".join([*drawn, *names, *ticks, *heights, axis])
    return (
        "<h2>Detail that one exposure bears out</h2>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="Fourier ring correlation against frequency">{inner}</svg>'
    )


def _text(x: float, y: float, text: str) -> str:
    """Return a text of a drawing."""
    return f'<text x="{x:.0f}" y="{y:.0f}">{escape(text)}</text>'
