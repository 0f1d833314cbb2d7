"""Denoise electron micrographs by neural networks, after Ede and Beanland (2019).

    file --io--> counts (H, W) --scaling--> [0, 1] --noise--> noisy/clean pair
         --data--> batches --layers, model--> network --losses, training--> weights
    any image --scaling--> --tiling.split--> tiles --network--> --tiling.merge-->
         --scaling back--> image --metrics, baselines, benchmark--> table --plots--> figure

>>> from emdn import Denoiser
>>> noise_remover = Denoiser()

Names are loaded on first use, so that ``import emdn`` alone costs next to nothing;
TensorFlow is loaded when a network is first needed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emdn.denoiser import Denoiser
    from emdn.io import Metadata, MicrographError, read_micrograph, write_micrograph

__version__ = "0.1.0"
__all__ = [
    "Denoiser",
    "Metadata",
    "MicrographError",
    "read_micrograph",
    "write_micrograph",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the module that owns it."""
    if name not in __all__:
        raise AttributeError(f"module 'emdn' has no attribute {name!r}")
    module = "emdn.denoiser" if name == "Denoiser" else "emdn.io"
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
