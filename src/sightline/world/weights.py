"""Where the shipped tiny models lie: `world:base`, `world:ceiling`, and the contrastive judge `world:clip`."""

from pathlib import Path

FOLDER = Path(__file__).parent / "models"
NAMES = ("base", "ceiling")
"""What answers: able and badly taught, and before that."""
JUDGES = ("clip",)
"""What only says how well a text fits a picture (`sightline.models.contrast`); it cannot be trained here."""


def resolve(path: str) -> str:
    """The folder of a shipped model for "world:NAME"; any other path as it is."""
    if not path.startswith("world:"):
        return path
    name = path.removeprefix("world:")
    if name not in (*NAMES, *JUDGES):
        known = ", ".join(f"world:{name}" for name in (*NAMES, *JUDGES))
        raise ValueError(f"there is no embedded model {path!r}; there are {known}")
    return str(FOLDER / name)
