"""Runs prompts through a policy and scores the answers; the same code judges every model of a comparison."""

from collections.abc import Sequence
from dataclasses import dataclass

from sightline.evaluation.metrics import gather, mean_average_precision
from sightline.evaluation.statistics import Interval, Ratio
from sightline.evaluation.tasks import EvaluationTask, Scores
from sightline.models.forward import Policy
from sightline.models.inputs import Inputs
from sightline.models.sampler import SamplingParams, sample
from sightline.progress import phase
from sightline.records import Prompt
from sightline.rewards.boxes import LabelledBox


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Answers to the prompts of one task, with their scores."""

    task: str
    """Name of the task."""
    prompts: tuple[Prompt, ...]
    """What was asked."""
    answers: tuple[str, ...]
    """Greedy answers, in order."""
    scores: tuple[Scores, ...]
    """Scores of each."""
    true_boxes: tuple[Sequence[LabelledBox], ...] = ()
    """True boxes of each prompt, for detection."""

    def ratios(self) -> dict[str, Ratio]:
        """One ratio per metric."""
        return gather(self.scores)

    def mean_average_precision(self) -> Interval:
        """For detection."""
        return mean_average_precision(self.answers, self.true_boxes)


def judge_task(
    policy: Policy,
    inputs: Inputs,
    task: EvaluationTask,
    prompts: Sequence[Prompt],
    *,
    batch_size: int = 128,
) -> Judged:
    """Greedy answers to prompts of one task, scored against their truth."""
    params = SamplingParams(temperature=0.0, max_tokens=task.max_tokens)
    answers: list[str] = []
    with phase(f"{task.name}, answers", len(prompts)) as answered:
        for start in range(0, len(prompts), batch_size):
            part = [inputs.prompt(prompt) for prompt in prompts[start : start + batch_size]]
            groups = sample(policy, part, num=1, params=params, ends=inputs.ends)
            answers += [inputs.text(group[0].token_ids) for group in groups]
            answered.reach(len(answers))
    return judge_answers(task, prompts, answers)


def judge_answers(task: EvaluationTask, prompts: Sequence[Prompt], answers: Sequence[str]) -> Judged:
    """Given answers, scored against their truth."""
    boxes = () if task.true_boxes is None else tuple(task.true_boxes(prompt.truth) for prompt in prompts)
    return Judged(
        task=task.name,
        prompts=tuple(prompts),
        answers=tuple(answers),
        scores=tuple(task.score(answer, prompt.truth) for answer, prompt in zip(answers, prompts, strict=True)),
        true_boxes=boxes,
    )
