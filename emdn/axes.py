"""Which axes of an array are images, rows and columns, where nothing names them."""

CHANNELS = 4  # at most, red, green, blue and opacity; no micrograph is that narrow


def colours_last(shape: tuple[int, ...]) -> bool:
    """Tell whether the last of three unnamed axes is one of colours.

    Axes are (images, H, W), as of a movie. Programs for photographs have (H, W, colours)
    instead, which as a stack would be images of 1 to 4 columns. Where the first axis is 1,
    it counts images: no photograph is a single row.

    Parameters
    ----------
    shape : tuple of int
        Of an array.

    Examples
    --------
    >>> colours_last((64, 96, 3)), colours_last((64, 96, 5)), colours_last((1, 96, 3))
    (True, False, False)
    """
    return len(shape) == 3 and shape[0] > 1 and shape[-1] <= CHANNELS
