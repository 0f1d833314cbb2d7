"""What programs that own their terminal do: progress bars, and a quiet TensorFlow."""

import os
from importlib import import_module
from pathlib import Path
from types import ModuleType

STDERR = 2  # the file descriptor that TensorFlow's C++ code writes to


def load_tensorflow() -> ModuleType:
    """Import TensorFlow without the messages that it prints whatever its log level.

    For programs that own their standard error; a library leaves that to its user.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept = os.dup(STDERR)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), STDERR)
    try:
        return import_module("tensorflow")
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)
