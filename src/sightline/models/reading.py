"""A policy for reading: models that answer and are scored, while nothing is trained."""

from sightline.models.forward import Policy
from sightline.models.load import Loaded

KEPT_BYTES = 2**26


def reading_policy(loaded: Loaded, *, keep_batch: int = 64) -> Policy:
    """The model in its own arithmetic, its pictures encoded `keep_batch` at a time and kept for a while."""
    return Policy(
        loaded.model, loaded.family, autocast=loaded.autocast, keep_batch=keep_batch, keep_feature_bytes=KEPT_BYTES
    )
