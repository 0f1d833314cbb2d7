"""Denoise electron micrographs by neural networks, after Ede and Beanland (2019).

The flow::

    file --io--> image --scaling--> [0, 1] --tiling--> tiles --networks--> tiles
         --tiling--> --scaling--> image
    counts --trust: adaptation--> weights of one's own, if they are better
    clean image --noise--> NoisyPair --data--> batches
         --networks, losses, training--> weights
    NoisyPair --benchmark: methods--> rows --benchmark: tables, plots--> table, figure

The rooms, a small core and eight wings, which import along the flow and never back::

    io/            micrographs in and out of files: source, metadata, tiff, vendor_tags,
                   mrc, raster, npy, arrays, compressed, hdf5, hdf5_layouts, zarr_store,
                   ome_zarr, rosetta, dm_tags, ser, raw_frames, child, write
    files          files that are written whole or not at all
    axes           which axes of an array are images, rows and columns
    scaling        one affine map per image, between its own units and [0, 1]
    noise          shot noise: dose ranges, noisy pairs, and the gain measured in an image
    detector/      what an electron does to a pixel, applied and measured: model,
                   periods, blocks, photon_transfer, spectra, variance, estimate,
                   counting
    whitening      noise that neighbours share, made white for a network, and back
    anscombe       the transform that makes shot noise even, and its exact unbiased inverse
    losses         the Huberised mean squared error, and its SSIM term
    tiling         an image cut into overlapping tiles, and put together again
    metrics        MSE, PSNR, SSIM
    spectrum       the power at each frequency
    defects        pixels that are no image, found and replaced
    levels         the grey levels by which an image is shown to a network, and back
    denoiser       Denoiser: any image, tile by tile, back in its own units
    plots          figures of images, errors, tilings, spectra and learning curves
    widgets        sliders that choose a picture
    console        progress bars, and a quiet TensorFlow
    cluster        the same call on one machine or on many
    large          images and stacks that do not fit in memory, in pieces
    provenance     where a result comes from, and whether it is the one that is wanted
    batch          many files, one after the other: what is written where
    cli            the command line
    specimens/     micrographs by formula, and real ones: fields, micrographs, scenes,
                   recorded
    networks/      the paper's network and others: layers, counts, ede2019, unet, dncnn,
                   inference, onnx_graph
    weights/       the networks that ship, their model cards, and what runs them: backends,
                   ncnn_graph
    data/          a folder of micrographs to pairs: corpus, augment, sampler, pipeline
    training/      a run in a folder: recipe, step, run, dry_run, log, checkpoints
    benchmark/     scores of methods: method, filters, peers, methods, instances, rows, run,
                   tables, error_maps, plots, figures
    trust/         what can be said without a truth: sound, thinning, risk,
                   resolution, consistency, uncertainty, dose, page, report,
                   adaptation, demo
    bridges/       networks in the forms that other programs read: bioimageio

>>> from emdn import Denoiser
>>> noise_remover = Denoiser()

Names are loaded on first use, so that ``import emdn`` alone costs next to nothing; ONNX
Runtime, or TensorFlow, is loaded when a network is first needed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emdn.denoiser import Denoiser
    from emdn.io import Metadata, MicrographError, read_micrograph, write_micrograph

__version__ = "0.1.0"
__all__ = [
    "Denoiser",
    "Metadata",
    "MicrographError",
    "read_micrograph",
    "write_micrograph",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the module that owns it."""
    if name not in __all__:
        raise AttributeError(f"module 'emdn' has no attribute {name!r}")
    module = "emdn.denoiser" if name == "Denoiser" else "emdn.io"
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
