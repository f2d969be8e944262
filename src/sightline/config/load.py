"""From files and flags to one recipe: read, merge left to right, put overrides on top, fill in what follows.

Two keys merge by more than "the later one wins": a block whose `kind` changes is replaced as a whole, and of
`train.epochs` and `train.steps` the later one drops the earlier one.
Owns the files and where each key came from. Does not know what the keys mean, save for what one key says
about another (`_fill_in`).
"""

import copy
import difflib
import importlib.util
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sightline.bounded import MAX_YAML, Unreadable, cut, parse_yaml, read_text
from sightline.config.mistakes import ConfigError, first_mistake
from sightline.config.rl import PolicyGradient
from sightline.config.schema import Recipe
from sightline.config.together import Contradiction, check_rewards
from sightline.registry import did_you_mean

COMMAND_LINE = "command line"

_Path = tuple[str, ...]
_EITHER_OR: dict[_Path, str] = {("train", "epochs"): "steps", ("train", "steps"): "epochs"}


def load_recipe(paths: Iterable[str | Path], overrides: Iterable[str] = ()) -> Recipe:
    """The resolved recipe of YAML files (or shipped names), merged left to right, with `a.b=value` on top."""
    return _checked(*read_merged(paths, overrides))


def read_merged(
    paths: Iterable[str | Path], overrides: Iterable[str] = ()
) -> tuple[dict[str, Any], Mapping[_Path, str], str]:
    """The values of YAML files (or shipped names) with overrides on top, who wrote each key, and the last file."""
    merged: dict[str, Any] = {}
    origins: dict[_Path, str] = {}
    source = COMMAND_LINE
    for path in paths:
        file = find_recipe(path)
        source = str(path) if Path(path).suffix else str(file)
        _merge(merged, read_yaml(file, source), (), source, origins)
    _merge(merged, override_tree(overrides), (), COMMAND_LINE, origins)
    return merged, origins, source


def make_recipe(values: Mapping[str, Any], *, source: str = "recipe") -> Recipe:
    """The resolved recipe of plain values, as `load_recipe` makes it of files."""
    return _checked(dict(values), {}, source)


def check_present(recipe: Recipe, *, source: str = "recipe") -> None:
    """Refuse a recipe whose files or trackers are not here; called before anything heavy is imported."""
    for key, files in (("files", recipe.data.files), ("validation_files", recipe.data.validation_files)):
        for name in files:
            if not Path(name).is_file():
                problem = "is a folder" if Path(name).is_dir() else "does not exist"
                raise ConfigError(f"{source}: data.{key}: {name} {problem}{_cure_for_file(Path(name))}")
    root = recipe.data.root
    if root is not None and not Path(root).is_dir():
        raise ConfigError(f"{source}: data.root: {root} is no folder; give the one that image paths start from")
    if recipe.model.quantise is not None and importlib.util.find_spec("bitsandbytes") is None:
        cure = "`pip install 'sightline[4bit]'` where a CUDA GPU is, or leave it out"
        raise ConfigError(f"{source}: model.quantise: bitsandbytes is not installed; {cure}")
    for tracker in recipe.tracking:
        if importlib.util.find_spec(tracker) is None:
            cure = f"`pip install {tracker}`, or leave it out"
            raise ConfigError(f"{source}: tracking: {tracker} is not installed; {cure}")


def check_trust(recipe: Recipe, trusted: bool, *, source: str, own_code: bool = True) -> None:
    """Refuse to run code that a recipe brings or names, unless whoever gives the command trusts it.

    With `own_code` module:function of the recipe may be run: it is the user's own, or nothing calls it.
    """
    cure = "give --trust-remote-code if you trust whoever wrote it"
    if recipe.model.trust_remote_code and not trusted:
        problem = f"{recipe.model.path} would run Python code of its own"
        raise ConfigError(f"{source}: model.trust_remote_code: {problem}; {cure}")
    if named_functions(recipe) and not own_code and not trusted:
        named = cut(named_functions(recipe)[0])
        raise ConfigError(f"{source}: rewards: {named} is code that the run folder names; {cure}")


def named_functions(recipe: Recipe) -> list[str]:
    """The module:function names of a recipe."""
    return [entry.name for entry in (*recipe.rewards, *recipe.monitors.held_out) if ":" in entry.name]


def names_code(recipe: Recipe) -> bool:
    """Whether going on from the run folder alone needs somebody's trust."""
    return recipe.model.trust_remote_code or bool(named_functions(recipe))


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain JSON values, in the order of the schema."""
    return recipe.model_dump(mode="json")


def resolved_yaml(recipe: Recipe) -> str:
    """The recipe as YAML with every key written out; loading it gives the same recipe."""
    return yaml.safe_dump(to_dict(recipe), sort_keys=False, allow_unicode=True)


def differences(values: Mapping[str, Any], others: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Where two recipes differ: "objective.beta is 0.2 and was 0.1"."""
    found = []
    for key in dict.fromkeys((*values, *others)):
        value, other = values.get(key), others.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            found += differences(value, other, f"{prefix}{key}.")
        elif value != other:
            found.append(f"{prefix}{key} is {_yaml_value(value)} and was {_yaml_value(other)}")
    return found


def as_begun(recipe: Recipe, begun: Recipe) -> Recipe:
    """The recipe, with what it leaves to the machine as it was settled when the run began."""
    model, train = recipe.model, recipe.train
    if model.dtype == "auto":
        model = model.model_copy(update={"dtype": begun.model.dtype})
    if train.one_thread_below == "auto":
        train = train.model_copy(update={"one_thread_below": begun.train.one_thread_below})
    return recipe.model_copy(update={"model": model, "train": train})


def recipe_folder() -> Path:
    """Where the shipped recipes lie: inside the installed package, or at the top of the repository."""
    package = Path(__file__).parents[1]
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parents[1] / "recipes"


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in recipe_folder().glob("*.yaml"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeHead:
    """What the opening comment of a recipe says."""

    what: str
    """What the recipe does, in a sentence."""
    commands: tuple[str, ...]
    """Command lines that make its files, and last the one that runs it."""


def recipe_head(name: str) -> RecipeHead:
    """What a shipped recipe does, and the commands that go with it."""
    comment = itertools.takewhile(lambda line: line.startswith("#"), find_recipe(name).read_text("utf-8").splitlines())
    lines = [line.removeprefix("#").strip() for line in comment]
    commands = [line for line in lines if line.startswith(("sightline ", "accelerate "))]
    return RecipeHead(what=lines[0], commands=tuple(line.replace(f"recipes/{name}.yaml", name) for line in commands))


def judge_names() -> list[str]:
    """Names of the shipped judges, which are no runs: `judges/NAME`."""
    return sorted(f"judges/{path.stem}" for path in (recipe_folder() / "judges").glob("*.yaml"))


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe, given by path or by shipped name."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = [*recipe_names(), *judge_names()]
    if str(name) in shipped:
        return recipe_folder() / f"{name}.yaml"
    if path.is_dir():
        is_run = (path / "recipe.yaml").is_file()
        cure = f"`sightline resume {name}` goes on with a run" if is_run else "name a file"
        raise ConfigError(f"{name}: is a folder, not a recipe; {cure}")
    if path.stem in recipe_names():
        raise ConfigError(f"{name}: no such file; did you mean {path.stem}, which is shipped?")
    beside = [str(file) for file in path.parent.glob("*.yaml")] if path.suffix else []
    raise ConfigError(f"{name}: no such recipe{did_you_mean(str(name), [*beside, *shipped])}")


def read_yaml(file: Path, source: str) -> dict[str, Any]:
    """The values of a YAML file of keys, strictly read."""
    try:
        values = parse_yaml(read_text(file, limit=MAX_YAML))
    except Unreadable as error:
        raise ConfigError(f"{source}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: holds no keys; `sightline recipes show dpo_world` prints a whole recipe")
    return values


def merge_blocks(base: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`new` laid over `base`, key by key, as recipes are merged; neither is touched."""
    merged = copy.deepcopy(dict(base))
    _merge(merged, new, (), "", {})
    return merged


def override_tree(overrides: Iterable[str]) -> dict[str, Any]:
    """Overrides as one nested block, so that a changed `kind` keeps what is given beside it."""
    tree: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.split(".")
        if not equals or not all(parts):
            cure = "write it as objective.beta=0.2"
            raise ConfigError(f"{COMMAND_LINE}: {cut(override)}: is neither a recipe nor KEY=VALUE; {cure}")
        block = tree
        for part in parts[:-1]:
            block = block.setdefault(part, {})
            if not isinstance(block, dict):
                raise ConfigError(f"{COMMAND_LINE}: {key}: an earlier flag gives {part} as a whole; keep one of them")
        try:
            block[parts[-1]] = parse_yaml(text)
        except Unreadable as error:
            shown = f"{cut(text)!r} is no value ({error.problem})"
            raise ConfigError(f"{COMMAND_LINE}: {cut(key)}: {shown}; {error.cure}") from error
    return tree


def _merge(base: dict[str, Any], new: Mapping[str, Any], path: _Path, source: str, origins: dict[_Path, str]) -> None:
    """Lay `new` over `base` in place, and note where each key came from."""
    for key, value in new.items():
        here = (*path, key)
        rival = _EITHER_OR.get(here)
        if rival is not None and value is not None and rival not in new:
            base.pop(rival, None)
        old = base.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and not _changes_kind(old, value):
            _merge(old, value, here, source, origins)
            continue
        base[key] = copy.deepcopy(value)
        for other in [other for other in origins if other[: len(here)] == here]:
            del origins[other]
        origins[here] = source


def _changes_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "kind" in old and "kind" in new and old["kind"] != new["kind"]


def _checked(values: dict[str, Any], origins: Mapping[_Path, str], source: str) -> Recipe:
    try:
        recipe = Recipe.model_validate(values)
        return _fill_in(recipe)
    except ValidationError as error:
        path, sentence = first_mistake(error)
    except Contradiction as error:
        path, sentence = error.path, error.sentence
    raise ConfigError(f"{origin_of(path, origins) or source}: {'.'.join(path)}: {sentence}")


def origin_of(path: _Path, origins: Mapping[_Path, str]) -> str | None:
    """Who wrote the key or, last, something below it; else who wrote the block around it."""
    below = [source for other, source in origins.items() if other[: len(path)] == path]
    around = [origins[path[:length]] for length in range(1, len(path)) if path[:length] in origins]
    return next(reversed(below or around), None)


def _fill_in(recipe: Recipe) -> Recipe:
    """Defaults that follow from other keys, written out; contradictions refused."""
    out = recipe.out if recipe.out is not None else f"runs/{recipe.name}"
    train = recipe.train
    if train.epochs is None and train.steps is None:
        train = train.model_copy(update={"epochs": 1.0})
    if recipe.data.aspect is not None and (recipe.rewards or recipe.objective.kind not in ("dpo", "sft")):
        sentence = "is read by dpo and sft on data alone; remove it (a reward model names aspects in attributes)"
        raise Contradiction("data.aspect", sentence)
    _check_model(recipe)
    check_rewards(recipe)
    if recipe.objective.kind == "ranking" and not recipe.data.validation_files:
        sentence = "are missing, and ratings are calibrated on comparisons that were not trained on; hold some out"
        raise Contradiction("data.validation_files", sentence)
    kind = _reference_kind(recipe)
    if recipe.reference.cache is not None and kind != "cached":
        raise Contradiction("reference.cache", f"is only used by kind cached, and the kind is {kind}; remove one")
    cache = recipe.reference.cache or f"{out}/reference" if kind == "cached" else None
    reference = recipe.reference.model_copy(update={"kind": kind, "cache": cache})
    return recipe.model_copy(update={"out": out, "train": train, "reference": reference})


def _check_model(recipe: Recipe) -> None:
    """Features are kept of a frozen tower alone; weights in four bits stay as they are, whole, beside adapters."""
    if recipe.model.features_folder is not None and (recipe.model.train_tower or recipe.model.train_projector):
        sentence = "keeps features of a frozen tower and projector, and one of them is trained; leave it out"
        raise Contradiction("model.features_folder", sentence)
    if recipe.model.quantise is None:
        return
    if recipe.model.train == "full" or recipe.model.dtype == "float32":
        raise Contradiction(
            "model.quantise", "trains adapters in bfloat16 alone; set model.train: lora, and leave model.dtype out"
        )
    if recipe.train.shard:
        raise Contradiction("train.shard", "cuts no weights of four bits; leave one of them out")


def _reference_kind(recipe: Recipe) -> str:
    kind, model = recipe.reference.kind, recipe.model
    beside = [key for key in ("train_tower", "train_projector") if vars(model)[key]]
    only_adapters = model.train == "lora" and not beside
    objective = recipe.objective
    from_rewards = bool(recipe.rewards)
    compares, why = objective.kind == "dpo", f"{objective.kind} compares with nothing"
    if isinstance(objective, PolicyGradient):
        asked = kind in ("adapter_off", "copy")  # compared for the log alone
        compares = objective.kl_weight > 0 or objective.kl_in_reward > 0 or asked
        why = "without kl_weight and kl_in_reward nothing is compared"
    if not compares:
        if kind not in ("auto", "none"):
            raise Contradiction("reference.kind", f"is {kind}, but {why}; set it to auto")
        return "none"
    if kind == "none":
        raise Contradiction("reference.kind", f"is none, but {objective.kind} compares with a reference; use auto")
    if kind == "cached" and from_rewards:
        raise Contradiction("reference.kind", "is cached, but answers are sampled during the run; use auto or copy")
    if kind == "adapter_off" and not only_adapters:
        trained = f"model.{beside[0]} is true" if beside else "model.train is full"
        cure = "copy" if from_rewards else "cached"
        sentence = f"is adapter_off, but {trained}, so switching it off does not give the start; use {cure}"
        raise Contradiction("reference.kind", sentence)
    if kind == "auto":
        return "adapter_off" if only_adapters else "copy" if from_rewards else "cached"
    return kind


def _cure_for_file(path: Path) -> str:
    """The end of an error about a data file: a similar name beside it, or where it should come from."""
    names = [entry.name for entry in path.parent.iterdir() if entry.is_file()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1)
    if close:
        return f"; did you mean {path.parent / close[0]}?"
    return "; make it as the head of the recipe says, or correct the path (relative to the current folder)"


def _yaml_value(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()


def _one_line(text: str) -> str:
    return " ".join(text.split())
