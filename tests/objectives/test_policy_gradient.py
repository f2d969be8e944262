"""The one policy gradient against hand values, against REINFORCE on its first step, and under any cut of a step."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from sightline.batch import Batch, Outcome, Scores, make_batch
from sightline.objectives.objective import Objective
from sightline.objectives.policy_gradient import on_policy, policy_gradient_objective
from sightline.objectives.surrogates import Truncation, aggregation_weights
from sightline.objectives.values import explained_variance, explained_variance_of
from tests.tiny import prompt_tokens, ragged_batch

VOCABULARY = 11
KINDS: dict[str, Callable[[], Objective]] = {
    "by token": policy_gradient_objective,
    "by answer": lambda: policy_gradient_objective(aggregation="sequence", clip_high=0.28),
    "by constant": lambda: policy_gradient_objective(aggregation="constant", max_length=9),
    "dual": lambda: policy_gradient_objective(clip="dual"),
    "two-sided": lambda: policy_gradient_objective(clip="two_sided", aggregation="sequence"),
    "cispo": lambda: policy_gradient_objective(clip="cispo", clip_high=4.0),
    "reinforce": lambda: policy_gradient_objective(clip="none", aggregation="constant", max_length=1),
    "gspo": lambda: policy_gradient_objective(ratio="sequence", aggregation="sequence", clip_low=3e-4, clip_high=4e-4),
    "gspo by token": lambda: policy_gradient_objective(ratio="sequence"),
    "gspo-token": lambda: policy_gradient_objective(ratio="sequence_token", aggregation="sequence"),
    "sequence cispo": lambda: policy_gradient_objective(clip="cispo", ratio="sequence"),
}
AGGREGATION = dict.fromkeys(("by answer", "two-sided", "gspo", "gspo-token"), "sequence")
CONSTANT = {"by constant": 9, "reinforce": 1}
EXTRAS: dict[str, Callable[[], Objective]] = {
    "kl": lambda: policy_gradient_objective(kl_weight=0.3, kl_estimator="k3+", aggregation="sequence"),
    "entropy": lambda: policy_gradient_objective(entropy_weight=0.05),
    "critic": lambda: policy_gradient_objective(value_weight=0.1, value_clip=0.2),
    "everything": lambda: policy_gradient_objective(
        clip="dual",
        kl_weight=0.2,
        entropy_weight=-0.1,
        value_weight=0.5,
        top_entropy=0.4,
        truncation=Truncation(level="sequence", cap=1.2),
    ),
}


@dataclass(kw_only=True)
class LinearPolicy:
    """Logits, and a value, of each token by the token before it."""

    logits: Tensor
    values: Tensor

    def score(self, batch: Batch) -> Scores:
        tokens = batch.tokens % VOCABULARY
        before = torch.cat([torch.zeros_like(tokens[:, :1]), tokens[:, :-1]], 1)
        logprobs = self.logits[before].log_softmax(-1)
        return Scores(
            logprobs=logprobs.gather(-1, tokens[..., None]).squeeze(-1) * batch.mask,
            entropy=-(logprobs.exp() * logprobs).sum(-1) * batch.mask,
            values=self.values[before] * batch.mask,
        )


def linear_policy(seed: int = 0) -> LinearPolicy:
    generator = torch.Generator().manual_seed(seed)
    return LinearPolicy(
        logits=torch.randn(VOCABULARY, VOCABULARY, generator=generator, dtype=torch.float64).requires_grad_(),
        values=torch.randn(VOCABULARY, generator=generator, dtype=torch.float64).requires_grad_(),
    )


def rollout(*, on_policy: bool = False, per_token: bool = False) -> Batch:
    """Three groups of four ragged answers with every column; off-policy ones come from another policy."""
    batch = ragged_batch(num_answers=4)
    generator = torch.Generator().manual_seed(5)

    def noise(size: float) -> Tensor:
        return size * torch.randn(batch.tokens.shape, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        scores = linear_policy().score(batch)
    behaviour = scores.logprobs if on_policy else scores.logprobs + noise(0.4)
    assert scores.values is not None
    return batch.with_columns(
        advantages=noise(1.0) if per_token else noise(1.0)[:, 0],
        behaviour_logprobs=behaviour,
        rollout_logprobs=behaviour + noise(0.3),
        ref_logprobs=scores.logprobs + noise(0.5),
        old_values=scores.values + noise(0.3),
        returns=noise(1.0),
    )


def accumulated(objective: Objective, batch: Batch, parts: Sequence[Sequence[int]]) -> tuple[Tensor, dict[str, float]]:
    """As the engine does: counts of the step first, totals of micro-batches over them; gradient and means."""
    policy = linear_policy()
    counts = {f"loss/{name}": count for name, count in objective.counts(batch).items()}
    totals = dict.fromkeys(counts, 0.0)
    for part in parts:
        micro = batch.select(part)
        outcome = objective.compute(policy.score(micro), micro)
        loss = torch.stack([objective.weights[k] * t / counts[f"loss/{k}"] for k, t in outcome.terms.items()]).sum()
        loss.backward()
        for name, (total, count) in named(outcome).items():
            totals[name] = totals.get(name, 0.0) + total
            counts[name] = counts.get(name, 0.0) + (count if name in outcome.metrics else 0.0)
    gradients = [
        torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in (policy.logits, policy.values)
    ]
    return torch.cat(gradients), {name: total / counts[name] for name, total in totals.items()}


def named(outcome: Outcome) -> dict[str, tuple[float, float]]:
    return {f"loss/{k}": (float(t.detach()), 0.0) for k, t in outcome.terms.items()} | dict(outcome.metrics)


def whole(objective: Objective, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    return accumulated(objective, batch, [range(len(batch.prompts))])


def hand_batch(**columns: Tensor) -> Batch:
    """Two answers, of two tokens and of one."""
    batch = make_batch([prompt_tokens("a")], [[(5, 6), (7,)]])
    zeros = torch.zeros(2, 2, dtype=torch.float64)
    return batch.with_columns(
        **{"advantages": torch.tensor([2.0, -1.0]), "behaviour_logprobs": zeros, **columns},
    )


def hand_scores() -> Scores:
    """Ratios 1.5 and 1.1 in the first answer, 0.5 in the second; wild numbers where nothing is scored."""
    ratio = torch.tensor([[1.5, 1.1], [0.5, 9.0]], dtype=torch.float64)
    return Scores(
        logprobs=ratio.log().requires_grad_(),
        entropy=torch.tensor([[0.1, 0.4], [0.2, 9.0]], dtype=torch.float64),
        values=torch.tensor([[1.0, 0.0], [2.0, 9.0]], dtype=torch.float64),
    )


def by_hand(objective: Objective, batch: Batch) -> tuple[dict[str, float], dict[str, float], list[list[float]]]:
    """Means of the terms, means of the metrics, gradient of the weighted loss by log-probs."""
    scores, counts = hand_scores(), objective.counts(batch)
    outcome = objective.compute(scores, batch)
    terms = {name: float(total.detach()) / counts[name] for name, total in outcome.terms.items()}
    loss = torch.stack([objective.weights[k] * t / counts[k] for k, t in outcome.terms.items()]).sum()
    (gradient,) = torch.autograd.grad(loss, scores.logprobs)
    return terms, {k: total / count for k, (total, count) in outcome.metrics.items()}, gradient.tolist()


def test_the_clipped_objective_by_hand():
    # -1.2 * 2 clipped, -1.1 * 2, and 0.8 clipped.
    terms, metrics, gradient = by_hand(policy_gradient_objective(), hand_batch())
    assert terms == {"policy": pytest.approx((-2.4 - 2.2 + 0.8) / 3)}
    assert gradient == [[0, pytest.approx(-2.2 / 3)], [0, 0]]
    assert metrics["policy/ratio"] == pytest.approx((1.5 + 1.1 + 0.5) / 3)
    assert metrics["policy/clip_share_high"] == pytest.approx(1 / 3)
    assert metrics["policy/clip_share_low"] == pytest.approx(1 / 3)
    logs = [math.log(r) for r in (1.5, 1.1, 0.5)]
    assert metrics["policy/kl_behaviour_k1"] == pytest.approx(-sum(logs) / 3)
    assert metrics["policy/kl_behaviour"] == pytest.approx(sum(math.exp(q) - 1 - q for q in logs) / 3)
    assert metrics["policy/entropy"] == pytest.approx(0.7 / 3)


def test_aggregations_by_hand():
    by_answer, _, gradient = by_hand(policy_gradient_objective(aggregation="sequence"), hand_batch())
    assert by_answer["policy"] == pytest.approx(((-2.4 - 2.2) / 2 + 0.8) / 2)
    assert gradient == [[0, pytest.approx(-2.2 / 4)], [0, 0]]
    constant, _, _ = by_hand(policy_gradient_objective(aggregation="constant", max_length=5), hand_batch())
    assert constant["policy"] == pytest.approx((-2.4 - 2.2 + 0.8) / 10)


def test_the_sequence_ratio_by_hand():
    objective = policy_gradient_objective(ratio="sequence", aggregation="sequence", clip_high=0.4)
    terms, metrics, gradient = by_hand(objective, hand_batch())
    first = math.sqrt(1.5 * 1.1)
    assert terms["policy"] == pytest.approx((-2 * first + 0.8) / 2)
    assert gradient == [pytest.approx([-first / 2, -first / 2]), [0, 0]]
    assert metrics["policy/ratio"] == pytest.approx((2 * first + 0.5) / 3)


def test_the_kl_term_by_hand():
    reference = torch.tensor([[1.0, 1.1], [2.0, 50.0]], dtype=torch.float64).log()
    logs = [math.log(1.5), 0.0, math.log(0.25)]
    wanted = sum(math.exp(-q) - 1 + q for q in logs) / 3
    objective = policy_gradient_objective(kl_weight=0.5)
    terms, metrics, gradient = by_hand(objective, hand_batch(ref_logprobs=reference))
    assert terms["kl"] == pytest.approx(wanted)
    assert metrics["kl/reference"] == pytest.approx(wanted)
    assert gradient[1] == [pytest.approx(0.5 * (1 - 4) / 3), 0]
    assert objective.weights == {"policy": 1.0, "kl": 0.5}
    assert objective.needs_reference


def test_the_kl_term_may_be_steered_by_a_factor():
    objective = policy_gradient_objective(kl_weight=0.1, aggregation="token")
    _, means = whole(objective, rollout())
    _, steered = whole(objective, rollout().with_columns(kl_factor=torch.full((12,), 2.0)))
    assert steered["loss/kl"] == pytest.approx(2 * means["loss/kl"])
    assert steered["loss/policy"] == means["loss/policy"]


def test_the_entropy_term_by_hand():
    objective = policy_gradient_objective(entropy_weight=0.1)
    terms, _, _ = by_hand(objective, hand_batch())
    assert terms["entropy"] == pytest.approx(0.7 / 3)
    assert objective.weights["entropy"] == -0.1  # raised


def test_the_value_term_by_hand():
    returns = torch.tensor([[2.0, 0.5], [1.0, 50.0]], dtype=torch.float64)
    old = torch.tensor([[0.5, 0.0], [2.0, 0.0]], dtype=torch.float64)
    terms, metrics, _ = by_hand(policy_gradient_objective(value_weight=0.1), hand_batch(returns=returns))
    assert terms["value"] == pytest.approx(0.5 * (1 + 0.25 + 1) / 3)
    clipped = policy_gradient_objective(value_weight=0.1, value_clip=0.2)
    terms, _, _ = by_hand(clipped, hand_batch(returns=returns, old_values=old))
    assert terms["value"] == pytest.approx(0.5 * (1.3**2 + 0.25 + 1) / 3)
    values, mask = hand_scores().values, torch.tensor([[True, True], [True, False]])
    assert values is not None
    assert explained_variance_of(metrics) == pytest.approx(explained_variance(values, returns, mask))


@pytest.mark.parametrize(
    ("level", "weights", "truncated"),
    [("token", (2, 0.5, 0.2), 1), ("sequence", (1.5, 1.5, 0.2), 0), ("masked", (1.5, 1.5, 0), 1)],
)
def test_truncated_importance_weights_by_hand(level: str, weights: tuple[float, ...], truncated: int):
    # behaviour / rollout is 3 and 0.5 in the first answer, 0.2 in the second; the cap is 2.
    rollout_logprobs = -torch.tensor([[3.0, 0.5], [0.2, 9.0]], dtype=torch.float64).log()
    batch = hand_batch(rollout_logprobs=rollout_logprobs)
    terms, metrics, _ = by_hand(policy_gradient_objective(truncation=Truncation(level=level)), batch)
    losses = (-2.4, -2.2, 0.8)
    assert terms["policy"] == pytest.approx(sum(w * loss for w, loss in zip(weights, losses, strict=True)) / 3)
    assert metrics["sampler/truncated"] == pytest.approx(truncated / 3)
    assert metrics["sampler/difference"] == pytest.approx((math.log(3) + math.log(2) + math.log(5)) / 3)
    ratios = (3, 0.5, 0.2)
    assert metrics["sampler/kl"] == pytest.approx(sum(r - 1 - math.log(r) for r in ratios) / 3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"level": "tokens"}, "'tokens' is unknown; did you mean token"),
        ({"cap": 1.0}, "cap is 1.0; give a finite number above 1"),
        ({"cap": math.inf}, "cap is inf"),
    ],
)
def test_a_truncation_that_makes_no_sense_is_refused_with_a_cure(options: dict, says: str):
    with pytest.raises(ValueError, match=says):
        Truncation(**options)


@pytest.mark.parametrize("ratio", ["token", "sequence", "sequence_token"])
def test_on_policy_every_ratio_is_one_and_the_gradient_that_of_log_pi(ratio: str):
    objective = on_policy(policy_gradient_objective(clip_low=0.0, clip_high=0.0, ratio=ratio))
    off_policy = rollout()
    gradient, metrics = whole(objective, off_policy)
    wanted, _ = whole(policy_gradient_objective(clip="none"), off_policy)
    torch.testing.assert_close(gradient, wanted)
    assert metrics["policy/ratio"] == 1
    assert metrics["policy/kl_behaviour"] == metrics["policy/clip_share_low"] == metrics["policy/clip_share_high"] == 0


def test_only_the_most_uncertain_tokens_are_learned_from():
    terms, _, gradient = by_hand(policy_gradient_objective(top_entropy=0.5), hand_batch())
    assert terms["policy"] == pytest.approx((-2.2 + 0.8) / 3)
    assert gradient == [[0, pytest.approx(-2.2 / 3)], [0, 0]]


def test_advantages_may_be_one_per_token():
    advantages = torch.tensor([[2.0, -2.0], [-1.0, 99.0]], dtype=torch.float64)
    terms, _, _ = by_hand(policy_gradient_objective(), hand_batch(advantages=advantages))
    assert terms["policy"] == pytest.approx((-2.4 + 2.2 + 0.8) / 3)


def test_plain_reinforce_needs_no_behaviour():
    batch = hand_batch()
    batch = replace(batch, columns={"advantages": batch.columns["advantages"]})
    terms, metrics, gradient = by_hand(policy_gradient_objective(clip="none"), batch)
    assert terms["policy"] == pytest.approx((-2 * math.log(1.5) - 2 * math.log(1.1) + math.log(0.5)) / 3)
    assert gradient == [pytest.approx([-2 / 3, -2 / 3]), [pytest.approx(1 / 3), 0]]
    assert set(metrics) == {"policy/entropy"}


def test_bad_tokens_at_their_ceiling_are_counted_as_clipped():
    scores = Scores(logprobs=torch.tensor([[9.0, 1.0], [9.0, 1.0]], dtype=torch.float64).log().requires_grad_())
    shares = {
        clip: policy_gradient_objective(clip=clip).compute(scores, hand_batch()).metrics["policy/clip_share_high"]
        for clip in ("ppo", "dual", "two_sided", "cispo")
    }
    assert shares == {"ppo": (1, 3), "dual": (2, 3), "two_sided": (2, 3), "cispo": (2, 3)}


@pytest.mark.parametrize("kind", KINDS)
def test_on_policy_the_ratio_is_one_and_the_gradient_is_that_of_reinforce(kind: str):
    batch = rollout(on_policy=True)
    gradient, means = whole(KINDS[kind](), batch)
    assert means["policy/ratio"] == pytest.approx(1, abs=1e-15)
    assert means["policy/kl_behaviour"] == pytest.approx(0, abs=1e-15)
    assert means.get("policy/clip_share_low", 0) == means.get("policy/clip_share_high", 0) == 0
    aggregation = "constant" if kind in CONSTANT else AGGREGATION.get(kind, "token")
    weights, count = aggregation_weights(
        batch.mask, torch.ones(batch.num_answers), aggregation=aggregation, max_length=CONSTANT.get(kind)
    )
    policy = linear_policy()
    logprobs = policy.score(batch).logprobs
    plain = -(weights * batch.columns["advantages"][:, None] * logprobs).sum() / count
    wanted = torch.autograd.grad(plain, policy.logits)[0].flatten()
    assert float(wanted.norm()) > 0
    torch.testing.assert_close(gradient[: len(wanted)], wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("parts", [[[0], [1], [2]], [[0, 1], [2]], [[2], [1, 0]]])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, *EXTRAS])
def test_any_cut_of_a_step_gives_the_same_gradient(kind: str, weighted: bool, parts: list[list[int]]):
    batch = rollout()
    if weighted:
        weight = torch.tensor([1, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 1.0])  # the second group is left out as a whole
        batch = batch.with_columns(weight=weight)
    objective = (KINDS | EXTRAS)[kind]()
    wanted, means = whole(objective, batch)
    found, others = accumulated(objective, batch, parts)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-15)
    assert others == pytest.approx(means, rel=1e-12, abs=1e-12)
    counts = [objective.counts(batch.select(part)) for part in parts]
    for name, count in objective.counts(batch).items():
        assert sum(each[name] for each in counts) == count


@pytest.mark.parametrize("kind", [*KINDS, *EXTRAS])
def test_excluded_answers_move_nothing(kind: str):
    batch, objective = rollout(), (KINDS | EXTRAS)[kind]()
    out = torch.zeros(batch.num_answers, dtype=torch.bool)
    out[[1, 4, 5, 6, 7]] = True
    gone = replace(batch, mask=batch.mask & ~out[:, None])
    wanted, means = whole(objective, gone)
    wild = {
        name: torch.where(out[:, None] if values.dim() > 1 else out, math.nan, values)
        for name, values in batch.columns.items()
    }
    marked = replace(batch, columns=wild).with_columns(weight=(~out).float())
    found, others = whole(objective, marked)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-15)
    assert others == pytest.approx(means, rel=1e-12, abs=1e-12)
    assert objective.counts(marked) == objective.counts(gone)


@pytest.mark.parametrize("kind", [*KINDS, *EXTRAS])
def test_padding_changes_nothing_and_gets_no_gradient(kind: str):
    batch, objective = rollout(), (KINDS | EXTRAS)[kind]()
    with torch.no_grad():
        scores = linear_policy().score(batch)

    def longer(values: Tensor, wild: float, extra: int = 3) -> Tensor:
        return torch.cat([values, torch.full((len(values), extra), wild, dtype=values.dtype)], 1)

    columns = {name: longer(v, math.nan) if v.dim() > 1 else v for name, v in batch.columns.items()}
    padded = replace(batch, tokens=longer(batch.tokens, 0), mask=longer(batch.mask, False), columns=columns)
    assert scores.entropy is not None
    assert scores.values is not None
    results = []
    for each, extra in ((batch, 0), (padded, 3)):
        logprobs = longer(scores.logprobs, math.nan, extra).requires_grad_()
        entropy, values = (longer(v, math.nan, extra) for v in (scores.entropy, scores.values))
        outcome = objective.compute(Scores(logprobs=logprobs, entropy=entropy, values=values), each)
        loss = torch.stack([objective.weights[name] * total for name, total in outcome.terms.items()]).sum()
        results.append((named(outcome), torch.autograd.grad(loss, logprobs)[0]))
    (wanted, gradient), (found, wider) = results
    assert found == {name: pytest.approx(pair, rel=1e-12, abs=1e-12) for name, pair in wanted.items()}
    torch.testing.assert_close(wider[:, :-3], gradient, rtol=1e-12, atol=0)
    assert bool((wider[:, -3:] == 0).all())


@pytest.mark.parametrize("kind", [*KINDS, *EXTRAS])
def test_terms_counts_and_weights_have_the_same_names(kind: str):
    objective = (KINDS | EXTRAS)[kind]()
    outcome = objective.compute(linear_policy().score(rollout()), rollout())
    assert set(outcome.terms) == set(objective.counts(rollout())) == set(objective.weights)
    assert all(total.dim() == 0 and total.requires_grad for total in outcome.terms.values())
    assert all(isinstance(number, float) for pair in outcome.metrics.values() for number in pair)


@pytest.mark.parametrize("kind", [*KINDS, *EXTRAS])
def test_a_batch_without_answers_gives_totals_of_zero(kind: str):
    objective, nothing = (KINDS | EXTRAS)[kind](), rollout().select([])
    empty = torch.zeros(0, 0, dtype=torch.float64, requires_grad=True)
    outcome = objective.compute(Scores(logprobs=empty, entropy=empty, values=empty), nothing)
    assert all(float(total.detach()) == 0 for total in outcome.terms.values())
    assert all(count == 0 for count in objective.counts(nothing).values())


def test_gspo_token_is_gspo_when_an_answer_has_one_advantage():
    batch = rollout()
    plain, token = (
        whole(policy_gradient_objective(ratio=ratio, aggregation="sequence"), batch)
        for ratio in ("sequence", "sequence_token")
    )
    torch.testing.assert_close(token[0], plain[0], rtol=1e-12, atol=1e-15)
    assert token[1] == pytest.approx(plain[1])


def test_a_ratio_per_answer_takes_no_advantage_per_token():
    batch = rollout(per_token=True)
    with pytest.raises(ValueError, match="use 'sequence_token'"):
        whole(policy_gradient_objective(ratio="sequence"), batch)
    whole(policy_gradient_objective(ratio="sequence_token"), batch)


def test_it_wants_no_more_than_it_reads():
    assert policy_gradient_objective().wants == {"logprobs"}
    assert policy_gradient_objective(entropy_weight=0.1).wants == {"logprobs", "entropy"}
    assert policy_gradient_objective(top_entropy=0.2).wants == {"logprobs", "entropy"}
    assert policy_gradient_objective(value_weight=0.1).wants == {"logprobs", "values"}
    assert not policy_gradient_objective().needs_reference


def test_gradients_reach_the_critic_from_its_own_term_alone():
    policy = linear_policy()
    outcome = policy_gradient_objective(value_weight=0.1).compute(policy.score(rollout()), rollout())
    (value,) = torch.autograd.grad(outcome.terms["value"], policy.values, retain_graph=True)
    assert float(value.norm()) > 0
    assert torch.autograd.grad(outcome.terms["policy"], policy.values, allow_unused=True) == (None,)


@pytest.mark.parametrize("column", ["advantages", "behaviour_logprobs", "ref_logprobs", "returns", "old_values"])
def test_a_missing_column_is_named_with_its_cure(column: str):
    batch = rollout()
    less = replace(batch, columns={name: v for name, v in batch.columns.items() if name != column})
    objective = policy_gradient_objective(kind="mine", kl_weight=0.1, value_weight=0.1, value_clip=0.2)
    with pytest.raises(ValueError, match=rf"'mine' reads column '{column}', which the batch lacks; \w+"):
        objective.compute(linear_policy().score(less), less)


def test_a_missing_critic_or_entropy_is_named_with_its_cure():
    bare = Scores(logprobs=linear_policy().score(rollout()).logprobs)
    with pytest.raises(ValueError, match=r"wants values.*give the policy a critic"):
        policy_gradient_objective(value_weight=0.1).compute(bare, rollout())
    with pytest.raises(ValueError, match="wants entropy"):
        policy_gradient_objective(entropy_weight=0.1).compute(bare, rollout())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"clip": "dul"}, "did you mean dual"),
        ({"ratio": "tokens"}, "did you mean token"),
        ({"aggregation": "batch"}, "known are sequence, token, constant"),
        ({"kl_weight": 0.1, "kl_estimator": "k5"}, "'k5' is unknown"),
        ({"aggregation": "constant"}, "set it to the sampler's token limit"),
        ({"clip_low": -0.1}, "clip_low is -0.1; give a finite number of 0 or more"),
        ({"kl_weight": math.nan}, "kl_weight is nan"),
        ({"top_entropy": 0.0}, "top_entropy is 0.0; give a finite number above 0"),
        ({"clip": "dual", "dual_clip": 1.1}, "dual_clip is 1.1, within the ordinary clip; set it above"),
        ({"clip": "two_sided", "delta": 1.0}, "delta is 1.0, within the ordinary clip"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_a_cure(options: dict, says: str):
    with pytest.raises(ValueError, match=says):
        policy_gradient_objective(**options)
