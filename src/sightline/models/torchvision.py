"""A torchvision that was built for another torch, refused before transformers stumbles over it.

Nothing here needs torchvision; transformers takes it where it is installed. The one on PyPI is built for PyPI's torch
with CUDA, and beside PyTorch's CPU build it fails while it is imported.
"""

import importlib
from importlib import metadata
from importlib.util import find_spec

NAME = "torchvision"


def refuse_unfit_torchvision() -> None:
    """Raise ValueError with the cure when torchvision is installed and cannot be imported."""
    if find_spec(NAME) is None:
        return
    try:
        importlib.import_module(NAME)
    except (RuntimeError, ImportError, OSError, AttributeError) as error:
        ours, theirs = metadata.version("torch"), metadata.version(NAME)
        build = "cpu" if ours.endswith("+cpu") else "your CUDA version, such as cu130"
        raise ValueError(
            f"torchvision {theirs} does not fit torch {ours} ({error}); sightline does not need it: pip uninstall "
            f"torchvision, or take the build that belongs to your torch: pip install --force-reinstall --no-deps "
            f"torchvision --index-url https://download.pytorch.org/whl/{build}"
        ) from error
