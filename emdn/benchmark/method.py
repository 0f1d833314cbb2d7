"""What a method of denoising is."""

from collections.abc import Callable
from typing import Any, Literal

from numpy.typing import NDArray

PaperDose = Literal["low", "ordinary"]  # the dose ranges that something is scored on
Image = NDArray[Any]  # (H, W), of real numbers
Method = Callable[[Image, float], Image]


def blind(denoise: Callable[[Image], Image]) -> Method:
    """Return a function of an image alone as a method, which ignores the counts.

    Examples
    --------
    >>> import numpy as np
    >>> blind(np.sqrt)(np.array([[0.25]]), 0.01)
    array([[0.5]])
    """
    return lambda noisy, _: denoise(noisy)
