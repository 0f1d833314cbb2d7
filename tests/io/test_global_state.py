"""Reading touches nothing that others see: loggers, handlers, filters, descriptors."""

import logging
import os
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import tifffile
from helpers.formats import ALL_BUILDERS, STACK, checked

from emdn.io import MicrographError, read_micrograph

FILES, READERS = 200, 8
LIBRARIES = ("", "tifffile", "rsciio", "mrcfile", "imagecodecs", "imageio", "PIL", "h5py")


def write_files(folder):
    """Write 200 files of every format, good and damaged in turn."""
    good = {}
    for name, build in ALL_BUILDERS.items():
        build(folder / name, STACK)
        good[name] = (folder / name).read_bytes()
    two = folder / "two.tif"  # a page that is lost, which tifffile tells to its log
    tifffile.imwrite(two, STACK, metadata=None, contiguous=False)
    good["two.tif"] = two.read_bytes()
    paths = []
    for number in range(FILES):
        name = sorted(good)[number // 2 % len(good)]
        damaged = number % 2 == 1
        path = folder / f"{number:03} {'bad' if damaged else 'good'} {name}"
        end = len(good[name]) * (55 + number % 40) // 100 if damaged else None
        path.write_bytes(good[name][:end])
        paths.append(path)
    return paths


def state():
    """Return what of the process reading must leave alone."""
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    return (
        [
            (log.level, log.disabled, log.propagate, list(log.handlers), list(log.filters))
            for log in loggers
        ],
        list(warnings.filters),
        warnings.showwarning,
        list(sys.path),
        dict(os.environ),
        sys.stdout,
        sys.stderr,
        os.stat(2),
    )


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_eight_threads_that_read_leave_a_ninth_alone(tmp_path):
    """The ninth logs to tifffile and warns, and sees all of it and no exception."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        told = read_beside_a_ninth(tmp_path)
    texts = [str(each.message) for each in warned]
    assert texts.count("of the ninth") == told


def read_beside_a_ninth(tmp_path):
    """Read 200 files in eight threads, and return how often the ninth has told."""
    paths = write_files(tmp_path)
    for path in paths[: len(ALL_BUILDERS) * 2]:  # so that all modules are imported
        read(path, {})
    before, descriptors = state(), open_descriptors()
    results, errors, seen, done = {}, [], [], threading.Event()
    record = logging.Handler()
    record.emit = lambda each: seen.append(each.getMessage())
    log = logging.getLogger("tifffile")

    def reader(part):
        try:
            for path in part:
                read(path, results)
        except BaseException as error:  # noqa: BLE001 - told at the end
            errors.append(error)

    told = 0

    def ninth():
        nonlocal told
        try:
            while not done.wait(0.001):
                log.error("of the ninth")
                warnings.warn("of the ninth", UserWarning, stacklevel=1)
                told += 1
        except BaseException as error:  # noqa: BLE001 - told at the end
            errors.append(error)

    log.addHandler(record)
    threads = [
        threading.Thread(target=reader, args=(paths[n::READERS],)) for n in range(READERS)
    ]
    other = threading.Thread(target=ninth)
    for thread in (other, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    other.join()
    log.removeHandler(record)

    assert errors == []
    assert state() == before
    # HDF5 is read in processes that wait for more, two pipes each, one for each reader.
    assert open_descriptors() <= descriptors + 2 * READERS
    assert seen.count("of the ninth") == told > 0
    assert len(results) == FILES
    for path in paths:
        if " bad " not in path.name:
            assert results[path] is True, results[path]
        elif results[path] is not True:
            checked(results[path], path)
    faults = [path for path in paths if results[path] is not True]
    assert len(faults) > 0.4 * FILES
    return told


def read(path, results):
    """Note a fault's message, or True where the pixels are those of the whole file."""
    try:
        image, _ = read_micrograph(path)
    except MicrographError as fault:
        results[path] = str(fault)
    else:
        lossy = path.suffix in (".jpg", ".jpeg")
        expected = STACK[0] if image.ndim == 2 else STACK
        same = np.array_equal(image, expected.astype(image.dtype))
        results[path] = lossy or bool(same) or "other pixels; look at them"
