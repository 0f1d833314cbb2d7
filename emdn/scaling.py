"""One affine map per image, between its own units and the [0, 1] of the network.

An image is scaled once, as a whole. The original scaled each tile by its own extremes,
which ties a tile's brightness to its content and makes seams.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scaling:
    """The map `(image - offset) / span`, and the way back.

    Parameters
    ----------
    offset : float
        Value that becomes 0, in the image's units.
    span : float
        Range of grey values that becomes 1; 0 for a constant image, which has no range.
    """

    offset: float
    span: float

    @classmethod
    def of_range(cls, image: NDArray) -> Self:
        """Take the image's smallest value to 0 and its largest to 1 (section 3.1).

        Examples
        --------
        >>> Scaling.of_range(np.array([[2.0, 4.0], [6.0, 10.0]]))
        Scaling(offset=2.0, span=8.0)
        """
        low, high = float(image.min()), float(image.max())
        return cls(low, high - low)

    @classmethod
    def fit(cls, image: NDArray) -> Self:
        """Like `of_range`, but deaf to single pixels.

        The ends are the darkest and the brightest level that two neighbours in a row
        share, so a hot or a dead pixel, which has no such neighbour, changes nothing.
        Such a pixel then lies outside [0, 1]. Where no two levels are shared, as in a
        checkerboard or around a single bright pixel on an even ground, the ends are those
        of `of_range`.

        Parameters
        ----------
        image : (H, W) array
            Finite values.

        Examples
        --------
        >>> image = np.array([[2.0, 2.0], [10.0, 10.0], [5.0, 1e6]])
        >>> Scaling.fit(image)
        Scaling(offset=2.0, span=8.0)
        """
        values = image.ravel()
        if values.size < 2:
            return cls.of_range(image)
        low = float(np.maximum(values[:-1], values[1:]).min())
        high = float(np.minimum(values[:-1], values[1:]).max())
        # Where no two neighbours are alike, as in a checkerboard, low lies above high.
        return cls(low, high - low) if high > low else cls.of_range(image)

    def apply(self, image: NDArray) -> NDArray[np.float32]:
        """Return the scaled image; a constant image becomes 0.5 everywhere."""
        if self.span == 0:
            return np.full(image.shape, 0.5, np.float32)
        return ((_wide(image) - self.offset) / self.span).astype(np.float32)

    def invert(self, image: NDArray) -> NDArray[np.float32]:
        """Return a scaled image to the units it came from."""
        return (_wide(image) * self.span + self.offset).astype(np.float32)


def to_unit(image: NDArray) -> NDArray[np.float32]:
    """Stretch an image to [0, 1] by its own range; a constant image becomes 0.5.

    Examples
    --------
    >>> print(to_unit(np.array([[2.0, 4.0], [6.0, 10.0]])))
    [[0.   0.25]
     [0.5  1.  ]]
    """
    return Scaling.of_range(image).apply(image)


def _wide(image: NDArray) -> NDArray:
    """Widen half precision, in which the difference of two levels may overflow."""
    return image.astype(np.float32) if image.dtype == np.float16 else image
