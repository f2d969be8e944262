from pathlib import Path
from typing import Any

import pytest
import yaml

from sightline.config import ConfigError
from sightline.studies.plan import load_study, study_names

VALUES: dict[str, Any] = {
    "name": "mine",
    "question": "What?",
    "budget": "little",
    "primary": {"task": "describe", "name": "quality"},
    "seeds": [0],
    "prepare": [{"make": "prompts", "out": "prompts.jsonl", "task": "describe", "num": 4}],
    "base": {"model": {"path": "world:base"}, "data": {"files": ["{out}/prompts.jsonl"]}},
    "arms": {"a": {"recipe": {"objective": {"kind": "grpo"}}}},
    "measure": {"scenes": {"describe": 2}},
    "table": [{"task": "describe", "name": "coverage"}],
    "not_shown": ["much"],
}
PROMPTS = {"make": "prompts", "task": "describe", "num": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seeds": []}, "seeds: is empty; give at least one"),
        ({"arms": {"a": {"seeds": []}}}, "seeds: is empty; give at least one"),
        ({"measure": {"scenes": {}}}, "measure.scenes: is empty; give at least one"),
        ({"measure": {"scenes": {"exist": 2}}}, "primary: measures describe, of which measure.scenes has none"),
        (
            {"measure": {"scenes": {"describe@nowhere": 2}}},
            "measure.scenes.describe@nowhere: split 'nowhere' is unknown",
        ),
        ({"primary": {"task": "describe", "name": "qualty"}}, "primary: describe has no figure 'qualty'; did you mean"),
        ({"primary": {"task": "descrbe", "name": "x"}}, "primary: task 'descrbe' is unknown; did you mean describe?"),
        ({"table": [{"task": "diversity", "name": "self_bleu"}]}, "table: entry 1: measures diversity; give"),
        ({"arms": {"../../escape": {}}}, "arms: '../../escape' cannot name a folder"),
        ({"arms": {"/var/tmp/escape": {}}}, "arms: '/var/tmp/escape' cannot name a folder"),
        ({"rows": {"base": "world:base", "../x": "world:base"}}, "rows: '../x' cannot name a folder"),
        (
            {"prepare": [{**PROMPTS, "out": "../../x.jsonl"}]},
            "prepare: entry 1: '../../x.jsonl' leaves the study's folder",
        ),
        ({"prepare": [{**PROMPTS, "out": "/x.jsonl"}]}, "prepare: entry 1: '/x.jsonl' leaves the study's folder"),
        ({"prepare": [{**PROMPTS, "out": "{out}/../x.jsonl"}]}, "leaves the study's folder"),
        ({"prepare": [{**PROMPTS, "out": "x.txt"}]}, "prepare: entry 1: out is 'x.txt'; end it in .jsonl or .parquet"),
        (
            {"prepare": [{"make": "labels", "out": "x.jsonl", "source": "y.jsonl", "by": {"kind": "annotator"}}]},
            "prepare: entry 1: source 'y.jsonl' is not made before it",
        ),
    ],
)
def test_a_mistake_in_a_study_is_found_before_anything_runs(tmp_path: Path, change: dict[str, Any], said: str):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**VALUES, **change}))
    with pytest.raises(ConfigError) as caught:
        load_study(str(tmp_path / "mine.yaml"))
    assert said in str(caught.value)


@pytest.mark.parametrize("quick", [False, True])
def test_every_study_that_ships_holds(quick: bool):
    for name in study_names():
        assert load_study(name, quick=quick).name == name
