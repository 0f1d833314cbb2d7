"""The Huberised MSE is equation 2: exact values, slopes, saving; its SSIM term is SSIM."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from skimage.metrics import structural_similarity

from emdn.losses import HuberisedMSE, ssim_loss


def images_of(*errors):
    """Return truths of zeros and predictions whose MSEs are the given ones."""
    roots = np.sqrt(np.array(errors, np.float64)).reshape(-1, 1, 1, 1)
    signs = np.where(np.indices((4, 6)).sum(axis=0) % 2, 1, -1)[..., np.newaxis]
    predictions = (roots * signs).astype(np.float32)
    return np.zeros_like(predictions), predictions


def losses(*errors, factor=1000.0):
    return HuberisedMSE(factor).call(*map(tf.constant, images_of(*errors))).numpy()


def gradient_of_loss(truth, prediction):
    with tf.GradientTape() as tape:
        tape.watch(prediction)
        loss = HuberisedMSE()(truth, prediction)
    return tape.gradient(loss, prediction)


compiled_gradient_of_loss = tf.function(gradient_of_loss, jit_compile=True)


def gradient(error):
    return gradient_of_loss(*map(tf.constant, images_of(error))).numpy()


def slope(m):
    """Return the derivative of the loss by m = 1000 MSE."""
    truth, prediction = map(tf.constant, images_of(1.0))
    m = tf.constant(m)
    with tf.GradientTape() as tape:
        tape.watch(m)
        loss = HuberisedMSE()(truth, prediction * tf.sqrt(m / 1000))
    return tape.gradient(loss, m).numpy()


@pytest.mark.parametrize(
    ("mse", "loss"),
    [(0, 0), (2.5e-4, 0.25), (5e-4, 0.5), (1e-3, 1), (4e-3, 2), (9e-3, 3), (0.1, 10)],
)
def test_loss_is_m_below_the_knee_and_its_root_above(mse, loss):
    assert losses(mse) == pytest.approx(loss, rel=1e-5)


def test_the_factor_moves_the_knee():
    assert losses(0.01, 0.04, 0.16, factor=25.0) == pytest.approx([0.25, 1, 2], rel=1e-5)


def test_the_loss_is_continuous_at_the_knee():
    below, above = losses(0.9999e-3, 1.0001e-3)
    assert 0 < above - below < 2e-4


def test_the_slope_halves_at_the_knee():
    assert slope(0.999) == pytest.approx(1, rel=1e-4)
    assert slope(1.001) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("m", [4.0, 100.0])
def test_above_the_knee_the_slope_is_that_of_the_root(m):
    assert slope(m) == pytest.approx(0.5 / np.sqrt(m), rel=1e-4)


# XLA keeps 0 x infinity of the branch not taken; TensorFlow's own kernels hide it.
@pytest.mark.parametrize("function", [gradient_of_loss, compiled_gradient_of_loss])
@pytest.mark.parametrize("mse", [0, 1e-30, 0.999e-3, 1e-3, 1.001e-3, 1.0, 1e30])
def test_gradients_are_finite(mse, function):
    assert np.isfinite(function(*map(tf.constant, images_of(mse)))).all()


def test_the_gradient_vanishes_where_the_prediction_is_right():
    np.testing.assert_array_equal(gradient(0), np.zeros((1, 4, 6, 1)))


def test_above_the_knee_the_gradient_does_not_grow_with_the_error():
    """So one very noisy image does not throw the weights about."""
    mild, wild = (np.abs(gradient(error)).sum() for error in (0.01, 100.0))
    assert wild == pytest.approx(mild, rel=1e-4)


def test_the_loss_bends_for_each_image_on_its_own():
    each = losses(0.1e-3, 100e-3)
    assert each == pytest.approx([0.1, 10], rel=1e-5)
    batch = HuberisedMSE()(*images_of(0.1e-3, 100e-3)).numpy()
    assert batch == pytest.approx(5.05, rel=1e-5)  # the root of the mean would be 7.07


def test_truth_and_prediction_may_change_places(rng):
    first, second = rng.uniform(size=(2, 3, 8, 8, 1)).astype(np.float32)
    loss = HuberisedMSE()
    assert loss(first, second).numpy() == loss(second, first).numpy()


def test_the_configuration_rebuilds_the_loss():
    loss = HuberisedMSE(factor=50.0, name="mine", reduction="sum")
    rebuilt = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(rebuilt, HuberisedMSE)
    assert rebuilt.get_config() == loss.get_config()
    assert (rebuilt.factor, rebuilt.name, rebuilt.reduction) == (50.0, "mine", "sum")
    images = images_of(0.1e-3, 100e-3)
    assert rebuilt(*images).numpy() == loss(*images).numpy()


def test_one_step_of_fit_goes_downhill(rng):
    """A one-weight network learns that the truth is half of what it sees."""
    noisy = rng.uniform(size=(4, 8, 8, 1)).astype(np.float32)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(1, 1, kernel_initializer="ones")]
    )
    model.compile(keras.optimizers.SGD(1e-3), HuberisedMSE(), jit_compile=False)
    first, second = model.fit(noisy, noisy / 2, epochs=2, verbose=0).history["loss"]
    expected = losses(*np.mean((noisy / 2) ** 2, axis=(1, 2, 3))).mean()
    assert first == pytest.approx(expected, rel=1e-4)
    assert second < first


def alike(rng, amount, shape=(3, 24, 32, 1)):
    """Return images and others that are the same to some amount of noise, in [0, 1]."""
    images = rng.uniform(size=shape)
    others = np.clip(images + amount * rng.normal(size=shape), 0, 1)
    return images.astype(np.float32), others.astype(np.float32)


@pytest.mark.parametrize("amount", [0.01, 0.1, 1.0])
def test_the_ssim_term_is_1_minus_the_ssim_of_each_image(amount, rng):
    """As scikit-image has it, with the windows of the paper that defined it."""
    images, others = alike(rng, amount)
    losses = ssim_loss(tf.constant(images), tf.constant(others)).numpy()
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [
        1 - structural_similarity(*pair, data_range=1.0, **options)
        for pair in zip(images[..., 0], others[..., 0], strict=True)
    ]
    assert losses.shape == (3,)
    np.testing.assert_allclose(losses, expected, atol=1e-4)


def test_the_ssim_term_is_0_for_equal_images_and_grows_with_the_noise(rng):
    losses = [float(np.mean(ssim_loss(*alike(rng, each)))) for each in (0, 0.05, 0.2, 1)]
    assert losses[0] == pytest.approx(0, abs=1e-6)
    assert losses == sorted(losses)
    image, _ = alike(rng, 0)
    assert 1 < ssim_loss(image, 1 - image).numpy().min() < 2  # the opposite of alike


@pytest.mark.parametrize("amount", [0.0, 0.1])
def test_the_gradient_of_the_ssim_term_is_finite_and_goes_downhill(amount, rng):
    images, others = map(tf.constant, alike(rng, amount))
    with tf.GradientTape() as tape:
        tape.watch(others)
        losses = ssim_loss(images, others)
    gradient = tape.gradient(losses, others)
    assert np.isfinite(gradient).all()
    if amount:
        assert (ssim_loss(images, others - 0.1 * gradient) < losses).numpy().all()
