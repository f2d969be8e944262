"""What a run measures along the way, before its first update too: validation, the held-out measure, how far it went.

Owns which rows are measured by what, and which number chooses the checkpoint that is kept.
"""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sightline.batch import Batch, make_batch, split
from sightline.build.batches import batches
from sightline.build.held_out import HeldOut, held_out_rows
from sightline.build.loading import Row
from sightline.build.rl import as_completion, temperature_of
from sightline.build.run_judge import RunJudge
from sightline.config import Recipe
from sightline.journal import Journal, RunError, atomic_write
from sightline.models.forward import Policy
from sightline.models.reference import Reference
from sightline.models.sampler import SamplingParams, sample
from sightline.objectives.kl import k3
from sightline.progress import each
from sightline.records import Prompt
from sightline.rewards.contract import Judged
from sightline.train.distributed import gathered, own_share, rank_and_size
from sightline.train.loop import Evaluated, Run

START_FILE = "start.json"
START_PROMPTS = 16
"""Prompts to which the policy answers before training, to see later how far it went."""
START_TOKENS = 64
"""Longest of these answers."""


def make_evaluate(
    recipe: Recipe,
    run: Run,
    rows: Sequence[Row],
    validation: Sequence[Row],
    judge: RunJudge | None,
    measure: HeldOut | None,
    reference: Reference | None,
) -> Callable[[], Evaluated] | None:
    """What evaluation measures; None for a run in which nothing can be measured."""
    engine, policy = run.engine, run.engine.policy
    measured = [] if measure is None else held_out_rows(recipe, validation or rows, measure)
    greedy = list(validation) if judge is not None and validation else measured
    start = None
    settings, kind = recipe.monitors, recipe.objective.kind
    if settings.action != "off" and settings.kl is not None and kind not in ("ranking", "sft"):
        start = Start(recipe, run.journal, (validation or rows)[:START_PROMPTS])
    if start is None and not validation and not greedy:
        return None

    def evaluate() -> Evaluated:
        found: dict[str, float] = {}
        if validation and judge is None:
            found |= engine.measure(batches(validation, recipe, reference))
        if greedy:
            found |= answered_greedily(recipe, policy, greedy, judge, measure)
        named = {f"validation/{name}": value for name, value in found.items()}
        if start is not None:
            named["kl/start"] = start.distance(policy)
        score = found.get("held_out", -found["loss/total"] if "loss/total" in found else None)
        chosen_by = "validation/held_out" if "held_out" in found else "validation/loss/total"
        return Evaluated(metrics=named, score=score, chosen_by=chosen_by)

    return evaluate


def answered_greedily(
    recipe: Recipe, policy: Policy, rows: Sequence[Row], judge: RunJudge | None, measure: HeldOut | None
) -> dict[str, float]:
    """Mean reward, its parts and the held-out measure of greedy answers.

    Every process looks at its share of the rows, and all learn of all answers.
    """
    rows = own_share(rows)
    judged: list[Judged] = []
    held_out: list[float] = []
    at_once = recipe.rollout.prompts_at_once
    params = SamplingParams(temperature=0.0, max_tokens=recipe.rollout.max_tokens)
    for start in each(range(0, len(rows), at_once), f"answers to {at_once} prompts", -(-len(rows) // at_once)):
        some = rows[start : start + at_once]
        prompts = [inputs.prompt(group.prompt) for group, inputs in some]
        drawn = sample(policy, prompts, num=1, params=params, ends=some[0][1].ends)
        answers = [tuple(as_completion(some[0][1], a, params) for a in group) for group in drawn]
        asked: list[Prompt] = [group.prompt for group, _ in some]
        held_out += [] if measure is None else measure(asked, answers)
        judged += [] if judge is None else [one for group in judge(asked, answers, progress=1.0) for one in group]
    judged, held_out = gathered(judged), gathered(held_out)
    found = {} if judge is None else _rewarded(judged)
    if held_out:
        spread = statistics.stdev(held_out) if len(held_out) > 1 else 0.0
        found["held_out"] = statistics.fmean(held_out)
        found["held_out_error"] = spread / math.sqrt(len(held_out))
    return found


def _rewarded(judged: Sequence[Judged]) -> dict[str, float]:
    values = [one.value for one in judged if one.value is not None]
    parts: dict[str, list[float]] = {}
    for one in judged:
        for name, value in one.parts.items():
            parts.setdefault(name, []).append(value)
    average = sum(values) / max(1, len(values))
    mean = {f"reward/{name}": sum(found) / len(found) for name, found in parts.items()}
    return {"loss/total": -average, "reward/mean": average} | mean


@dataclass(frozen=True, slots=True)
class _Said:
    """Answers of the policy before training: their prompts' rows, tokens and log-probabilities."""

    tokens: list[list[int]]
    """Of each answer."""
    logprobs: list[list[float]]
    """Likewise."""


class Start:
    """Answers that the policy gave before its first update, and how far it has gone from them.

    The divergence from the policy at the start to the policy now is estimated on what the former said, so no second
    model is held. They lie in start.json of the run folder, and a run that goes on reads them there.
    """

    def __init__(self, recipe: Recipe, journal: Journal, rows: Sequence[Row]) -> None:
        """Nothing is sampled before the first distance is asked for."""
        self._file, self._rows = journal.folder / START_FILE, rows
        self._params = SamplingParams(temperature=temperature_of(recipe), max_tokens=START_TOKENS, seed=recipe.seed)
        self._token_budget = recipe.train.token_budget
        self._said: _Said | None = None

    def distance(self, policy: Policy) -> float:
        """KL divergence per token from the policy at the start to the policy now (k3 on the former's answers)."""
        said = self._said = self._said or self._kept() or self._made(policy)
        batch = self._batch(said)
        now, before = self._read(policy, batch), torch.zeros(batch.tokens.shape)
        for n, logprobs in enumerate(said.logprobs):
            before[n, : len(logprobs)] = torch.as_tensor(logprobs)
        return gathered([float(k3(before, now)[batch.mask].mean())])[0]

    def _kept(self) -> _Said | None:
        if not self._file.is_file():
            return None
        try:
            return _Said(**json.loads(self._file.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            cure = "remove it, and the distance counts from where the run goes on"
            raise RunError(f"{self._file} is damaged; {cure}") from error

    def _made(self, policy: Policy) -> _Said:
        prompts, end = [inputs.prompt(group.prompt) for group, inputs in self._rows], self._rows[0][1].ends
        drawn = sample(policy, prompts, num=1, params=self._params, ends=end)
        tokens = [list(answers[0].token_ids) for answers in drawn]
        read = self._read(policy, self._batch(_Said(tokens, [])))  # not the sampler's own: 0 is where it begins
        said = _Said(tokens, [row[: len(answer)].tolist() for row, answer in zip(read, tokens, strict=True)])
        if rank_and_size()[0] == 0:
            atomic_write(self._file, json.dumps({"tokens": said.tokens, "logprobs": said.logprobs}) + "\n")
        return said

    def _batch(self, said: _Said) -> Batch:
        prompts = [inputs.prompt(group.prompt) for group, inputs in self._rows]
        return make_batch(prompts, [[tuple(answer)] for answer in said.tokens])

    def _read(self, policy: Policy, batch: Batch) -> torch.Tensor:
        found, first = torch.zeros(batch.tokens.shape), 0
        with torch.no_grad():
            for part in split(batch, token_budget=self._token_budget):
                given = policy.score(part, want=frozenset({"logprobs"})).logprobs
                found[first : first + part.num_answers, : given.shape[1]] = given.float().cpu()
                first += part.num_answers
        return found
