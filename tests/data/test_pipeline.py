"""Batches hold the sampler's pairs in order, whoever makes them."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from emdn.data.augment import Augmentation
from emdn.data.pipeline import pairs
from emdn.data.sampler import Sampler


def batches(sampler, batch, number, **options):
    """Return images, (number, N, H, W, 1) each, and gains of the first batches."""
    made = pairs(sampler, batch, **options).take(number).as_numpy_iterator()
    return [np.stack(each) for each in zip(*made, strict=True)]


def assert_batches_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("changes", [{}, {"scenes": 0.5, "augmentation": Augmentation()}])
def test_batches_hold_the_samplers_pairs_in_order(changes, sampler):
    sampler = Sampler(sampler.records, replace(sampler.config, **changes))
    noisy, clean, gain = batches(sampler, 3, 4)
    assert noisy.shape == clean.shape == (4, 3, 16, 16, 1)
    assert gain.shape == (4, 3)
    assert {each.dtype for each in (noisy, clean, gain)} == {np.dtype(np.float32)}
    flat = noisy.reshape(12, 16, 16), clean.reshape(12, 16, 16), gain.ravel()
    for number, pair in enumerate(zip(*flat, strict=True)):
        noisy, clean, gain = sampler.pair(number)
        assert_batches_equal(pair, (noisy, clean, np.float32(gain)))


def test_a_stream_goes_on_where_it_would_have_been(sampler):
    later = batches(sampler, 3, 2, first=4)
    assert_batches_equal(later, [each[4:] for each in batches(sampler, 3, 6)])


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_share_every_batch(workers, sampler):
    """In each batch, one's pairs come before the next one's."""
    whole = batches(sampler, 6, 4, first=2)
    shares = [
        batches(sampler, 6, 4, first=2, share=(worker, workers))
        for worker in range(workers)
    ]
    assert shares[0][0].shape == (4, 6 // workers, 16, 16, 1)
    joined = [np.concatenate(parts, axis=1) for parts in zip(*shares, strict=True)]
    assert_batches_equal(joined, whole)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_number_of_threads_does_not_change_the_batches(threads, sampler):
    expected = batches(sampler, 4, 5)
    assert_batches_equal(batches(sampler, 4, 5, threads=threads), expected)


@pytest.fixture(params=[False, True])
def deterministic(request):
    """Whether TensorFlow's operations must be deterministic; it goes back afterwards."""
    from tensorflow.python.framework import config  # no public function ends it

    before = config.is_op_determinism_enabled()
    switch = {True: config.enable_op_determinism, False: config.disable_op_determinism}
    switch[request.param]()
    yield
    switch[before]()


@pytest.mark.usefixtures("deterministic")
def test_pairs_are_made_in_several_threads(sampler, monkeypatch):
    """Two must be under way at once, or the barrier breaks."""
    barrier = threading.Barrier(2, timeout=120)  # seconds, on a busy machine
    pair = sampler.pair
    monkeypatch.setattr(sampler, "pair", lambda number: (barrier.wait(), pair(number))[1])
    noisy, *_ = batches(sampler, 2, 1, threads=2)
    assert noisy.shape == (1, 2, 16, 16, 1)
    barrier.abort()  # for those that are made ahead


def test_batches_that_cannot_be_shared_are_refused(sampler):
    with pytest.raises(ValueError, match="batch must be a multiple of 2 workers, got 3"):
        pairs(sampler, 3, share=(0, 2))
