"""Names for functions: the catalogue of built-in names, registration, look-up with "did you mean".

Owns the list of names by kind, which recipes are checked against before anything heavy is imported,
and the way to a user's own function ("module:function").
Does not know what is registered: rooms above call `register`, and build imports them before it calls `find`.
"""

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

_CATALOGUE: dict[str, tuple[str, ...]] = {
    "objective": (
        "sft",
        "dpo",
        "ranking",
        "grpo",
        "dr_grpo",
        "dapo",
        "gspo",
        "cispo",
        "rloo",
        "reinforce",
        "reinforce_pp",
        "ppo",
    ),
    "task": ("detect", "refer", "count", "exist", "describe", "read", "refuse"),
    "annotator": ("person", "weak_judge", "rules"),
    "reference": ("none", "adapter_off", "copy", "cached"),
    "split": ("train", "validation", "test", "pairs", "crowd", "canvas", "ground", "corrupt"),
    "view": ("image",),
    "reward": (
        "vision_r1",
        "rec_iou",
        "map",
        "od_length",
        "visual_rft",
        "box_f1",
        "count",
        "yes_no",
        "choice",
        "number",
        "text_distance",
        "point_in_box",
        "math",
        "hallucination",
        "refusal",
        "format",
        "think_answer",
        "length",
        "overlong",
        "repetition",
        "learned",
        "clip",
        "judge",
    ),
}
_REGISTERED: dict[tuple[str, str], Callable[..., Any]] = {}


def catalogue() -> dict[str, list[str]]:
    """The built-in names by kind, known without importing what they stand for."""
    return {kind: list(names) for kind, names in _CATALOGUE.items()}


def register(kind: str, name: str) -> Callable[[Function], Function]:
    """Decorator that gives a function its name: `@register("task", "count")`."""
    assert kind in _CATALOGUE, f"kind {kind!r} is not in the catalogue"

    def keep(function: Function) -> Function:
        other = _REGISTERED.get((kind, name))
        if other is not None and _full_name(other) != _full_name(function):
            problem = f"{kind} {name!r} is already {_full_name(other)}"
            raise ValueError(f"{problem}; give {_full_name(function)} another name")
        _REGISTERED[kind, name] = function
        return function

    return keep


def registered(kind: str) -> list[str]:
    """The names of this kind whose room has been imported, sorted."""
    return sorted(name for other, name in _REGISTERED if other == kind)


def find(kind: str, name: str) -> Callable[..., Any]:
    """The function of that name, or the user's own when the name reads "module:function"."""
    if (kind, name) in _REGISTERED:
        return _REGISTERED[kind, name]
    if ":" in name:
        return _users_own(kind, name)
    check_name(kind, name)
    raise AssertionError(f"{kind} {name!r} is built in, but the room that registers it was not imported")


def check_name(kind: str, name: str) -> None:
    """Refuse a name that is neither built in nor registered nor "module:function"; imports nothing."""
    known = [*_CATALOGUE[kind], *registered(kind)]
    if name not in known and ":" not in name:
        raise ValueError(f"{kind} {name!r} is unknown{did_you_mean(name, known)}")


def check_options(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse options that the function does not take; options are its keyword-only parameters."""
    parameters = inspect.signature(function).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            cure = did_you_mean(option, known) if known else "; it takes none, so remove it"
            raise ValueError(f"{_full_name(function)} has no option {option!r}{cure}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error: "; did you mean beta?", or the known names when none is close."""
    names = list(dict.fromkeys(known))
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known are {', '.join(names)}" if names else ""


def _users_own(kind: str, name: str) -> Callable[..., Any]:
    module_name, _, attribute = name.partition(":")
    with _current_folder_importable():
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise  # The user's module was found; something that it imports is missing.
            cure = "start where its file lies, or install it"
            raise ValueError(f"{kind} {name!r}: there is no module {module_name!r}; {cure}") from error
    members = vars(module)
    if attribute not in members:
        functions = [key for key, value in members.items() if inspect.isfunction(value)]
        cure = did_you_mean(attribute, functions)
        raise ValueError(f"{kind} {name!r}: {module_name} has no {attribute!r}{cure}")
    if not callable(members[attribute]):
        raise ValueError(f"{kind} {name!r}: {attribute} is no function; name a function of {module_name}")
    return members[attribute]


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.append(folder)  # At the end: a user's file never hides an installed module.
    try:
        yield
    finally:
        sys.path.remove(folder)


def _full_name(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
