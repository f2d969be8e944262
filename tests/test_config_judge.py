"""The judge recipe: mistakes in one line, shipped judges, keys in the docs, and keys that are never shown."""

from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
import yaml
from pydantic.fields import FieldInfo

from sightline.config import ConfigError, find_recipe, judge_names
from sightline.config.judge import (
    EndpointJudge,
    JudgeRecipe,
    api_key,
    check_judge_present,
    judge_yaml,
    load_judge,
    shown_yaml,
)
from sightline.config.schema import branches, recipe_keys

ROOT = Path(__file__).parents[1]
JUDGE = """
name: mine
judge: {kind: endpoint, base_url: "http://127.0.0.1:8000/v1", model: m}
protocol: {kind: pairwise}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(JUDGE)
    return tmp_path


def mistake(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_judge("mine.yaml", overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_judge_is_loaded_with_every_default_written_out(folder: Path):
    found = load_judge("mine.yaml", ["seed=3"])
    assert (found.name, found.seed, found.cache, found.self_agreement) == ("mine", 3, "runs/judges/mine", 0.05)
    (folder / "again.yaml").write_text(judge_yaml(found))
    assert load_judge("again.yaml") == found


@pytest.mark.parametrize("name", judge_names())
def test_every_shipped_judge_opens_with_its_command_and_validates(name: str):
    found = load_judge(name)
    assert f"judges/{found.name}" == name
    text = find_recipe(name).read_text(encoding="utf-8")
    comment = text[: text.index("\nname:")]
    assert all(line.startswith("#") for line in comment.splitlines())
    assert f"--judge {name}" in comment


def test_three_judges_ship():
    assert judge_names() == ["judges/pairwise", "judges/rlaif_v_world", "judges/vlfeedback"]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("judge.modle=x", "command line: judge.modle: unknown key; did you mean model?"),
        ("jugde={}", "command line: jugde: unknown key; did you mean judge?"),
        ("judge.base_url=127.0.0.1:8000", "command line: judge.base_url: is '127.0.0.1:8000'; write the whole address"),
        ("judge.base_url=ftp://x/v1", "command line: judge.base_url: is 'ftp://x/v1'; write the whole address"),
        ("judge.concurrency=0", "command line: judge.concurrency: is 0; give more than 0"),
        ("judge.kind=modle", "command line: judge.kind: is 'modle'; did you mean model?"),
        ("judge.path=x", "command line: judge.path: unknown key for kind endpoint; remove it, or change the kind"),
        ("protocol.orders=bth", "command line: protocol.orders: is 'bth'; did you mean both?"),
        ("protocol.aspects=[]", "command line: protocol.aspects: is empty; give at least one"),
        ("protocol={kind: pointwise, scale: [5, 1]}", "command line: protocol.scale: is [5, 1]; give the lowest first"),
        (
            "protocol={kind: claims, split: pattern}",
            "command line: protocol: pattern goes with split: pattern; give one",
        ),
        (
            "protocol={kind: claims, pattern: a}",
            "command line: protocol: pattern goes with split: pattern; give split: ",
        ),
        ("protocol={kind: claims, split: pattern, pattern: '('}", "command line: protocol: pattern is no regular expr"),
        (
            "protocol={kind: claims, split: pattern, pattern: '(a)(b)'}",
            "command line: protocol: pattern has several gr",
        ),
        ("self_agreement=2", "command line: self_agreement: is 2; give at most 1"),
        ("temperature=-1", "command line: temperature: is -1; give at least 0"),
        ("name=a b", "command line: name: is 'a b'; use letters, digits, dots, dashes and underscores"),
        ("nonsense", "command line: nonsense: is neither a recipe nor KEY=VALUE"),
    ],
)
def test_mistakes_are_one_line(override: str, says: str):
    assert mistake(override).startswith(says)


def test_a_key_in_a_recipe_is_refused_and_never_shown(monkeypatch: pytest.MonkeyPatch):
    for override in ("judge.api_key_env=sk-abc-123", "judge.api_key=sk-abc-123"):
        assert "sk-abc-123" not in mistake(override)
    monkeypatch.setenv("MY_KEY", "sk-abc-123\nsk-abc-123")
    found = load_judge("mine.yaml", ["judge.api_key_env=MY_KEY"])
    with pytest.raises(ConfigError, match="MY_KEY holds no key") as caught:
        check_judge_present(found, source="mine.yaml")
    assert "sk-abc" not in str(caught.value)


def test_the_key_is_read_from_the_environment_alone(monkeypatch: pytest.MonkeyPatch):
    found = load_judge("mine.yaml", ["judge.api_key_env=MY_KEY"])
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(
        ConfigError, match=r"^mine.yaml: judge.api_key_env: the environment variable MY_KEY is not set; "
    ):
        check_judge_present(found, source="mine.yaml")
    monkeypatch.setenv("MY_KEY", " sk-abc \n")
    assert found.judge.kind == "endpoint"
    assert api_key(found.judge, source="mine.yaml") == "sk-abc"
    assert "sk-abc" not in judge_yaml(found)
    free = load_judge("mine.yaml")
    assert free.judge.kind == "endpoint"
    assert api_key(free.judge, source="mine.yaml") is None


def test_a_client_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"needs the openai client, and openai is not installed; run `pip install 'sightline"
    ):
        check_judge_present(load_judge("mine.yaml"), source="mine.yaml")
    local = load_judge("mine.yaml", ["judge={kind: model, path: 'world:base'}"])
    check_judge_present(local, source="mine.yaml")


def test_the_shipped_name_of_a_judge_is_found_and_a_misspelt_one_guessed():
    assert find_recipe("judges/pairwise").is_file()
    with pytest.raises(ConfigError, match=r"judges/pairwize: no such recipe; did you mean judges/pairwise\?"):
        load_judge("judges/pairwize")


# The docs


def values_of(annotation: Any) -> str:
    words = {str: "text", int: "whole number", float: "number", bool: "true or false", NoneType: "null"}
    if annotation in words:
        return words[annotation]
    origin = get_origin(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if origin is dict:
        return "block"
    if origin is tuple:
        return "list"
    if origin in (Union, UnionType):
        return " or ".join(map(values_of, get_args(annotation)))
    return values_of(get_args(annotation)[0])  # Annotated


def documented(key: str, field: FieldInfo) -> str:
    """The row of docs/judges.md for a key."""
    default = "required"
    if not field.is_required():
        value = field.get_default()
        plain = yaml.safe_load(yaml.safe_dump(dumped(value)))
        default = "" if branches(field) and not isinstance(value, tuple) else f"`{flow(plain)}`"
    listed = isinstance(field.default, tuple)
    values = ("list of blocks" if listed else "block") if branches(field) else values_of(field.annotation)
    return f"| `{key}` | {values} | {default} | {' '.join((field.description or '').split())} |"


def dumped(value: Any) -> Any:
    if isinstance(value, tuple):
        return [item.name if hasattr(item, "means") else item for item in value]
    return value.model_dump() if hasattr(value, "model_dump") else value


def flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).split("\n...")[0].strip()


def test_every_key_has_its_row_in_the_docs_in_the_order_of_the_schema():
    page = (ROOT / "docs" / "judges.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == [documented(key, field) for key, field in recipe_keys(JudgeRecipe)]


def test_a_password_in_the_address_is_printed_nowhere():
    address = "judge.base_url=https://me:secret@host/v1?key=hidden"
    found = load_judge("judges/vlfeedback", ["judge.model=x", address])
    assert isinstance(found.judge, EndpointJudge)
    assert found.judge.base_url == "https://me:secret@host/v1?key=hidden"
    assert "base_url: https://***@host/v1?***\n" in shown_yaml(found)
    with pytest.raises(ConfigError) as caught:
        load_judge("judges/vlfeedback", ["judge.model=x", address.replace("https", "ftp")])
    assert "ftp://***@host/v1?***" in str(caught.value)
    assert "secret" not in str(caught.value) + shown_yaml(found)
