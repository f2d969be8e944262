"""The built-in rewards, imported together so that their names can be found."""

import importlib

ROOMS = ("detection", "grounding", "answers", "formulas", "safety", "shaping", "models")


def load_builtin() -> None:
    """Import every module that registers rewards."""
    for room in ROOMS:
        importlib.import_module(f"sightline.rewards.{room}")
