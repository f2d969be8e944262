"""A policy for reading: models that answer and are scored, while nothing is trained."""

from pathlib import Path

from sightline.models.forward import Policy
from sightline.models.load import Loaded
from sightline.models.vision import Shelf

KEPT_BYTES = 2**26


def reading_policy(loaded: Loaded, *, keep_batch: int = 64, shelf: Path | None = None) -> Policy:
    """The model in its own arithmetic, its pictures encoded `keep_batch` at a time and kept for a while.

    In the folder `shelf` they stay for other models with the same tower and projector.
    """
    policy = Policy(
        loaded.model, loaded.family, autocast=loaded.autocast, keep_batch=keep_batch, keep_feature_bytes=KEPT_BYTES
    )
    if shelf is not None:
        policy.vision.shelf = Shelf(shelf, loaded.model, loaded.family, dtype=loaded.dtype)
    return policy
