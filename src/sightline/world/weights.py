"""Where the shipped tiny models lie: `world:base` (able and badly taught) and `world:ceiling` (before that)."""

from pathlib import Path

FOLDER = Path(__file__).parent / "models"
NAMES = ("base", "ceiling")


def resolve(path: str) -> str:
    """The folder of a shipped model for "world:NAME"; any other path as it is."""
    if not path.startswith("world:"):
        return path
    name = path.removeprefix("world:")
    if name not in NAMES:
        raise ValueError(f"model.path: there is no embedded model {path!r}; there are world:base and world:ceiling")
    return str(FOLDER / name)
