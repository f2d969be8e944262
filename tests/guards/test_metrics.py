"""Every metric that a run logs and every metric of a task has its row in docs/metrics.md, and no row is stale."""

import re
from pathlib import Path

import pytest

from sightline import build
from sightline.config import make_recipe
from sightline.data.files import write_groups
from sightline.journal import Journal
from sightline.registry import catalogue
from sightline.world.tasks import TASKS, make_question, score
from tests.tiny import tiny_groups, tiny_model, tiny_processor

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)
LOGGED_PREFIXES = ("loss", "reward", "rating", "policy", "sampler", "kl", "value", "rollout", "optim", "batch", "time")
IN_CODE = re.compile(rf'"((?:{"|".join(LOGGED_PREFIXES)})/[a-z_]+)"')
OBJECTIVES = {
    "sft": {"objective": {"kind": "sft"}},
    "dpo": {"objective": {"kind": "dpo", "nll_weight": 0.1}},
    "ranking": {"objective": {"kind": "ranking", "length_weight": 0.1, "members": 1, "member_epochs": 1}},
    "grpo": {
        "objective": {
            "kind": "grpo",
            "kl_weight": 0.1,
            "kl_target": 0.1,
            "entropy_weight": 0.01,
            "truncation": "token",
        },
        "rewards": [{"name": "length", "options": {"high": 4}}],
        "rollout": {"max_tokens": 4, "group_size": 2, "reward_workers": 0},
        "monitors": {"held_out": [{"name": "repetition"}]},
    },
    "ppo": {
        "objective": {"kind": "ppo"},
        "rewards": [{"name": "length", "options": {"high": {"ramp": [4, 2]}}}],
        "rollout": {"max_tokens": 4, "group_size": 2, "reward_workers": 0},
    },
}
REWARDS = catalogue()["reward"]
NEEDS_BOXES = ("rollout/boxes_per_object",)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Names in metrics.jsonl of two updates of each objective, evaluated in between."""
    folder = tmp_path_factory.mktemp("metrics")
    tiny_model().save_pretrained(folder / "model")
    tiny_processor().save_pretrained(folder / "model")
    write_groups(folder / "data.jsonl", tiny_groups(4))
    found = {}
    for kind, blocks in OBJECTIVES.items():
        recipe = {
            "name": kind,
            "out": str(folder / kind),
            "model": {"path": str(folder / "model"), "train": "full"},
            "data": {"files": [str(folder / "data.jsonl")], "validation_files": [str(folder / "data.jsonl")]},
            **blocks,
            "train": {"steps": 2, "groups_per_step": 2, "evaluate_every": 1},
        }
        build.train(make_recipe(recipe), say=lambda line: None)
        lines = Journal.open(folder / kind).read_metrics()
        assert [line["step"] for line in lines] == [0, 1, 2]
        found[kind] = {name for line in lines for name in line if name != "step"}
    return found


def row_of(name: str) -> str:
    """The row that explains a logged name; validation repeats names, and every reward and schedule logs its own."""
    name = name.removeprefix("validation/")
    room, _, rest = name.partition("/")
    own = (
        name.startswith("held_out") or room == "curriculum" or (room == "reward" and rest.partition("/")[0] in REWARDS)
    )
    return "reward/mean" if own else name


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_logged_metric_has_its_row(logged: dict[str, set[str]], objective: str):
    missing = sorted(name for name in logged[objective] if row_of(name) not in ROWS)
    assert not missing, f"docs/metrics.md does not explain {missing}"
    assert any(name.startswith("validation/") for name in logged[objective])


def test_every_metric_named_in_the_code_has_its_row():
    files = [file for room in ("train", "objectives", "build") for file in (ROOT / "src/sightline" / room).glob("*.py")]
    named = {name for file in files for name in IN_CODE.findall(file.read_text(encoding="utf-8"))}
    missing = sorted(named - set(ROWS))
    assert not missing, f"docs/metrics.md does not explain {missing}"


def test_no_row_of_a_run_is_stale(logged: dict[str, set[str]]):
    names = {row_of(name) for objective in OBJECTIVES for name in logged[objective]}
    stale = sorted(row for row in ROWS if row.partition("/")[0] in LOGGED_PREFIXES and row not in names)
    stale = [row for row in stale if row not in NEEDS_BOXES]
    assert not stale, f"docs/metrics.md explains {stale}, which no run logs"


def test_every_metric_of_a_task_has_its_row_and_no_row_is_stale():
    expected = {f"{task}/{name}" for task in TASKS for name in score(task, "", make_question(task, "test", 0).truth)}
    expected |= {"detect/map"}
    rows = {row for row in ROWS if row.partition("/")[0] not in LOGGED_PREFIXES}
    assert rows == expected
