import importlib.util
import subprocess
import sys
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import yaml
from pydantic.fields import FieldInfo

from sightline.config import (
    ConfigError,
    check_present,
    differences,
    find_recipe,
    load_recipe,
    make_recipe,
    recipe_folder,
    recipe_keys,
    recipe_names,
    resolved_yaml,
    to_dict,
)
from sightline.config.schema import branches, kinds_of
from sightline.registry import catalogue

ROOT = Path(__file__).parents[1]
BASE = """
name: tiny
model: {path: world:base}
data: {files: [pairs.jsonl]}
objective: {kind: dpo, beta: 0.2}
optim: {learning_rate: 1e-5}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def mistake(*overrides: str, paths: tuple[str, ...] = ("base.yaml",)) -> str:
    """The one line that loading ends with."""
    with pytest.raises(ConfigError) as caught:
        load_recipe(paths, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Reading and merging


def test_a_recipe_is_resolved_to_the_last_key():
    recipe = load_recipe(["base.yaml"], [])
    assert recipe.out == "runs/tiny"
    assert recipe.optim.learning_rate == 1e-5
    assert recipe.objective.kind == "dpo"
    assert recipe.objective.beta == 0.2
    assert recipe.train.epochs == 1
    assert recipe.reference.kind == "adapter_off"


def test_files_merge_left_to_right_and_overrides_come_last(folder):
    (folder / "more.yaml").write_text("objective: {beta: 0.3, nll_weight: 1}\nseed: 7\n")
    recipe = load_recipe(["base.yaml", "more.yaml"], ["objective.beta=0.4", "data.files=[a.jsonl, b.jsonl]"])
    assert recipe.seed == 7
    assert recipe.objective.kind == "dpo"
    assert (recipe.objective.beta, recipe.objective.nll_weight) == (0.4, 1.0)
    assert recipe.data.files == ("a.jsonl", "b.jsonl")


def test_a_block_is_replaced_when_its_kind_changes(folder):
    (folder / "sft.yaml").write_text("objective: {kind: sft}\n")
    assert to_dict(load_recipe(["base.yaml", "sft.yaml"]))["objective"] == {
        "kind": "sft",
        "normalise": "token",
    }


@pytest.mark.parametrize("order", [("objective.kind=sft", "objective.normalise=answer"), None])
def test_overrides_of_a_new_kind_hold_in_any_order(order):
    order = order or ("objective.normalise=answer", "objective.kind=sft")
    objective = load_recipe(["base.yaml"], order).objective
    assert objective.kind == "sft"
    assert objective.normalise == "answer"


def test_a_later_steps_drops_an_earlier_epochs():
    again = load_recipe(["base.yaml"], ["train.epochs=2"])
    assert (again.train.epochs, again.train.steps) == (2, None)
    Path("resolved.yaml").write_text(resolved_yaml(again))
    shorter = load_recipe(["resolved.yaml"], ["train.steps=5"])
    assert (shorter.train.epochs, shorter.train.steps) == (None, 5)


def test_the_resolved_recipe_loads_as_itself():
    for overrides in ([], ["model.train=full"], ["objective.kind=sft"], ["data.validation_files=[v.jsonl]"]):
        recipe = load_recipe(["base.yaml"], overrides)
        Path("resolved.yaml").write_text(resolved_yaml(recipe))
        assert load_recipe(["resolved.yaml"], []) == recipe
        assert make_recipe(to_dict(recipe)) == recipe
        assert differences(to_dict(recipe), yaml.safe_load(resolved_yaml(recipe))) == []


def test_plain_values_make_the_same_recipe_as_a_file():
    assert make_recipe(yaml.safe_load(BASE)) == load_recipe(["base.yaml"])


def test_differences_name_keys_and_both_values():
    one, other = load_recipe(["base.yaml"]), load_recipe(["base.yaml"], ["objective.beta=0.5", "seed=1"])
    assert differences(to_dict(other), to_dict(one)) == [
        "seed is 1 and was 0",
        "objective.beta is 0.5 and was 0.2",
    ]


# What one key says about another


@pytest.mark.parametrize(
    ("overrides", "kind", "cache"),
    [
        ((), "adapter_off", None),
        (("objective.kind=sft",), "none", None),
        (("model.train=full",), "cached", "runs/tiny/reference"),
        (("model.train_tower=true",), "cached", "runs/tiny/reference"),
        (("model.train_projector=true", "out=there"), "cached", "there/reference"),
        (("reference.kind=cached", "reference.cache=kept"), "cached", "kept"),
        (("reference.kind=copy", "model.train=full"), "copy", None),
    ],
)
def test_the_reference_follows_from_what_is_trained(overrides, kind, cache):
    reference = load_recipe(["base.yaml"], overrides).reference
    assert (reference.kind, reference.cache) == (kind, cache)


# Mistakes


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["objective.bta=1"], "objective.bta: unknown key; did you mean beta?"),
        (["objectve.beta=1"], "objectve: unknown key; did you mean objective?"),
        (["learning_rate=1"], "learning_rate: unknown key; did you mean optim.learning_rate?"),
        (
            ["objective.kind=sft", "objective.beta=1"],
            "objective.beta: unknown key for kind sft; remove it, or change the kind",
        ),
        (["objective.kind=dop"], "objective.kind: is 'dop'; did you mean dpo?"),
        (["objective=null"], "objective: is null; give a block of keys"),
        (["objective.beta=ten"], "objective.beta: is 'ten'; give a number"),
        (["objective.beta=0"], "objective.beta: is 0; give more than 0"),
        (["objective.beta=.nan"], "objective.beta: '.nan' is no value (.nan is not finite); give a finite number"),
        (["objective.label_smoothing=0.5"], "objective.label_smoothing: is 0.5; give less than 0.5"),
        (["train.steps=2.5"], "train.steps: is 2.5; give a whole number"),
        (["train.steps=yes"], "train.steps: is true; give a number"),
        (["train.steps=3", "train.epochs=1"], "train: epochs and steps are both given; remove one of them"),
        (["optim.betas=[0.9, 2]"], "optim.betas: entry 2 is 2; give less than 1"),
        (["optim.betas=[0.9]"], "optim.betas: entry 2 is missing; give it a value"),
        (["optim.betas=[0.9, 0.9, 0.9]"], "optim.betas: has 3 entries; give 2"),
        (["model.dtype=bf16"], "model.dtype: is 'bf16'; did you mean bfloat16?"),
        (["model.dtype=fp8"], "model.dtype: is 'fp8'; use one of auto, float32, bfloat16"),
        (["model.path=world:bse"], "model.path: 'world:bse' is no embedded model; did you mean world:base?"),
        (
            ["model.lora.dropout=0.1"],
            "model.lora.dropout: is 0.1; set it to 0, since dropout breaks the exactness of the forward",
        ),
        (
            ["model.lora.targets=q_proj"],
            "model.lora.targets: is 'q_proj'; write language, or a list of layers such as [q_proj, v_proj]",
        ),
        (
            ["model.min_pixels=9", "model.max_pixels=4"],
            "model: min_pixels 9 is above max_pixels 4; exchange them",
        ),
        (
            ["model.features_folder=kept", "model.train_projector=true"],
            "model.features_folder: keeps features of a frozen tower and projector, and one of them is trained;"
            " leave it out",
        ),
        (
            ["model.quantise=4bit", "model.dtype=float32"],
            "model.quantise: trains adapters in bfloat16 alone; set model.train: lora, and leave model.dtype out",
        ),
        (
            ["model.quantise=4bit", "train.shard=true"],
            "train.shard: cuts no weights of four bits; leave one of them out",
        ),
        (["data.files=a.jsonl"], "data.files: is 'a.jsonl'; give a list, such as [one, two]"),
        (["data.files=[]"], "data.files: is empty; give at least one"),
        (
            ["data.files=[1]"],
            "data.files: entry 1 is 1; give text, in quotes if it looks like something else",
        ),
        (["name=1"], "name: is 1; give text, in quotes if it looks like something else"),
        (
            ["name=../x"],
            "name: is '../x'; use letters, digits, dots, dashes and underscores, a letter or digit first",
        ),
        (["tracking=[wandbb]"], "tracking: entry 1 is 'wandbb'; did you mean wandb?"),
        (["seed=-1", "foo=1"], "seed: is -1; give at least 0 (and 1 more: foo)"),
        (["reference.kind=none"], "reference.kind: is none, but dpo compares with a reference; use auto"),
        (
            ["objective.kind=sft", "reference.kind=copy"],
            "reference.kind: is copy, but sft compares with nothing; set it to auto",
        ),
        (
            ["reference.kind=adapter_off", "model.train_tower=true"],
            "reference.kind: is adapter_off, but model.train_tower is true, so switching it off does not give"
            " the start; use cached",
        ),
        (
            ["reference.cache=kept"],
            "reference.cache: is only used by kind cached, and the kind is adapter_off; remove one",
        ),
        (
            ["model.path=[a"],
            "model.path: '[a' is no value (expected ',' or ']', but got '<stream end>'); correct that line",
        ),
        (["beta"], "beta: is neither a recipe nor KEY=VALUE; write it as objective.beta=0.2"),
        (
            ["optim=1", "optim.epsilon=1"],
            "optim.epsilon: an earlier flag gives optim as a whole; keep one of them",
        ),
    ],
)
def test_a_mistake_in_an_override_is_one_line(overrides, line):
    assert mistake(*overrides) == f"command line: {line}"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\na: 2\n", "line 2: key 'a' is given twice; remove one"),
        ("model:\n  path: x\n  path: y\n", "line 3: key 'path' is given twice; remove one"),
        ("1: x\n", "line 1: key 1 is not text; put it in quotes"),
        ("a: [\n", "line 2: expected the node content, but found '<stream end>'; correct that line"),
        ("a:\tb: c", "line 1: found character '\\t' that cannot start any token; correct that line"),
        ("- a\n", "holds no keys; `sightline recipes show dpo_world` prints a whole recipe"),
        ("", "holds no keys; `sightline recipes show dpo_world` prints a whole recipe"),
        (
            "a: !!python/name:os.system x",
            "line 1: the tag !!python/name:os.system is not read; write the value without it",
        ),
        (BASE + "objctive: {}", "objctive: unknown key; did you mean objective?"),
        (
            BASE.replace("files:", "file:"),
            "data.file: unknown key; did you mean files? (and 1 more: data.files)",
        ),
        (
            BASE.replace("kind: dpo, ", ""),
            "objective.kind: is missing; use one of sft, dpo, ranking, grpo, dr_grpo, dapo, gspo, cispo, rloo, "
            "reinforce, reinforce_pp, ppo",
        ),
        (BASE.replace("name: tiny", ""), "name: is missing; give it a value"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_with_the_files_name(folder, text, line):
    (folder / "bad.yaml").write_text(text)
    assert mistake(paths=("bad.yaml",)) == f"bad.yaml: {line}"


def test_a_mistake_names_the_file_that_made_it(folder):
    (folder / "more.yaml").write_text("optim: {weight_dcay: 0.1}\n")
    assert mistake("seed=1", paths=("base.yaml", "more.yaml")).startswith("more.yaml: optim.weight_dcay: ")
    (folder / "more.yaml").write_text("objective: {beta: -1}\n")
    assert mistake("seed=1", paths=("base.yaml", "more.yaml")).startswith("more.yaml: objective.beta: ")
    (folder / "wrong.yaml").write_text(BASE.replace("beta: 0.2", "beta: -1"))
    (folder / "more.yaml").write_text("seed: 1\n")
    assert mistake(paths=("wrong.yaml", "more.yaml")).startswith("wrong.yaml: objective.beta: ")


def test_a_file_that_is_no_text_is_refused(folder):
    (folder / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    assert mistake(paths=("bad.yaml",)).startswith("bad.yaml: is not UTF-8 (byte 1)")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("bse.yaml", "bse.yaml: no such recipe; did you mean base.yaml?"),
        ("dpo_wrld", "dpo_wrld: no such recipe; did you mean dpo_world?"),
        (
            "recipes/dpo_world.yaml",
            "recipes/dpo_world.yaml: no such file; did you mean dpo_world, which is shipped?",
        ),
        (".", ".: is a folder, not a recipe; name a file"),
    ],
)
def test_a_recipe_that_is_not_there_gets_a_guess(path, line):
    assert mistake(paths=(path,)) == line


def test_a_run_folder_is_not_a_recipe(folder):
    (folder / "run").mkdir()
    (folder / "run" / "recipe.yaml").write_text(BASE)
    assert mistake(paths=("run",)) == "run: is a folder, not a recipe; `sightline resume run` goes on with a run"


def test_data_files_and_trackers_are_looked_for_before_anything_heavy(folder):
    recipe = load_recipe(["base.yaml"])
    with pytest.raises(ConfigError, match=r"^base.yaml: data.files: pairs.jsonl does not exist; make it as the head"):
        check_present(recipe, source="base.yaml")
    (folder / "pair.jsonl").write_text("")
    with pytest.raises(ConfigError, match=r"pairs.jsonl does not exist; did you mean pair.jsonl\?$"):
        check_present(recipe)
    (folder / "pairs.jsonl").write_text("")
    check_present(recipe)
    if importlib.util.find_spec("bitsandbytes") is None:
        few = load_recipe(["base.yaml"], ["model.quantise=4bit"])
        with pytest.raises(ConfigError, match=r"bitsandbytes is not installed; `pip install 'sightline\[4bit\]'`"):
            check_present(few)
    with pytest.raises(ConfigError, match=r"data.root: nowhere is no folder; give the one that image paths start from"):
        check_present(load_recipe(["base.yaml"], ["data.root=nowhere"]))


# What is shipped, and its documentation


def test_shipped_recipes_validate_and_are_found_by_name():
    assert recipe_folder() == ROOT / "recipes"
    assert {"sft_world", "dpo_world", "dpo_llava_1_5_7b_lora", "dpo_qwen2_5_vl_7b_lora"} <= set(recipe_names())
    for name in recipe_names():
        assert load_recipe([name]).name == name
        head = find_recipe(name).read_text().split("\nname:")[0]
        assert f"sightline train recipes/{name}.yaml" in head


def test_the_catalogue_and_the_schema_hold_the_same_names():
    kinds = {key: get_args(field.annotation) for key, field in recipe_keys() if key.endswith(".kind")}
    assert list(kinds["reference.kind"]) == ["auto", *catalogue()["reference"]]
    objective = next(field for key, field in recipe_keys() if key == "objective")
    assert [kind for branch in branches(objective) for kind in kinds_of(branch)] == catalogue()["objective"]


def test_reading_a_recipe_imports_nothing_heavy():
    code = (
        "import sys; from sightline.config import load_recipe; load_recipe(['base.yaml'], ['seed=1']);"
        "sys.exit(str({'torch', 'transformers', 'numpy', 'sightline.build'} & set(sys.modules) or 0) != '0')"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def values_of(annotation: Any) -> str:
    """What a key takes, in words."""
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(values_of(option) for option in get_args(annotation))
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) is tuple:
        return "list"
    if get_origin(annotation) is dict:
        return "options by name"
    if get_origin(annotation) is Annotated:
        return values_of(get_args(annotation)[0])
    words = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null"}
    return words.get(annotation, "block")


def documented(key: str, field: FieldInfo) -> str:
    """The row of docs/recipes.md for a key."""
    if field.is_required():
        default = "required"
    elif branches(field) and not isinstance(field.default, tuple):
        default = ""
    else:
        plain = list(field.default) if isinstance(field.default, tuple) else field.default
        default = f"`{yaml.safe_dump(plain, default_flow_style=True).split('...')[0].strip()}`"
    listed = isinstance(field.default, tuple)
    values = ("list of blocks" if listed else "block") if branches(field) else values_of(field.annotation)
    return f"| `{key}` | {values} | {default} | {' '.join((field.description or '').split())} |"


def test_every_key_has_its_row_in_the_docs_in_the_order_of_the_schema():
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == [documented(key, field) for key, field in recipe_keys()]


def test_the_recipe_printed_in_the_docs_is_the_shipped_one():
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert find_recipe("dpo_world").read_text(encoding="utf-8") in page
