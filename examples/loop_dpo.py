"""DPO in one readable loop: sample, judge, batch, score, loss, step, evaluate.

Reads top to bottom and uses the library's parts directly: no recipe, no run folder, no command line. A small model that
names what is not in the picture is aligned with the judgements of a simulated person (one in ten is wrong), and both
are measured on the same scenes. A minute or two on two CPU cores:

    python examples/loop_dpo.py
    python examples/loop_dpo.py --model FOLDER --scenes 200

What a real run has besides (micro-batches, several processes, checkpoints, resume, the check of the fast forward
against the plain one) is in `sightline.build.train`; `recipes/dpo_world.yaml` is this loop as a recipe.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded: idle threads sleep instead of spinning

import torch
from torch import Tensor

from sightline.batch import Batch, PromptTokens, make_batch
from sightline.data.images import ImageStore
from sightline.data.stream import Stream
from sightline.evaluation.run import Judged, judge_task
from sightline.evaluation.statistics import absolute_change, ratio
from sightline.models.forward import Policy
from sightline.models.inputs import Inputs
from sightline.models.load import choose_trained, load_model
from sightline.models.reference import Reference, frozen_copy
from sightline.models.sampler import SamplingParams, sample
from sightline.objectives.logprobs import answer_totals
from sightline.objectives.preference import dpo
from sightline.records import Completion, Group, Pair, Prompt
from sightline.train.optim import make_optimiser, make_schedule
from sightline.world.annotators import annotate
from sightline.world.prompts import task_prompts
from sightline.world.tasks import find_task
from sightline.world.weights import resolve

BETA = 0.1
ANCHOR = 0.1  # weight of the chosen answer's likelihood: it keeps the model naming what is there
LEARNING_RATE = 3e-5
PAIRS_PER_STEP = 16
TASK = find_task("describe")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One pair as tokens: what was asked, the better answer, the worse one."""

    prompt: PromptTokens
    """The prompt with its picture."""
    chosen: tuple[int, ...]
    """Tokens of the better answer, as they were sampled."""
    rejected: tuple[int, ...]
    """Tokens of the worse answer."""


def main() -> None:
    """The whole story."""
    asked = arguments()
    torch.manual_seed(asked.seed)

    # 1. A model. Its language model is trained; tower and projector stay as they are, so each picture is encoded once.
    loaded = choose_trained(load_model(resolve(asked.model)), train="full")
    policy = Policy(loaded.model, loaded.family, autocast=loaded.autocast, keep_batch=64)
    store = ImageStore(None, max_pixels=10**6, max_bytes=2**20)
    inputs = Inputs(processor=loaded.processor, family=loaded.family, turns=loaded.turns, store=store)
    reference = frozen_copy(policy, loaded)

    # 2. What it says before.
    test = task_prompts(TASK.name, "test", asked.test_scenes, seed=asked.seed)
    before = judge_task(policy, inputs, TASK, test)
    print(f"before: {rates(before)}")

    # 3. Its own answers to other scenes, compared by a simulated person.
    train = task_prompts(TASK.name, "train", asked.scenes, seed=asked.seed)
    groups = [annotate(group, "person", seed=asked.seed) for group in sampled(policy, inputs, train, asked.seed)]
    examples = [example for group in groups for example in best_pair(inputs, group)]
    print(f"{len(examples)} of {len(groups)} scenes gave a pair; in the others all answers were alike")
    if not examples:
        raise SystemExit("there is nothing to learn from; take another model or more scenes")

    # 4. Raise the better answer over the worse one.
    learn(policy, reference, examples, epochs=asked.epochs, seed=asked.seed)

    # 5. What it says now, on the same scenes.
    after = judge_task(policy, inputs, TASK, test)
    print(f"after:  {rates(after)}")
    for name in ("hallucination", "coverage"):
        change = absolute_change(before.ratios()[name], after.ratios()[name], seed=asked.seed)
        points, low, high = (100 * value for value in (change.estimate, change.low, change.high))
        print(f"{name}: {points:+.1f} points (95% interval {low:+.1f} to {high:+.1f})")


def sampled(policy: Policy, inputs: Inputs, prompts: Sequence[Prompt], seed: int) -> list[Group]:
    """Six answers to each prompt; equal ones are kept once."""
    params = SamplingParams(temperature=1.0, max_tokens=TASK.max_tokens, seed=seed)
    groups = []
    for start in range(0, len(prompts), 64):
        part = prompts[start : start + 64]
        tokens = [inputs.prompt(prompt) for prompt in part]
        answers = sample(policy, tokens, num=6, params=params, ends=inputs.ends)
        for prompt, some in zip(part, answers, strict=True):
            distinct = dict.fromkeys(answer.token_ids for answer in some)
            completions = tuple(Completion(text=inputs.text(ids), token_ids=ids) for ids in distinct)
            groups.append(Group(prompt=prompt, completions=completions))
        print(f"sampled {len(groups)} of {len(prompts)} scenes")
    return groups


def best_pair(inputs: Inputs, group: Group) -> list[Example]:
    """The pair with the greatest difference, if the annotator saw one."""
    pairs = [signal for signal in group.signals if isinstance(signal, Pair)]
    return [
        Example(
            prompt=inputs.prompt(group.prompt),
            chosen=inputs.answer(group.completions[pair.chosen]),
            rejected=inputs.answer(group.completions[pair.rejected]),
        )
        for pair in pairs[:1]  # an annotator gives the clearest pair first
    ]


def learn(policy: Policy, reference: Reference, examples: Sequence[Example], *, epochs: float, seed: int) -> None:
    """One update for each batch of pairs, in a seeded order."""
    stream = Stream(len(examples), seed=seed, batch_size=PAIRS_PER_STEP, epochs=epochs)
    num_steps = stream.num_batches or 0
    trained = [parameter for parameter in policy.model.parameters() if parameter.requires_grad]
    optimiser = make_optimiser(trained, learning_rate=LEARNING_RATE)
    schedule = make_schedule("linear", learning_rate=LEARNING_RATE, num_steps=num_steps, warmup_fraction=0.1)
    for step, numbers in enumerate(stream):
        for group in optimiser.param_groups:
            group["lr"] = schedule(step)
        loss, num_right = preference_loss(policy, reference, pair_batch([examples[i] for i in numbers]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if step % 10 == 0 or step == num_steps - 1:
            print(f"step {step + 1} of {num_steps}: loss {loss.item():.4f}, pairs right {num_right}/{len(numbers)}")


def pair_batch(examples: Sequence[Example]) -> Batch:
    """Prompts once each, two answers hanging on every one; answers 0 and 1 are a pair, 2 and 3 the next."""
    return make_batch(
        [example.prompt for example in examples],
        [[example.chosen, example.rejected] for example in examples],
        pairs=[(2 * i, 2 * i + 1) for i in range(len(examples))],
    )


def preference_loss(policy: Policy, reference: Reference, batch: Batch) -> tuple[Tensor, int]:
    """DPO with a likelihood anchor, and how many pairs the policy has on the right side of the reference."""
    logprobs = policy.score(batch).logprobs  # [answers, tokens]; each prompt and picture ran once
    now, then = answer_totals(logprobs, batch.mask), answer_totals(reference(batch), batch.mask)
    chosen, rejected = batch.pairs.unbind(1)
    losses = dpo(now[chosen], now[rejected], then[chosen], then[rejected], beta=BETA)
    # One batch is one step here, so means are right; with micro-batches divide totals by the whole step's counts.
    anchor = -(logprobs * batch.mask)[chosen].sum() / batch.mask[chosen].sum()
    margins = (now - then)[chosen] - (now - then)[rejected]
    return losses.mean() + ANCHOR * anchor, int((margins > 0).sum())


def rates(judged: Judged) -> str:
    """What was hallucinated and what was named, with 95% intervals."""
    bad, good = (ratio(judged.ratios()[name], seed=0) for name in ("hallucination", "coverage"))
    return (
        f"{bad.estimate:.1%} ({bad.low:.1%} to {bad.high:.1%}) of mentioned objects are not in the picture, "
        f"{good.estimate:.1%} ({good.low:.1%} to {good.high:.1%}) of its objects are named"
    )


def arguments() -> argparse.Namespace:
    """What may be changed from outside."""
    parser = argparse.ArgumentParser(description="DPO in one readable loop.")
    parser.add_argument("--model", default="world:base", help="an embedded model or a checkpoint folder")
    parser.add_argument("--scenes", type=int, default=600, help="training scenes to sample answers to")
    parser.add_argument("--test-scenes", type=int, default=500, help="scenes that both models are measured on")
    parser.add_argument("--epochs", type=float, default=1, help="passes over the pairs")
    parser.add_argument("--seed", type=int, default=0, help="decides scenes, samples, judgements and order")
    return parser.parse_args()


if __name__ == "__main__":
    main()
