"""Every mistake in a recipe as one line: where it was written, the path of the key, what is wrong, a cure.

Owns the wording. Does not know how recipes are read and merged.
"""

import re
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sightline.bounded import cut
from sightline.config.elsewhere import KEYS, KINDS
from sightline.config.schema import Recipe, branches, kinds_of, recipe_keys
from sightline.registry import did_you_mean

_WANTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text, in quotes if it looks like something else",
    "tuple": "a list, such as [one, two]",
    "model": "a block of keys",
    "finite": "a finite number",
}
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


class ConfigError(ValueError):
    """A recipe that cannot be run; its text is one line: `x.yaml: objective.bta: unknown key; ...`."""


def first_mistake(error: ValidationError, root: type[BaseModel] = Recipe) -> tuple[tuple[str, ...], str]:
    """The path of the first mistake in a `root` and its sentence; further ones are named by their paths."""
    mistakes: dict[tuple[str, ...], tuple[ErrorDetails, type[BaseModel]]] = {}
    found = sorted(error.errors(include_url=False), key=lambda details: details["type"] == "missing")
    for details in found:  # what is missing comes last: a misspelt key is why
        path, block = _follow(details["loc"], root)
        if details["type"].startswith("union_tag"):
            path = (*path, "kind")
        mistakes.setdefault(path, (details, block))
    (path, (details, block)), *others = mistakes.items()
    entry = "".join(f"entry {part + 1} " for part in details["loc"] if isinstance(part, int))
    sentence = entry + _sentence(details, path, block, root)
    path = tuple(cut(part) for part in path)
    if others:
        names = ", ".join(".".join(map(cut, other)) for other, _ in others[:3])
        sentence += f" (and {len(others)} more: {names}{', ...' if len(others) > 3 else ''})"
    return path, sentence


def _follow(location: tuple[str | int, ...], root: type[BaseModel]) -> tuple[tuple[str, ...], type[BaseModel]]:
    """The path as the user wrote it (without the tags of unions), and the innermost block on it."""
    path: list[str] = []
    block = root
    choices: list[type[BaseModel]] = []
    for part in location:
        chosen = [choice for choice in choices if part in kinds_of(choice)]
        choices = []
        if chosen:
            block = chosen[0]
        elif isinstance(part, str):
            path.append(part)
            below = branches(block.model_fields[part]) if part in block.model_fields else []
            block, choices = (below[0], []) if len(below) == 1 else (block, below)
    return tuple(path), block


def _sentence(details: ErrorDetails, path: tuple[str, ...], block: type[BaseModel], root: type[BaseModel]) -> str:
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        inner = tuple(value) if isinstance(value, dict) and len(value) == 1 else ()
        return f"unknown key{_cure_for_key(path, block, root, inner)}"
    if kind == "missing":
        return "is missing; give it a value"
    if kind == "union_tag_not_found":
        known = [name for branch in branches(block.model_fields[path[-2]]) for name in kinds_of(branch)]
        return f"is missing; use one of {', '.join(known)}"
    if kind == "union_tag_invalid":
        return _no_choice(context["tag"], context["expected_tags"])
    if kind == "literal_error":
        return _no_choice(value, context["expected"])
    if kind == "value_error":
        return str(context["error"])
    return _out_of_bounds(kind, value, context)


def _out_of_bounds(kind: str, value: Any, context: dict[str, Any]) -> str:
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        return f"is {_shown(value)}; give {words} {context[bound]:g}"
    if kind in ("too_short", "string_too_short"):
        return "is empty; give at least one"
    if kind == "too_long":
        return f"has {context['actual_length']} entries; give {context['max_length']}"
    if kind == "string_pattern_mismatch":
        return f"is {_shown(value)}; use letters, digits, dots, dashes and underscores, a letter or digit first"
    return f"is {_shown(value)}; give {_WANTED.get(kind.partition('_')[0], 'another value')}"


def _cure_for_key(
    path: tuple[str, ...], block: type[BaseModel], root: type[BaseModel], inner: tuple[str, ...] = ()
) -> str:
    """What others call it, else a close key of the block, the same key in another block, or the keys that there are.

    `inner` is the only key below an unknown block.
    """
    known = KEYS.get(".".join([*path, *inner][-2:])) or KEYS.get(path[-1])
    if known is not None and known in keys_of(root) and known != ".".join(path):
        return f"; did you mean {known}?"
    cure = did_you_mean(path[-1], block.model_fields)
    elsewhere = [key for key, _ in recipe_keys(root) if key.rpartition(".")[2] == path[-1]]
    if ".".join(path) in elsewhere:
        kinds = kinds_of(block)
        return f" for {f'kind {kinds[0]}' if len(kinds) == 1 else 'this kind'}; remove it, or change the kind"
    return cure if "did you mean" in cure or not elsewhere else f"; did you mean {elsewhere[0]}?"


def keys_of(root: type[BaseModel]) -> set[str]:
    """All dotted keys, and the blocks around them."""
    keys = [key for key, _ in recipe_keys(root)]
    return {".".join(key.split(".")[:length]) for key in keys for length in range(1, key.count(".") + 2)}


def _no_choice(value: Any, quoted: str) -> str:
    choices = re.findall(r"'([^']*)'", quoted)
    nearest = KINDS.get(str(value).lower())
    if nearest is not None and nearest[0] in choices:
        return f"is {_shown(value)}, which is not here; {nearest[0]} {nearest[1]}"
    guess = did_you_mean(str(value), choices)
    return f"is {_shown(value)}{guess.replace('known are', 'use one of')}"


def _shown(value: Any) -> str:
    """The value as one would write it in YAML, cut short."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
