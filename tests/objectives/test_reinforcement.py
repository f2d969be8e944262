"""The names are what they say: each one's loss against the hand value of its own paper's settings."""

import math

import pytest
import torch

from sightline.batch import Batch, Scores, make_batch
from sightline.objectives import reinforcement
from sightline.objectives.objective import Objective
from sightline.registry import check_options, find
from tests.tiny import prompt_tokens

NAMES = ("grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo", "reinforce", "reinforce_pp", "ppo")
RATIOS = torch.tensor([[1.5, 1.1], [0.5, 1.0]], dtype=torch.float64)


def two_answers() -> tuple[Batch, Scores]:
    """Advantage 2 on ratios 1.5 and 1.1, advantage -1 on 0.5."""
    batch = make_batch([prompt_tokens("a")], [[(5, 6), (7,)]])
    nothing = torch.zeros(2, 2, dtype=torch.float64)
    batch = batch.with_columns(
        advantages=torch.tensor([2.0, -1.0]),
        behaviour_logprobs=nothing,
        returns=nothing,
        old_values=nothing + 0.5,
    )
    return batch, Scores(logprobs=RATIOS.log().requires_grad_(), values=nothing + 1)


def loss(objective: Objective) -> float:
    batch, scores = two_answers()
    counts, outcome = objective.counts(batch), objective.compute(scores, batch)
    return sum(objective.weights[name] * float(total.detach()) / counts[name] for name, total in outcome.terms.items())


@pytest.mark.parametrize("name", NAMES)
def test_each_is_found_by_its_name_with_defaults_and_needs_no_reference(name: str):
    objective = find("objective", name)()
    assert objective.name == name
    assert objective.needs_reference is False
    assert objective.wants == ({"logprobs", "values"} if name == "ppo" else {"logprobs"})


@pytest.mark.parametrize("name", NAMES)
def test_each_takes_a_kl_in_the_loss(name: str):
    maker = find("objective", name)
    check_options(maker, {"kl_weight": 0.1, "kl_estimator": "k2", "entropy_weight": 0.01})
    objective = maker(kl_weight=0.1, kl_estimator="k2", entropy_weight=0.01)
    assert objective.needs_reference
    assert objective.weights["kl"] == 0.1
    assert "entropy" in objective.wants


LOGS = 2 * math.log(1.5) + 2 * math.log(1.1) - math.log(0.5)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("grpo", ((-2.4 - 2.2) / 2 + 0.8) / 2),
        ("dr_grpo", (-2.4 - 2.2 + 0.8) / (2 * 512)),
        ("dapo", (-2 * 1.28 - 2.2 + 0.8) / 3),
        ("gspo", (-2 * 1.0004 + 0.9997) / 2),
        ("cispo", (-1.5 * 2 * math.log(1.5) - 1.1 * 2 * math.log(1.1) + 0.5 * math.log(0.5)) / 3),
        ("rloo", -LOGS / (2 * 512)),
        ("reinforce", -LOGS / (2 * 512)),
        ("reinforce_pp", (-2.4 - 2.2 + 0.8) / 3),
        # Values of 1 for returns of 0: the unclipped error, half of 1, is the larger.
        ("ppo", (-2.4 - 2.2 + 0.8) / 3 + 0.1 * 0.5),
    ],
)
def test_defaults_by_hand(name: str, wanted: float):
    assert loss(find("objective", name)()) == pytest.approx(wanted)


def test_options_reach_the_loss():
    assert loss(reinforcement.rloo_objective(max_length=1)) == pytest.approx(-LOGS / 2)
    assert loss(reinforcement.rloo_objective(clip="ppo", max_length=1)) == pytest.approx((-2.4 - 2.2 + 0.8) / 2)
    assert loss(reinforcement.grpo_objective(aggregation="token")) == pytest.approx((-2.4 - 2.2 + 0.8) / 3)
    assert loss(reinforcement.grpo_objective(clip_high=0.05)) == pytest.approx((-2.1 + 0.8) / 2)
    assert loss(reinforcement.ppo_objective(value_weight=0.2)) == pytest.approx((-2.4 - 2.2 + 0.8) / 3 + 0.1)
