"""Write the network that ships, and a micrograph, for the page that denoises in a browser.

After the pages are built, the folder ``live/`` gets ``network.json`` and ``network.bin``
(kernels and biases, little-endian float32, in the order in which the image meets them),
``micrograph.json`` and ``micrograph.bin`` (grey levels of 8 bits, row by row).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

MICROGRAPH = "axons"  # of emdn.specimens.names()
SIDE = 256  # pixels of the micrograph that are shown: one tile, so that the slider is quick


def write_network(folder: Path) -> None:
    """Write the sizes and the weights of the network that ships."""
    from emdn.networks.layers import UNIT
    from emdn.networks.unet import UNET
    from emdn.weights import read_model

    weights = [layer.get_weights() for layer in read_model("auto").layers if layer.weights]
    numbers = np.concatenate([array.ravel() for pair in weights for array in pair])
    description = {
        "layers": [
            {"kernel": kernel.shape, "bias": bias.shape} for kernel, bias in weights
        ],
        "blocks": UNET.blocks,
        "unit": UNIT,
        "numbers": numbers.size,
    }
    (folder / "network.json").write_text(json.dumps(description))
    (folder / "network.bin").write_bytes(numbers.astype("<f4").tobytes())


def write_micrograph(folder: Path) -> None:
    """Write a micrograph that ships, its range stretched to 8 bits."""
    from emdn import specimens
    from emdn.scaling import to_unit

    image, _ = specimens.load(MICROGRAPH)
    greys = np.rint(255 * to_unit(image[:SIDE, :SIDE])).astype(np.uint8)
    size = dict(zip(("height", "width"), greys.shape, strict=True))
    (folder / "micrograph.json").write_text(json.dumps(size))
    (folder / "micrograph.bin").write_bytes(greys.tobytes())


def after_build(app: Any, exception: Exception | None) -> None:
    """Write what the page fetches, beside the scripts that Sphinx has copied."""
    folder = Path(app.outdir) / "live"
    if exception is None and folder.is_dir():
        write_network(folder)
        write_micrograph(folder)


def setup(app: Any) -> dict[str, bool]:
    """Register the step with Sphinx."""
    app.connect("build-finished", after_build)
    return {"parallel_read_safe": True}
