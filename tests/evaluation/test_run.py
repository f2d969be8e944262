from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from sightline.evaluation.run import judge_task
from sightline.records import Prompt
from tests.tiny import tiny_inputs, tiny_loaded, tiny_policy, tiny_prompt


@dataclass(frozen=True)
class Length:
    """A task that measures how long answers are."""

    name: str = "length"
    max_tokens: int = 5
    true_boxes: None = None

    @staticmethod
    def score(answer: str, truth: Mapping[str, Any]) -> Mapping[str, tuple[float, float]]:
        return {"characters": (float(len(answer)), 1.0)}


@pytest.fixture
def prompts() -> list[Prompt]:
    return [tiny_prompt(str(n), num_images=n % 3, seed=n) for n in range(7)]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_answers_keep_their_order_and_do_not_depend_on_the_batch_size(batch_size: int, prompts: list[Prompt]):
    loaded = tiny_loaded()
    policy, inputs = tiny_policy(loaded), tiny_inputs(loaded)
    judged = judge_task(policy, inputs, Length(), prompts, batch_size=batch_size)
    alone = [judge_task(policy, inputs, Length(), [prompt]).answers[0] for prompt in prompts]
    assert list(judged.answers) == alone
    assert judged.prompts == tuple(prompts)


def test_every_answer_is_scored_and_cut_at_the_tasks_length(prompts: list[Prompt]):
    loaded = tiny_loaded()
    inputs = tiny_inputs(loaded)
    judged = judge_task(tiny_policy(loaded), inputs, Length(), prompts)
    ratio = judged.ratios()["characters"]
    assert ratio.numerator.tolist() == [len(answer) for answer in judged.answers]
    assert ratio.denominator.tolist() == [1.0] * len(prompts)
    assert judged.true_boxes == ()
    assert len(set(judged.answers)) > 1
