"""A network as a package of bioimage.io, which image analysis programs load.

    .onnx file + a noisy and a denoised image --> package.zip

The format can say neither how an image is scaled nor how its gain is measured, so whoever
uses the package gives images in [0, 1] and, to a gain-aware network, the counts that a
pixel of 1 stands for. The extra `bioimageio` brings what writes and checks it.
"""

# pyright: reportMissingImports=false

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from emdn import __version__
from emdn.denoiser import STRIDE
from emdn.files import written_whole
from emdn.noise import noisy_pair
from emdn.specimens.micrographs import membranes
from emdn.weights import load

SIDES = (128, 192)  # pixels, of the images by which a program tests that all is well
SCALE = 60.0  # counts at the brightest pixel of the noisy one
SMALLEST = 64  # pixels, the least side that is worth a network's while

PAPER = {
    "text": "J. M. Ede and R. Beanland, Improving electron micrograph signal-to-noise with "
    "an atrous convolutional encoder-decoder, Ultramicroscopy 202 (2019), 18-25",
    "doi": "10.1016/j.ultramic.2019.03.017",
}

TEXT = """# emdn: shot noise off electron micrographs

`noisy` is an image of which 0 is the grey level of no electrons and 1 about the brightest
one.{counts} `denoised` is the same image without its shot noise. The package `emdn` finds
both numbers in an image of any units, and removes other kinds of noise too.

# Validation

Compare two exposures of one specimen: what is in both is no noise. `emdn report` says how
far a denoised image may be believed.
"""

COUNTS = """
`counts` is the number of electrons that 1 stands for, one for each image of a batch."""


def write_package(weights: Path, target: Path) -> None:
    """Write a package of a network.

    Parameters
    ----------
    weights : Path
        An ``.onnx`` file: one that ships, or that `emdn train` or `emdn export` wrote.
    target : Path
        File to write or to replace, ``.zip``.

    Raises
    ------
    ValueError
        If the file is damaged, or the network none from image to image.
    ModuleNotFoundError
        If bioimageio.spec is not installed.
    """
    from bioimageio.spec import save_bioimageio_package

    network = load(weights)
    rng = np.random.default_rng(0)
    noisy, _, gain = noisy_pair(membranes(SIDES, rng), SCALE, rng)
    images = {"noisy": noisy, "denoised": network(noisy[np.newaxis], gain)[0]}
    with tempfile.TemporaryDirectory() as folder:
        tests = {name: Path(folder) / f"{name}.npy" for name in (*images, "counts")}
        for name, image in images.items():
            np.save(tests[name], image[np.newaxis, ..., np.newaxis])
        np.save(tests["counts"], np.array([1 / gain], np.float32))
        readme = Path(folder) / "README.md"
        readme.write_text(TEXT.format(counts=COUNTS if network.gain_aware else ""))
        model = _describe(weights, tests, readme, gain_aware=network.gain_aware)
        with written_whole(target, beside=f".{target.stem}.part.zip") as temporary:
            save_bioimageio_package(model, output_path=temporary)


def _describe(
    weights: Path, tests: dict[str, Path], readme: Path, *, gain_aware: bool
) -> Any:
    """Return the description of a package, a `ModelDescr` of bioimageio.spec."""
    from bioimageio.spec.generic.v0_3 import Author, CiteEntry
    from bioimageio.spec.model import v0_5 as spec

    noisy = spec.InputTensorDescr(
        id=spec.TensorId("noisy"),
        description="Image in [0, 1]: 0 is no electrons, 1 about the brightest grey level.",
        axes=[
            spec.BatchAxis(),
            *(
                spec.SpaceInputAxis(
                    id=spec.AxisId(name),
                    size=spec.ParameterizedSize(min=SMALLEST, step=STRIDE),
                )
                for name in "yx"
            ),
            spec.ChannelAxis(channel_names=[spec.Identifier("intensity")]),
        ],
        data=spec.IntervalOrRatioDataDescr(type="float32"),
        test_tensor=spec.FileDescr(source=tests["noisy"]),
    )
    counts = spec.InputTensorDescr(
        id=spec.TensorId("counts"),
        description="Electrons that a pixel of 1 stands for, of each image.",
        axes=[spec.BatchAxis()],
        data=spec.IntervalOrRatioDataDescr(type="float32", range=(0, None)),
        test_tensor=spec.FileDescr(source=tests["counts"]),
    )
    denoised = spec.OutputTensorDescr(
        id=spec.TensorId("denoised"),
        description="The image without its shot noise.",
        axes=[
            spec.BatchAxis(),
            *(
                spec.SpaceOutputAxis(
                    id=spec.AxisId(name),
                    size=spec.SizeReference(
                        tensor_id=spec.TensorId("noisy"), axis_id=spec.AxisId(name)
                    ),
                )
                for name in "yx"
            ),
            spec.ChannelAxis(channel_names=[spec.Identifier("intensity")]),
        ],
        data=spec.IntervalOrRatioDataDescr(type="float32"),
        test_tensor=spec.FileDescr(source=tests["denoised"]),
    )
    return spec.ModelDescr(
        name=f"emdn {weights.stem}",
        description="Removes the shot noise of electron micrographs.",
        authors=[Author(name="emdn authors")],
        cite=[CiteEntry.model_validate(PAPER)],
        license="MIT",
        documentation=spec.FileDescr(source=readme),
        tags=["denoising", "electron-microscopy", "image-restoration", "2d"],
        version=spec.Version(__version__),
        inputs=[noisy, counts] if gain_aware else [noisy],
        outputs=[denoised],
        weights=spec.WeightsDescr(
            onnx=spec.OnnxWeightsDescr(source=weights, opset_version=17)
        ),
    )
