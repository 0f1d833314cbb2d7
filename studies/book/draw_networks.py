"""Draw the two networks of the book, with the sizes that their configurations hold.

    python studies/book/draw_networks.py book/_static

It writes ede2019.svg and unet.svg. A drawing has a white ground, so that it can be read on
a dark page too, and is 784 px wide, as the book's column is; text is 12 px or more.
"""

import argparse
from pathlib import Path
from xml.sax.saxutils import escape

from emdn.networks import PAPER, UNET

WIDTH = 784  # px, of the book's column
BOX = 200, 46  # px, width and height of a block
LEFT, MIDDLE, RIGHT = 24, 292, 560  # px, left edges of the three columns
ROW = 84  # px, from one stride to the next
TOP = 44  # px, of the first row
SIDE = 512  # px, of the image whose sizes are noted

IMAGE, ENCODER, BOTTOM, DECODER = "#eeeeee", "#cfe4f3", "#f8e0ae", "#c9ead9"
INK, SKIP = "#222222", "#0072b2"

TIMES, MINUS = "\N{MULTIPLICATION SIGN}", "\N{MINUS SIGN}"

HEAD = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"
 viewBox="0 0 {width} {height}" role="img" aria-label="{label}"
 font-family="Helvetica, Arial, sans-serif" font-size="13">
<defs>
 <marker id="ink" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"
  orient="auto"><path d="M0 0 8 4 0 8z" fill="{ink}"/></marker>
 <marker id="skip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"
  orient="auto"><path d="M0 0 8 4 0 8z" fill="{skip}"/></marker>
</defs>
<rect width="{width}" height="{height}" rx="6" fill="#ffffff"/>"""


class Drawing:
    """An SVG that grows by boxes, arrows and words."""

    def __init__(self, height: int, label: str) -> None:
        head = HEAD.format(width=WIDTH, height=height, label=label, ink=INK, skip=SKIP)
        self.parts = [head]

    def box(self, x: int, row: int, color: str, title: str, note: str) -> None:
        """Draw a block with its name and what comes out of it."""
        y, (width, height) = TOP + row * ROW, BOX
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" '
            f'fill="{color}" stroke="{INK}" stroke-width="0.8"/>'
        )
        self.words(x + width // 2, y + 19, title, weight="bold")
        self.words(x + width // 2, y + 37, note, size=12)

    def words(
        self, x: int, y: int, text: str, *, size: int = 13, weight: str = "normal",
        color: str = INK, anchor: str = "middle",
    ) -> None:  # fmt: skip
        """Write a line of text."""
        self.parts.append(
            f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" '
            f'font-weight="{weight}" fill="{color}">{escape(text)}</text>'
        )

    def arrow(self, *points: tuple[int, int], skip: bool = False) -> None:
        """Draw an arrow through some points; skips are blue and dashed."""
        path = "M" + " L".join(f"{x} {y}" for x, y in points)
        color, name, dash = (SKIP, "skip", "6 4") if skip else (INK, "ink", "none")
        self.parts.append(
            f'<path d="{path}" fill="none" stroke="{color}" stroke-width="1.5" '
            f'stroke-dasharray="{dash}" marker-end="url(#{name})"/>'
        )

    def down(self, x: int, row: int) -> None:
        """Draw an arrow from a box to the one below it."""
        middle, y = x + BOX[0] // 2, TOP + row * ROW + BOX[1]
        self.arrow((middle, y), (middle, y + ROW - BOX[1]))

    def up(self, x: int, row: int, label: str) -> None:
        """Draw an arrow from a box to the one above it, and say what it does."""
        middle, y = x + BOX[0] // 2, TOP + row * ROW
        self.arrow((middle, y), (middle, y - ROW + BOX[1]))
        self.words(middle + 8, y - 14, label, size=12, anchor="start")

    def across(self, start: int, end: int, row: int, label: str, *, skip: bool) -> None:
        """Draw an arrow from a box to another one in the same row."""
        y = TOP + row * ROW + BOX[1] // 2
        self.arrow((start + BOX[0], y), (end, y), skip=skip)
        color = SKIP if skip else INK
        self.words((start + BOX[0] + end) // 2, y - 7, label, size=12, color=color)

    def save(self, path: Path) -> None:
        """Write the file."""
        path.write_text("\n".join([*self.parts, "</svg>"]) + "\n")


def size(stride: int, features: int) -> str:
    """Say the size of a feature map."""
    side = SIDE // stride
    return f"{side} {TIMES} {side} {TIMES} {features}"


def rows_of_strides(drawing: Drawing, strides: list[int]) -> None:
    """Write the stride of each row above its first box."""
    for row, stride in enumerate(strides):
        y = TOP + row * ROW - 6
        drawing.words(LEFT, y, f"stride {stride}", size=12, anchor="start", color="#666666")


def paper(folder: Path) -> None:
    """Draw the network of the paper."""
    drawing = Drawing(TOP + 5 * ROW, "The network of Ede and Beanland")
    rows_of_strides(drawing, [1, 2, 4, 8, 16])
    drawing.box(LEFT, 0, IMAGE, "noisy image", size(1, 1))
    entered = PAPER.entry_features
    for row, features in enumerate(entered, 1):
        drawing.down(LEFT, row - 1)
        drawing.box(LEFT, row, ENCODER, f"entry block {row}", size(2**row, features))
    deepest = size(16, entered[-1])
    drawing.box(MIDDLE, 4, BOTTOM, f"{PAPER.middle_blocks} middle blocks", deepest)
    rates = ", ".join(map(str, PAPER.aspp_rates))
    high, *others = PAPER.decoder_features
    drawing.box(RIGHT, 4, BOTTOM, f"ASPP, rates {rates}", size(16, high))
    for start, end in ((LEFT, MIDDLE), (MIDDLE, RIGHT)):
        drawing.across(start, end, 4, "", skip=False)
    middle = RIGHT + BOX[0] // 2
    bottom, top = TOP + 4 * ROW, TOP + 2 * ROW + BOX[1]
    drawing.arrow((middle, bottom), (middle, top))
    drawing.words(
        middle + 8, (bottom + top) // 2 + 4, f"bilinear {TIMES} 4", size=12, anchor="start"
    )
    drawing.box(RIGHT, 2, DECODER, "decoder block", size(4, high))
    for row, features in zip((1, 0), others, strict=True):
        drawing.up(RIGHT, row + 1, f"transposed {TIMES} 2")
        drawing.box(RIGHT, row, DECODER, "decoder block", size(2**row, features))
    for row in (1, 2):
        drawing.across(LEFT, RIGHT, row, f"skip, {entered[row - 1]} features", skip=True)
    drawing.box(MIDDLE, 0, IMAGE, "denoised image", size(1, 1))
    y = TOP + BOX[1] // 2
    drawing.arrow((RIGHT, y), (MIDDLE + BOX[0], y))
    drawing.words((MIDDLE + BOX[0] + RIGHT) // 2, y - 7, f"3 {TIMES} 3", size=12)
    drawing.save(folder / "ede2019.svg")


def unet(folder: Path) -> None:
    """Draw the U-Net that ships."""
    drawing = Drawing(TOP + 5 * ROW, "The U-Net that ships")
    rows_of_strides(drawing, [1, 1, 2, 4, 8])
    blocks = [f"{number} residual blocks" for number in UNET.blocks]
    drawing.box(LEFT, 0, IMAGE, "noisy image", size(1, 1))
    drawing.box(LEFT, 1, ENCODER, "stabilise", "noise has deviation 1 everywhere")
    drawing.down(LEFT, 0)
    drawing.box(MIDDLE, 0, IMAGE, "counts per 1", "one number: 1 / gain")
    drawing.box(RIGHT, 0, IMAGE, "denoised image", size(1, 1))
    drawing.box(RIGHT, 1, DECODER, "unstabilise", f"stabilised image {MINUS} noise")
    drawing.up(RIGHT, 1, "")
    x, y = MIDDLE + BOX[0] // 2, TOP + BOX[1]
    for aim, side in ((LEFT + BOX[0], x - 30), (RIGHT, x + 30)):
        drawing.arrow((side, y), (side, y + 44), (aim, y + 44))
    for row, (features, each) in enumerate(zip(UNET.features, blocks, strict=True), 2):
        drawing.down(LEFT, row - 1)
        note = size(2 ** (row - 1), features)
        drawing.box(LEFT, row, ENCODER, each, note)
        if row < len(UNET.features) + 1:
            drawing.box(RIGHT, row, DECODER, each, note)
            drawing.up(
                RIGHT, row, "predicted noise" if row == 2 else f"transposed {TIMES} 2"
            )
            drawing.across(LEFT, RIGHT, row, f"skip, {features} features, added", skip=True)
    last = len(UNET.features) + 1
    y, middle = TOP + last * ROW + BOX[1] // 2, RIGHT + BOX[0] // 2
    drawing.arrow((LEFT + BOX[0], y), (middle, y), (middle, y - ROW + BOX[1] // 2))
    drawing.words(middle + 8, y - 24, f"transposed {TIMES} 2", size=12, anchor="start")
    y = TOP + ROW + BOX[1] // 2 + 8
    drawing.arrow((LEFT + BOX[0], y), (RIGHT, y), skip=True)
    drawing.words(x, y + 17, "the stabilised image itself", size=12, color=SKIP)
    middle = LEFT + BOX[0] // 2 + 8
    for row, words in enumerate(
        (f"2 {TIMES} 2 pixels → 4 features", "stride 2", "stride 2"), 1
    ):
        drawing.words(middle, TOP + row * ROW + BOX[1] + 22, words, size=12, anchor="start")
    drawing.save(folder / "unet.svg")


def main() -> None:
    """Draw both networks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    paper(folder)
    unet(folder)


if __name__ == "__main__":
    main()
