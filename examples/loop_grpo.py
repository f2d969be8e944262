"""GRPO in one readable loop: sample, judge by a rule, compare, step, evaluate.

Reads top to bottom and uses the library's parts directly: no recipe, no run folder, no command line. A small model that
misses boxes and shifts them is rewarded by a rule that looks at its boxes (Vision-R1's, with labels and surplus boxes
counted), and is measured before and after on the same scenes. A few minutes on two CPU cores:

    python examples/loop_grpo.py
    python examples/loop_grpo.py --steps 50 --test-scenes 200

What a real run has besides (judges in processes of their own, refills, monitors, checkpoints, resume) is in
`sightline.build.train`; `recipes/vision_r1_world.yaml` is this loop as a recipe.
"""

import argparse
import os
from collections.abc import Sequence

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded: idle threads sleep instead of spinning

import torch
from torch import Tensor

from sightline.batch import Batch, PromptTokens, make_batch
from sightline.data.images import ImageStore
from sightline.evaluation.run import judge_task
from sightline.evaluation.statistics import absolute_change
from sightline.models.forward import Policy
from sightline.models.inputs import Inputs
from sightline.models.load import choose_trained, load_model
from sightline.models.sampler import SamplingParams, sample
from sightline.objectives.advantages import grpo
from sightline.objectives.surrogates import clipped_surrogate, token_ratio
from sightline.records import Completion, Prompt
from sightline.rewards.contract import RewardContext, scored
from sightline.rewards.detection import vision_r1
from sightline.train.optim import make_optimiser
from sightline.world.prompts import task_prompts
from sightline.world.scenes import CANVAS
from sightline.world.tasks import find_task
from sightline.world.weights import resolve

LEARNING_RATE = 5e-5
PROMPTS, ANSWERS = 16, 8
TASK = find_task("detect")


def main() -> None:
    """The whole story."""
    asked = arguments()
    torch.manual_seed(asked.seed)

    # 1. A model. Its language model is trained; tower and projector stay as they are, so each picture is encoded once.
    loaded = choose_trained(load_model(resolve(asked.model)), train="full")
    policy = Policy(loaded.model, loaded.family, autocast=loaded.autocast)
    store = ImageStore(None, max_pixels=10**6, max_bytes=2**20)
    inputs = Inputs(processor=loaded.processor, family=loaded.family, turns=loaded.turns, store=store)
    trained = [parameter for parameter in loaded.model.parameters() if parameter.requires_grad]
    optimiser = make_optimiser(trained, learning_rate=LEARNING_RATE)

    # 2. How well it finds things before.
    test = task_prompts(TASK.name, "test", asked.test_scenes, seed=asked.seed)
    before = judge_task(policy, inputs, TASK, test)

    # 3. Answers of its own, judged by the rule; what is better than its neighbours becomes more likely.
    for step in range(asked.steps):
        prompts = task_prompts(TASK.name, "train", PROMPTS, seed=asked.seed, first=step * PROMPTS)
        batch, rewards = rollout(policy, inputs, prompts, seed=step)
        batch = batch.with_columns(advantages=grpo(rewards, batch.group))
        loss = policy_loss(policy, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if step % 10 == 0 or step == asked.steps - 1:
            print(f"step {step + 1} of {asked.steps}: mean reward {rewards.mean():.3f} of 3")

    # 4. How well it finds things now, on the same scenes.
    after = judge_task(policy, inputs, TASK, test)
    old, new = (judged.mean_average_precision().estimate for judged in (before, after))
    print(f"mAP: {old:.1%} before, {new:.1%} after")
    for name in ("recall_50", "precision_50", "iou"):
        change = absolute_change(before.ratios()[name], after.ratios()[name], seed=asked.seed)
        points, low, high = (100 * value for value in (change.estimate, change.low, change.high))
        print(f"{name}: {points:+.1f} points (95% interval {low:+.1f} to {high:+.1f})")


def rollout(policy: Policy, inputs: Inputs, prompts: Sequence[Prompt], *, seed: int) -> tuple[Batch, Tensor]:
    """Sampled answers, and the reward of each [N]."""
    tokens: list[PromptTokens] = [inputs.prompt(prompt) for prompt in prompts]
    params = SamplingParams(temperature=1.0, max_tokens=TASK.max_tokens, seed=seed)
    groups = sample(policy, tokens, num=ANSWERS, params=params, ends=inputs.ends)
    batch = make_batch(tokens, [[answer.token_ids for answer in group] for group in groups])
    rewards = [reward(prompts[p], inputs.text(a.token_ids)) for p, group in enumerate(groups) for a in group]
    return batch, torch.tensor(rewards)


def reward(prompt: Prompt, text: str) -> float:
    """Format, recall and precision of the boxes, 0 to 3."""
    size = (prompt.truth["width"], prompt.truth["height"])
    context = RewardContext(truth=prompt.truth, image_size=size, seen_size=(CANVAS, CANVAS))
    score = scored(vision_r1(Completion(text=text), context, phase="off"))
    assert score is not None
    return score.value


def policy_loss(policy: Policy, batch: Batch) -> Tensor:
    """Clipped policy gradient, a mean over all tokens; every rollout has one update, so its ratio is 1."""
    logprobs = policy.score(batch).logprobs  # [answers, tokens]; each prompt and picture ran once
    ratio = token_ratio(logprobs, logprobs.detach(), batch.mask)
    losses = clipped_surrogate(ratio, batch.columns["advantages"][:, None])
    return (losses * batch.mask).sum() / batch.mask.sum()


def arguments() -> argparse.Namespace:
    """What may be changed from outside."""
    parser = argparse.ArgumentParser(description="GRPO in one readable loop.")
    parser.add_argument("--model", default="world:base", help="an embedded model or a checkpoint folder")
    parser.add_argument("--steps", type=int, default=200, help="updates")
    parser.add_argument("--test-scenes", type=int, default=500, help="scenes that the model is measured on")
    parser.add_argument("--seed", type=int, default=0, help="decides scenes and samples")
    return parser.parse_args()


if __name__ == "__main__":
    main()
