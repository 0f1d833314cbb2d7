"""The paper's loss, a mean squared error that bends (eq. 2), and its SSIM term."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="emdn")
class HuberisedMSE(keras.losses.Loss):
    """`m` where `m < 1`, otherwise the square root of `m`, with `m = 1000 MSE` (eq. 2).

    The loss is continuous at the knee, but its slope halves there, so that a batch with an
    especially noisy image does not throw the weights about. It bends for each image on
    its own, as in the original, where each replica saw one image.

    Parameters
    ----------
    factor : float
        Factor of the mean squared error; 1 / factor is the MSE at the knee. The default is
        the paper's.
    """

    def __init__(
        self, factor: float = 1000.0, *, name: str = "huberised_mse", **kwargs: Any
    ):
        super().__init__(name=name, **kwargs)
        self.factor = factor

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return one loss per image, shape (N,), for images of shape (N, H, W, 1)."""
        error: Any = ops.mean(ops.square(y_true - y_pred), axis=(1, 2, 3))
        error = self.factor * error
        # The root has an infinite slope at 0; maximum keeps it out of the branch that is
        # not taken, where `where` would turn it into a gradient of NaN (under XLA, which
        # Keras uses on GPUs; TensorFlow's own kernels happen to return 0).
        return ops.where(error < 1.0, error, ops.sqrt(ops.maximum(error, 1.0)))

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the loss from a saved model."""
        return {**super().get_config(), "factor": self.factor}


def ssim_loss(y_true: Any, y_pred: Any) -> Any:
    """Return 1 minus the SSIM of each image, shape (N,), for shape (N, H, W, 1) in [0, 1].

    Windows are Gaussian, of 11 x 11 pixels with a deviation of 1.5, as in the original's
    training code. Its scores (`emdn.metrics.ssim`) take uniform windows instead.
    """
    import tensorflow as tf  # which alone has it

    return 1.0 - tf.image.ssim(y_true, y_pred, max_val=1.0)
