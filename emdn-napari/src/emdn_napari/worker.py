"""The network in a thread of its own, which tells how far it is and can be stopped."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from napari.qt.threading import WorkerBase, WorkerBaseSignals
from numpy.typing import ArrayLike, NDArray
from qtpy.QtCore import Signal

from emdn import Denoiser
from emdn.tiling import Tiling
from emdn.weights import Name, load

TILE, OVERLAP = 576, 32  # pixels, as `Denoiser` has them by default


class Cancelled(Exception):
    """The user wants no result any more."""


def denoise(
    image: ArrayLike, weights: Name, gain: float | None, advance: Callable[[float], None]
) -> NDArray[np.float32]:
    """Denoise an image or a stack, and tell after each few tiles how much is done.

    Parameters
    ----------
    image : (H, W) or (N, H, W) array
        Micrograph or stack, in any units.
    weights : {"auto", "compact", "low", "ordinary"}
        Network to use, see `emdn.Denoiser`.
    gain : float, optional
        What one electron adds to a pixel, in units of the image; measured if it is None.
    advance : callable
        Function of the share that is done, from 0 to 1. What it raises ends the work.
    """
    image, done, network = np.asarray(image), 0, load(weights, backend="onnx")
    margin = OVERLAP if max(image.shape[-2:], default=0) > TILE else 0
    tiles = len(Tiling.balanced(image.shape[-2:], size=TILE, overlap=margin))
    total = tiles * (len(image) if image.ndim == 3 else 1)

    def run(tiles: Any, gains: Any) -> Any:
        nonlocal done
        advance(done / total)
        done += len(tiles)
        return network.run(tiles, gains)

    noise_remover = Denoiser(
        replace(network, run=run), tile_size=TILE, overlap=OVERLAP, progress=False
    )
    denoised = noise_remover.denoise(image, gain=gain)
    advance(1.0)
    return denoised


class _Signals(WorkerBaseSignals):
    progressed = Signal(float)  # the share that is done


class DenoiseWorker(WorkerBase):
    """A thread that denoises one image or stack.

    Beside the signals of napari's workers it has ``progressed``, with the share that is
    done. ``quit`` stops it after the tiles at hand; then it returns nothing.

    Parameters
    ----------
    image, weights, gain
        As of `denoise`.
    """

    def __init__(self, image: ArrayLike, weights: Name, gain: float | None) -> None:
        super().__init__(SignalsClass=_Signals)
        self._told = image, weights, gain

    def work(self) -> NDArray[np.float32] | None:
        """Denoise; napari calls this in the thread."""
        try:
            return denoise(*self._told, self._advance)
        except Cancelled:
            return None

    def _advance(self, share: float) -> None:
        if self.abort_requested:
            raise Cancelled
        self.progressed.emit(share)
