"""The feed of reinforcement learning: prompts, sampled answers, rewards, advantages, batches.

One rollout samples some prompts, judges the answers and is then learned from for one or more passes. What the policy
that sampled says of its answers is read once, by the trainer's own forward and in the portions of the first updates, so
that later ratios measure updates and not rounding; what the sampler's arithmetic said is kept beside it. Owns the order
of these steps and what is left of a rollout between two updates. Sampling, scoring, judging and giving credit are
functions that come in; which reward, which advantage and which loss are not its business.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.batch import Batch, PromptTokens, make_batch
from sightline.data.stream import Stream
from sightline.records import Completion, Prompt
from sightline.rewards.contract import Judged
from sightline.train.distributed import gathered, own_share
from sightline.train.roles import Credit, Facts, Judge, Sample, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """One prompt with its sampled answers and what was said of them."""

    row: int
    """Number of the prompt in the data."""
    completions: tuple[Completion, ...]
    """The answers."""
    judged: tuple[Judged, ...]
    """One per answer."""

    @property
    def values(self) -> list[float]:
        """Rewards of the answers that have one."""
        return [found.value for found in self.judged if found.value is not None]

    @property
    def has_signal(self) -> bool:
        """Whether some answers were better than others."""
        return len(set(self.values)) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPlan:
    """How much is sampled and what of it is learned from."""

    prompts: int
    """Prompts in a rollout, of all processes."""
    prompts_per_step: int
    """Prompts in an update, of all processes."""
    group_size: int
    """Answers to each prompt."""
    passes: int = 1
    """Times that a rollout is learned from."""
    max_refills: int = 0
    """Rounds of sampling in place of groups without signal; 0 keeps such groups, at advantage zero."""
    difficulty: tuple[float, float] | None = None
    """Groups whose mean reward lies outside are sampled anew like groups without signal, or else left out."""
    drop_cut: bool = False
    """Leave answers out that were cut at the token limit."""
    seed: int = 0
    """Decides every draw."""
    num_steps: int = 0
    """Updates of the whole run; rules that tighten follow it."""

    @property
    def steps_per_rollout(self) -> int:
        """Updates that one rollout feeds."""
        return self.passes * -(-self.prompts // self.prompts_per_step)

    def is_useful(self, answers: Answers) -> bool:
        """Whether something can be learned from a group."""
        if not answers.has_signal:
            return False
        low, high = self.difficulty or (-float("inf"), float("inf"))
        return low <= sum(answers.values) / len(answers.values) <= high


@dataclass(slots=True, kw_only=True)
class _Rollout:
    """A rollout that is being learned from."""

    rows: list[int]
    """Prompts of its groups, in the batch's order."""
    batch: Batch
    """All its answers, those of all processes, with credit."""
    left: list[list[int]]
    """Groups of each update that is still to come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A rollout before it is learned from. Example: `Begun(number=1, groups=(answers,), batch=batch)`."""

    number: int
    """Rollouts so far, this one included."""
    groups: tuple[Answers, ...]
    """Its groups, those of all processes."""
    batch: Batch
    """Their answers in the same order, with credit."""


class RolloutFeed:
    """Batches of sampled and judged answers. State: the stream, the prompts drawn from it, the current rollout.

    Every process samples and judges its share of the prompts; then all hold the whole rollout and give the same
    credit, and each learns from its share of every update. So the state is the same in all of them.
    """

    def __init__(  # noqa: PLR0913 - what a rollout is made with, each by its name
        self,
        rows: Sequence[Prompt],
        stream: Stream,
        plan: RolloutPlan,
        *,
        read: Callable[[int], PromptTokens],
        sample: Sample,
        judge: Judge,
        credit: Credit,
        score: Score | None = None,
        weights: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`read` gives a row's tokens; `score` reads answers once more before they are learned from, where something
        wants that; `weights` holds those of the policy together."""
        self._rows, self._stream, self._plan = rows, stream, plan
        self._read, self._sample, self._judge, self._credit = read, sample, judge, credit
        self._score, self._weights = score, weights
        self._step, self._number = 0, 0
        self._drawn: list[int] = []
        self._rollout: _Rollout | None = None
        self._facts: Facts = {}
        self._seconds = {"sample": 0.0, "judge": 0.0, "credit": 0.0}
        self.last: list[Answers] = []
        self._began = False

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the batches, without end."""
        return self

    def __next__(self) -> Batch:
        """The next update's batch; samples when the current rollout is used up."""
        self._facts = {}
        self._began = self._rollout is None or not self._rollout.left
        if self._rollout is None or not self._rollout.left:
            with self._weights():
                self._rollout = self._roll()
        self._step += 1
        return self._rollout.batch.select(own_share(self._rollout.left.pop(0)))

    def metrics(self) -> Facts:
        """Facts about the rollout, once, with the first batch that it gave."""
        return self._facts

    def begun(self) -> "Begun | None":
        """The rollout that the last batch was the first of; None after another batch."""
        if not self._began or self._rollout is None:
            return None
        return Begun(number=self._number, groups=tuple(self.last), batch=self._rollout.batch)

    def state(self) -> dict[str, Any]:
        """Where it stands, as plain JSON; the rollout's tensors are `tensors`."""
        rollout = self._rollout
        return {
            "stream": dict(self._stream.state()),
            "drawn": list(self._drawn),
            "step": self._step,
            "number": self._number,
            "judge": self._judge.state(),
            "credit": self._credit.state(),
            "rows": [] if rollout is None else rollout.rows,
            "left": [] if rollout is None else rollout.left,
        }

    def tensors(self) -> dict[str, Tensor]:
        """The current rollout's tensors, while updates on it are still to come."""
        if self._rollout is None or not self._rollout.left:
            return {}
        batch = self._rollout.batch
        fixed = {name: getattr(batch, name) for name in ("group", "tokens", "lengths", "mask")}
        fixed |= {"pairs": batch.pairs} | {f"pair_columns.{name}": v for name, v in batch.pair_columns.items()}
        return fixed | {f"columns.{name}": value for name, value in batch.columns.items()}

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        self._stream.restore(state["stream"])
        self._drawn, self._step, self._number = list(state["drawn"]), int(state["step"]), int(state["number"])
        if not all(0 <= row < len(self._rows) for row in (*self._drawn, *state["rows"])):
            raise IndexError("a row that the data does not have")
        self._judge.restore(state["judge"])
        self._credit.restore(state["credit"])
        self._rollout = None
        if tensors:
            columns, pair_columns = (
                {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
                for prefix in ("columns.", "pair_columns.")
            )
            batch = Batch(
                prompts=tuple(self._read(row) for row in state["rows"]),
                group=tensors["group"],
                tokens=tensors["tokens"],
                lengths=tensors["lengths"],
                mask=tensors["mask"],
                columns=columns,
                pairs=tensors["pairs"],
                pair_columns=pair_columns,
            )
            self._rollout = _Rollout(rows=list(state["rows"]), batch=batch, left=[list(x) for x in state["left"]])

    def _roll(self) -> _Rollout:
        self._number += 1
        self._seconds = dict.fromkeys(self._seconds, 0.0)
        kept: list[Answers] = []
        spare: list[Answers] = []
        sampled: list[Answers] = []
        num_rounds = 0
        while len(kept) < self._plan.prompts and num_rounds <= self._plan.max_refills:
            found = self._sample_and_judge(self._draw(self._plan.prompts - len(kept)), num_rounds)
            sampled, num_rounds = [*sampled, *found], num_rounds + 1
            kept += [answers for answers in found if self._plan.is_useful(answers)]
            spare += [answers for answers in found if not self._plan.is_useful(answers)]
        kept += spare[: self._plan.prompts - len(kept)]
        self.last = kept
        self._facts = rollout_facts(kept, sampled)
        self._facts |= boxes_facts([(self._rows[answers.row], answers) for answers in kept])
        self._facts |= self._judge.facts(self._progress())
        batch = self._batch(kept)
        self._facts |= self._credit.facts()
        self._facts |= {f"time/{name}_seconds": seconds for name, seconds in self._seconds.items()}
        return _Rollout(rows=[answers.row for answers in kept], batch=batch, left=self._order(len(kept)))

    def _progress(self) -> float:
        return min(1.0, self._step / max(1, self._plan.num_steps))

    def _draw(self, num: int) -> list[int]:
        while len(self._drawn) < num:
            self._drawn += next(self._stream)
        taken, self._drawn = self._drawn[:num], self._drawn[num:]
        return taken

    def _sample_and_judge(self, rows: list[int], num_rounds: int) -> list[Answers]:
        seed = int(np.random.SeedSequence([self._plan.seed, self._number, num_rounds]).generate_state(1)[0])
        own = own_share(rows)
        with self._timed("sample"):
            completions = self._sample([self._read(row) for row in own], num=self._plan.group_size, seed=seed)
        with self._timed("judge"):
            judged = self._judge([self._rows[row] for row in own], completions, progress=self._progress())
        mine = [Answers(row=row, completions=c, judged=j) for row, c, j in zip(own, completions, judged, strict=True)]
        found = gathered(mine)
        self._judge.observe([answers.judged for answers in found])
        return found

    def _batch(self, groups: list[Answers]) -> Batch:
        answers = [[completion.token_ids or () for completion in group.completions] for group in groups]
        batch = make_batch([self._read(group.row) for group in groups], answers)
        said = torch.zeros(batch.tokens.shape)
        flat = [(c, j) for group in groups for c, j in zip(group.completions, group.judged, strict=True)]
        for n, (completion, _) in enumerate(flat):
            said[n, : int(batch.lengths[n])] = torch.as_tensor(completion.behaviour_logprobs)
        taught = [self._plan.is_useful(group) or not group.has_signal for group in groups for _ in group.completions]
        scorable = torch.as_tensor([judged.value is not None for _, judged in flat]) & torch.as_tensor(taught)
        if self._plan.drop_cut:
            scorable &= torch.as_tensor([completion.finish_reason != "length" for completion, _ in flat])
        batch = batch.with_columns(rollout_logprobs=said, weight=scorable.float())
        with self._timed("credit"):
            return self._credit(self._scored(batch), [judged for _, judged in flat], scorable)

    def _scored(self, batch: Batch) -> Batch:
        """The batch with what the policy says of it, read in the portions of the first pass's updates.

        Every process reads its share of every update.
        """
        if self._score is None:
            return batch
        own: list[tuple[Tensor, Mapping[str, Tensor]]] = []
        for groups in self._one_pass(np.arange(len(batch.prompts))):
            mine = own_share(groups)
            if mine:
                rows = torch.isin(batch.group, torch.as_tensor(mine)).nonzero().squeeze(1)
                own.append((rows, self._score(batch.select(mine))))
        found: dict[str, Tensor] = {}
        for rows, said in gathered(own):
            for name, values in said.items():
                column = found.setdefault(name, torch.zeros(batch.tokens.shape))
                column[rows, : values.shape[1]] = values
        return batch.with_columns(**found)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._seconds[what] += time.monotonic() - began

    def _order(self, num_groups: int) -> list[list[int]]:
        """Groups of each update: every pass in an order of its own, the first as sampled."""
        found: list[list[int]] = []
        for number in range(self._plan.passes):
            order = np.arange(num_groups)
            if number > 0:
                np.random.default_rng([self._plan.seed, self._number, number]).shuffle(order)
            found += self._one_pass(order)
        return found

    def _one_pass(self, order: np.ndarray) -> list[list[int]]:
        size = self._plan.prompts_per_step
        return [order[start : start + size].tolist() for start in range(0, len(order), size)]


def rollout_facts(kept: Sequence[Answers], sampled: Sequence[Answers]) -> Facts:
    """What is worth knowing of the groups that are learned from: rewards and their parts, lengths, sameness.

    The share of groups without signal is that of all that were sampled, refills included.
    """
    pairs = [(c, j) for group in kept for c, j in zip(group.completions, group.judged, strict=True)]
    values = [judged.value for _, judged in pairs if judged.value is not None]
    lengths = [len(completion.token_ids or ()) for completion, _ in pairs]
    within = [float(np.std(group.values)) for group in kept if group.values]
    found = {
        "reward/mean": _mean(values),
        "reward/std_in_group": _mean(within),
        "rollout/length": _mean(lengths),
        "rollout/cut": _mean([completion.finish_reason == "length" for completion, _ in pairs]),
        "rollout/entropy": -_mean([p for completion, _ in pairs for p in completion.behaviour_logprobs or ()]),
        "rollout/repetition": _mean([repeated_share(completion.text) for completion, _ in pairs]),
        "rollout/distinct": _mean(
            [len({c.text for c in group.completions}) / len(group.completions) for group in kept]
        ),
        "rollout/without_signal": _mean([not group.has_signal for group in sampled if len(group.completions) > 1]),
        "rollout/excluded": _mean([judged.value is None for _, judged in pairs]),
        "rollout/problems": _mean([judged.problem is not None for _, judged in pairs]),
        "rollout/prompts_sampled": float(len(sampled)),
    }
    names = sorted({name for _, judged in pairs for name in judged.parts})
    for name in names:
        found[f"reward/{name}"] = _mean([judged.parts[name] for _, judged in pairs if name in judged.parts])
    return found


def boxes_facts(kept: Sequence[tuple[Prompt, Answers]]) -> Facts:
    """Boxes that answers name over boxes that are there, for the tasks in whose answers there are boxes at all."""
    counted = [
        (prompt, sum(completion.text.count('"bbox_2d"') for completion in answers.completions), answers)
        for prompt, answers in kept
        if "objects" in prompt.truth
    ]
    tasks = {prompt.task for prompt, num_boxes, _ in counted if num_boxes}
    known = [row for row in counted if row[0].task in tasks]
    named = sum(num_boxes for _, num_boxes, _ in known)
    true = sum(len(prompt.truth["objects"]) * len(answers.completions) for prompt, _, answers in known)
    return {"rollout/boxes_per_object": named / true} if named and true else {}


def repeated_share(text: str) -> float:
    """Share of word triples that occurred before in the text: 0 for fresh words, near 1 for a loop."""
    words = text.split()
    triples = [tuple(words[i : i + 3]) for i in range(len(words) - 2)]
    return 1 - len(set(triples)) / len(triples) if triples else 0.0


def _mean(values: Sequence[float | None]) -> float:
    return float(np.mean([float(v) for v in values if v is not None])) if len(values) else 0.0
