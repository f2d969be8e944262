"""What a model says when it is asked: greedy answers by task and split, samples for diversity, kept as text.

Answers are kept, not figures, so that a figure that is thought of later costs no model. Knows no arms.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from sightline.build.loading import load_trained, make_inputs
from sightline.evaluation.run import judge_task
from sightline.journal import Journal, atomic_write, recipe_of, step_of
from sightline.models.forward import Policy
from sightline.models.inputs import Inputs
from sightline.models.reading import reading_policy
from sightline.models.sampler import SamplingParams, sample
from sightline.studies.schema import Measured, Metric
from sightline.train.checkpoint import read_weights
from sightline.world.prompts import task_prompts
from sightline.world.tasks import find_task

BATCH = 64
SAMPLE_TOKENS = 64


def answers_of(target: str, measure: Measured, primary: Metric, path: Path) -> dict[str, Any]:
    """Answers of a model or run, from `path` where they are already: "greedy", "samples", "along"."""
    wanted = _fingerprint(target, measure, primary)
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["fingerprint"] == wanted:
            return known
    loaded, _ = load_trained(target)
    policy = reading_policy(loaded)
    inputs = make_inputs(loaded)
    found: dict[str, Any] = {
        "fingerprint": wanted,
        "greedy": {key: _greedy(policy, inputs, key, num) for key, num in measure.scenes.items()},
        "samples": _samples(policy, inputs, primary.task, measure),
        "along": _along(target, measure, primary),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(found))
    return found


def task_of(key: str) -> tuple[str, str]:
    """Task and split of a key such as "describe" or "describe@crowd"."""
    task, _, split = key.partition("@")
    return task, split or "test"


def _greedy(policy: Policy, inputs: Inputs, key: str, num: int) -> list[str]:
    task, split = task_of(key)
    return list(judge_task(policy, inputs, find_task(task), task_prompts(task, split, num)).answers)


def _samples(policy: Policy, inputs: Inputs, task: str, measure: Measured) -> dict[str, Any]:
    """Sampled answers to each of some prompts, and the mean entropy per token that sampling saw."""
    if not measure.diversity:
        return {}
    prompts = task_prompts(task, "test", measure.diversity["prompts"])
    params = SamplingParams(temperature=1.0, max_tokens=SAMPLE_TOKENS, seed=0)
    texts: list[list[str]] = []
    surprise: list[tuple[float, float]] = []
    for start in range(0, len(prompts), BATCH):
        tokens = [inputs.prompt(prompt) for prompt in prompts[start : start + BATCH]]
        drawn = sample(policy, tokens, num=measure.diversity["answers"], params=params, ends=inputs.ends)
        texts += [[inputs.text(answer.token_ids) for answer in group] for group in drawn]
        for group in drawn:
            logprobs = [value for answer in group for value in answer.logprobs]
            surprise.append((-sum(logprobs), float(len(logprobs))))
    return {"texts": texts, "surprise": surprise}


def _along(target: str, measure: Measured, primary: Metric) -> dict[str, list[str]]:
    """Greedy answers of every kept checkpoint to some scenes of the primary's task."""
    if not measure.along or recipe_of(target) is None:
        return {}
    loaded, _ = load_trained(target)
    found = {}
    for checkpoint in Journal.open(target).checkpoints():
        read_weights(checkpoint, loaded.trained(), without=("critic.", "rating."))
        policy = reading_policy(loaded)
        found[str(step_of(checkpoint))] = _greedy(policy, make_inputs(loaded), primary.task, measure.along)
    return found


def _fingerprint(target: str, measure: Measured, primary: Metric) -> str:
    latest = Journal.open(target).latest() if recipe_of(target) is not None else None
    weights = "" if latest is None else (latest / "manifest.json").read_text(encoding="utf-8")
    asked = json.dumps([target, measure.model_dump(), primary.task], sort_keys=True)
    return hashlib.sha256((asked + weights).encode()).hexdigest()
