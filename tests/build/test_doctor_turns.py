"""What the doctor says of the words around an answer: for every family's template, and for tags of thought."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from sightline.build import doctor_turns
from sightline.build.doctor_turns import tags_line, turns_line
from sightline.build.loading import Row
from sightline.config import Recipe, make_recipe
from sightline.records import Completion, Group
from tests.families import ROWS, family_loaded, family_prompt
from tests.tiny import tiny_inputs, tiny_policy

OTHERWISE = {"llava-onevision": "opens an answer with ' \\n' in a conversation and with '\\n'"}
UNNAMED = dict.fromkeys(("qwen3-vl", "internvl"), "the template's <|im_end|> was added")
UNNAMED["smolvlm"] = "the template's <end_of_utterance> was added"


def rows(name: str, text: str = "what is this?") -> list[Row]:
    inputs, answers = tiny_inputs(family_loaded(name)), (Completion(text="Yes."), Completion(text="No"))
    prompts = [family_prompt(name, 0, text=text), family_prompt(name, text=text)]
    return [(Group(prompt=prompt, completions=answers), inputs) for prompt in prompts]


@pytest.mark.parametrize("name", ROWS)
def test_answers_are_learned_as_every_familys_template_writes_them(name: str):
    line = turns_line(rows(name))
    odd = (OTHERWISE | UNNAMED).get(name)
    assert line.state == ("pass" if odd is None else "look"), line
    assert (odd or "") in line.said


def test_what_is_learned_of_an_answer_is_said():
    said = turns_line(rows("idefics3")).said
    learned = "an answer is learned as ' ...<end_of_utterance>' behind '<end_of_utterance>\\nAssistant:'"
    assert said == f"{learned}; sampling ends at <end_of_utterance>"


def test_a_template_that_writes_answers_by_their_prompt_is_named():
    name = "qwen2.5-vl"
    inputs = tiny_inputs(family_loaded(name))
    processor = copy.copy(inputs.processor)
    processor.tokenizer = copy.deepcopy(processor.tokenizer)
    template = processor.tokenizer.chat_template
    processor.tokenizer.chat_template = template.replace(
        "{{ p.text }}", "{% if messages | length > 1 and messages[0].content | length > 1 %}# {% endif %}{{ p.text }}"
    )
    reader = replace(inputs, processor=processor, turns=replace(inputs.turns, processor=processor))
    line = turns_line([(group, reader) for group, _ in rows(name)])
    assert line.state == "look"
    assert "the template writes" in line.said


def asking(**reward: Any) -> Recipe:
    return make_recipe(
        {
            "name": "tags",
            "out": "run",
            "model": {"path": "world:base"},
            "data": {"files": ["rows.jsonl"]},
            "objective": {"kind": "grpo"},
            "rewards": [reward],
            "train": {"steps": 1},
        }
    )


TAGGED = {"name": "think_answer"}
PLAIN = {"name": "format", "options": {"template": "number"}}


def test_tags_that_are_single_tokens_and_never_said_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor_turns, "NEVER_SAID", 1.0)
    line = tags_line(asking(**TAGGED), tiny_policy(family_loaded("qwen3-vl")), rows("qwen3-vl"))
    assert line is not None
    assert line.state == "look"
    assert "<think> (" in line.said
    assert "</think> (" in line.said
    assert "<answer>" not in line.said
    assert line.cure.startswith("the model was not taught <think>")


@pytest.mark.parametrize(("reward", "text"), [(TAGGED, "what?"), (PLAIN, "Think between <think> and </think>.")])
def test_tags_that_a_reward_or_a_prompt_asks_for_are_looked_at(reward: dict[str, Any], text: str):
    line = tags_line(asking(**reward), tiny_policy(family_loaded("qwen3-vl")), rows("qwen3-vl", text))
    assert line is not None
    assert line.state == "pass"


@pytest.mark.parametrize(("name", "reward"), [("qwen3-vl", PLAIN), ("qwen2.5-vl", TAGGED)])
def test_tags_that_nobody_asks_for_or_that_are_spelled_in_pieces_are_no_matter(name: str, reward: dict[str, Any]):
    assert tags_line(asking(**reward), tiny_policy(family_loaded(name)), rows(name)) is None
