"""The parity certificate: TRL's own trainers and ours on the same data in the same order, 20 steps in float32.

    python -m bench.parity --json bench/results/parity.json

TRL runs as its users run it: its constructor, its collator, its loop, its optimiser and, for GRPO, its own rollout code
with the drawn tokens handed in. Ours reads the same pictures and texts through its own reader, makes its own
advantages, reference and sampler's log-probs, and updates with its own engine. Only losses and gradient norms are
compared; nothing is passed from one side to the other but the drawn tokens. docs/bench.md says where conventions
differ and how ours is set to theirs.
"""

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset
from PIL import Image as Pillow
from trl import __version__ as trl_version
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from bench.contenders import unbanned
from sightline.batch import Batch, make_batch
from sightline.data.images import ImageStore
from sightline.models.families import LLAVA
from sightline.models.forward import Policy
from sightline.models.inputs import Inputs
from sightline.models.load import Loaded, choose_trained
from sightline.models.reference import frozen_copy
from sightline.models.tiny import TinyShape, load_tiny, make_model, make_processor
from sightline.objectives.advantages import grpo
from sightline.objectives.objective import Objective
from sightline.objectives.preference import dpo_objective
from sightline.objectives.reinforcement import grpo_objective
from sightline.records import Completion, Image, Message, Prompt
from sightline.train.engine import Engine
from sightline.train.feeds import with_reference
from sightline.train.optim import make_optimiser
from sightline.world.vocabulary import CHAT_TEMPLATE, pieces

STEPS, BOUND = 20, 1e-4
PAIRS, PROMPTS, ANSWERS, MAX_TOKENS = 4, 2, 8, 24
BETA, KL_WEIGHT, LEARNING_RATE, MAX_GRAD_NORM, EPSILON = 0.1, 0.04, 1e-4, 1.0, 1e-8
SHAPE = TinyShape()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What one side reports of each step."""

    losses: list[float]
    """Loss before the update."""
    norms: list[float]
    """Norm of the gradient before clipping."""
    tokens: list[list[int]]
    """Rows of prompt and answer tokens of the first step, sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A picture, a question and, for DPO, two answers."""

    png: bytes
    """The picture."""
    text: str
    """The question."""
    answers: tuple[str, str]
    """Better and worse."""


def main() -> None:
    """All three certificates."""
    parser = argparse.ArgumentParser(description="Loss traces of TRL and ours.")
    parser.add_argument("--json", type=Path, default=None, help="file for the certificate")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as folder:
        processor = make_processor(pieces(), CHAT_TEMPLATE, SHAPE)
        model = Path(folder) / "model"
        make_model(processor, SHAPE, seed=0).save_pretrained(model)
        processor.save_pretrained(model)
        found = [
            compared("dpo", *dpo_traces(model, processor)),
            compared("grpo", *grpo_traces(model, processor, "grpo", "sequence")),
            compared("grpo, loss_type dapo", *grpo_traces(model, processor, "dapo", "token")),
        ]
    versions = {"trl": trl_version, "transformers": transformers.__version__, "torch": torch.__version__}
    if asked.json:
        asked.json.write_text(json.dumps({"bound": BOUND, **versions, "certificates": found}, indent=1) + "\n")
    sys.exit(not all(one["holds"] for one in found))


def compared(name: str, theirs: Trace, mine: Trace) -> dict[str, Any]:
    """The certificate: differences relative to the largest value of the trace, which GRPO's small losses need."""
    assert theirs.tokens == mine.tokens, "both sides must read the same tokens"
    loss, norm = (apart(getattr(mine, k), getattr(theirs, k)) for k in ("losses", "norms"))
    holds = loss <= BOUND and len(mine.losses) == STEPS
    print(
        f"{name}: losses differ by {loss:.1e}, gradient norms by {norm:.1e} over {len(mine.losses)} steps", flush=True
    )
    return {
        "objective": name,
        "steps": len(mine.losses),
        "loss_difference": loss,
        "gradient_norm_difference": norm,
        "holds": holds,
        "trl": {"losses": theirs.losses, "gradient_norms": theirs.norms},
        "sightline": {"losses": mine.losses, "gradient_norms": mine.norms},
    }


def apart(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """Largest difference over the largest value."""
    return max(abs(a - b) for a, b in zip(mine, theirs, strict=True)) / max(map(abs, theirs))


def dpo_traces(folder: Path, processor: Any) -> tuple[Trace, Trace]:
    """TRL's, then ours, on the same pairs."""
    questions = [question(n) for n in range(STEPS * PAIRS)]
    model = trainable(folder, processor).model
    rows = [
        {
            "images": [Pillow.open(io.BytesIO(q.png))],
            "prompt": [{"role": "user", "content": q.text}],
            "chosen": [{"role": "assistant", "content": q.answers[0]}],
            "rejected": [{"role": "assistant", "content": q.answers[1]}],
        }
        for q in questions
    ]
    config = DPOConfig(
        **settings(),
        per_device_train_batch_size=PAIRS,
        beta=BETA,
        max_length=None,
        train_sampling_strategy="sequential",
    )
    trainer = DPOTrainer(model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=processor)
    theirs = followed(trainer, lambda given: tokens_of(given["input_ids"], given["attention_mask"]))
    loaded = trainable(folder, processor)
    inputs = reader(loaded)
    batches = []
    for start in range(0, len(questions), PAIRS):
        part = questions[start : start + PAIRS]
        answers = [[inputs.answer(Completion(text=text)) for text in q.answers] for q in part]
        pairs = [(2 * n, 2 * n + 1) for n in range(len(part))]
        batches.append(make_batch([inputs.prompt(asked(q)) for q in part], answers, pairs=pairs))
    return theirs, followed_ours(loaded, dpo_objective(beta=BETA), batches, updates=1)


def grpo_traces(folder: Path, processor: Any, loss_type: str, aggregation: str) -> tuple[Trace, Trace]:
    """TRL's, then ours, on the same prompts and the same drawn tokens, two updates on each rollout."""
    questions = [question(n) for n in range(STEPS // 2 * PROMPTS)]
    drawn: list[list[list[int]]] = []

    def rollout(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        rng = np.random.default_rng(len(drawn))
        answers = [draw(rng, len(processor.tokenizer)) for _ in prompts]
        drawn.append(answers)
        ids, _, _ = trainer._tokenize_prompts(prompts)
        return {"prompt_ids": ids, "completion_ids": answers, "logprobs": None}

    rows = [
        {"images": [Pillow.open(io.BytesIO(q.png))], "prompt": [{"role": "user", "content": q.text}]} for q in questions
    ]
    config = GRPOConfig(
        **settings(),
        per_device_train_batch_size=PROMPTS * ANSWERS,
        num_generations=ANSWERS,
        num_iterations=2,
        steps_per_generation=1,
        max_completion_length=MAX_TOKENS,
        beta=KL_WEIGHT,
        use_bias_correction_kl=False,
        loss_type=loss_type,
        epsilon_high=0.2,
        shuffle_dataset=False,
    )
    trainer = GRPOTrainer(
        model=trainable(folder, processor).model,
        reward_funcs=lambda completion_ids, **_: [reward(ids) for ids in completion_ids],
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=processor,
        rollout_func=rollout,
    )
    theirs = followed(trainer, rollout_tokens)
    loaded = trainable(folder, processor)
    inputs = reader(loaded)
    batches = []
    for number, answers in enumerate(drawn):
        part = questions[number * PROMPTS : (number + 1) * PROMPTS]
        groups = [answers[n * ANSWERS : (n + 1) * ANSWERS] for n in range(PROMPTS)]
        batch = make_batch([inputs.prompt(asked(q)) for q in part], groups)
        rewards = torch.tensor([reward(ids) for ids in answers])
        batches.append(batch.with_columns(advantages=grpo(rewards, batch.group)))
    objective = grpo_objective(kl_weight=KL_WEIGHT, aggregation=aggregation)
    return theirs, followed_ours(loaded, objective, batches, updates=2)


def followed(trainer: Any, tokens: Callable[[dict[str, Any]], list[list[int]]]) -> Trace:
    """TRL's training, its losses and gradient norms written down as it goes."""
    losses, norms, first = [], [], []
    compute = trainer.compute_loss

    def noted(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if not first:
            first.extend(tokens(inputs))
        loss = compute(model, inputs, *args, **kwargs)
        losses.append(float(loss))
        return loss

    clip = trainer.accelerator.clip_grad_norm_

    def clipped(*args: Any, **kwargs: Any) -> Any:
        norm = clip(*args, **kwargs)
        norms.append(float(norm))
        return norm

    trainer.compute_loss, trainer.accelerator.clip_grad_norm_ = noted, clipped
    trainer.train()
    return Trace(losses=losses, norms=norms, tokens=first)


def followed_ours(loaded: Loaded, objective: Objective, batches: Sequence[Batch], *, updates: int) -> Trace:
    """Our training: reference and sampler's log-probs by our own forward, then updates."""
    policy = Policy(loaded.model, loaded.family)
    reference = frozen_copy(policy, loaded)
    engine = Engine(
        policy=policy,
        objective=objective,
        optimiser=make_optimiser(loaded.trained().values(), learning_rate=LEARNING_RATE, epsilon=EPSILON),
        schedule=lambda step: LEARNING_RATE,
        token_budget=2048,
        max_grad_norm=MAX_GRAD_NORM,
        quarantine=lambda batch, step, why: "nowhere",
    )
    losses, norms = [], []
    for batch in batches:
        batch = with_reference(batch, reference)
        with torch.no_grad():
            batch = batch.with_columns(behaviour_logprobs=policy.score(batch).logprobs)
        for _ in range(updates):
            metrics = engine.update(batch)
            losses.append(metrics["loss/total"])
            norms.append(metrics["optim/grad_norm"])
    first = batches[0]
    rows = [
        [*first.prompts[p].ids, *row[:n]]
        for p, row, n in zip(first.group.tolist(), first.tokens.tolist(), first.lengths.tolist(), strict=True)
    ]
    return Trace(losses=losses, norms=norms, tokens=sorted(rows))


def settings() -> dict[str, Any]:
    """What both trainers of TRL are told."""
    return {
        "output_dir": tempfile.mkdtemp(),
        "max_steps": STEPS,
        "learning_rate": LEARNING_RATE,
        "adam_epsilon": EPSILON,
        "lr_scheduler_type": "constant",
        "max_grad_norm": MAX_GRAD_NORM,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }


def trainable(folder: Path, processor: Any) -> Loaded:
    """The model from its folder, all of it trained, media tokens left in the distribution as in TRL."""
    model = load_tiny(folder).requires_grad_(False).eval()
    model.set_attn_implementation("sdpa")
    loaded = Loaded(model=model, processor=processor, family=unbanned(LLAVA), dtype="float32")
    return choose_trained(loaded, train="full", train_tower=True, train_projector=True)


def reader(loaded: Loaded) -> Inputs:
    """Our reader of prompts with pictures inside their rows."""
    store = ImageStore(None, max_pixels=10**6, max_bytes=10**6)
    return Inputs(processor=loaded.processor, family=loaded.family, turns=loaded.turns, store=store)


def question(seed: int) -> Question:
    """Noise, and answers of random words, of different lengths."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (SHAPE.image_size, SHAPE.image_size, 3), dtype=np.uint8)
    held = io.BytesIO()
    Pillow.fromarray(pixels).save(held, "PNG")
    known = [word for word in pieces() if word.startswith(" ") and word.strip().isalpha() and word != " ASSISTANT"]
    texts = ["".join(rng.choice(known, rng.integers(2, 20))) for _ in range(3)]
    return Question(png=held.getvalue(), text=f"List{texts[0]}", answers=(f"There{texts[1]}", f"There{texts[2]}"))


def asked(one: Question) -> Prompt:
    """The question as a record."""
    return Prompt(id=one.text, messages=(Message(role="user", content=(Image(data=one.png), one.text)),))


def draw(rng: np.random.Generator, vocabulary: int) -> list[int]:
    """An answer of random tokens and random length."""
    return rng.integers(4, vocabulary, rng.integers(3, MAX_TOKENS + 1)).tolist()


def reward(ids: Sequence[int]) -> float:
    """Share of even tokens: something to learn."""
    return sum(token % 2 == 0 for token in ids) / len(ids)


def rollout_tokens(given: dict[str, Any]) -> list[list[int]]:
    """Rows of a rollout as TRL holds them."""
    ids = torch.cat([given["prompt_ids"], given["completion_ids"]], 1)
    return tokens_of(ids, torch.cat([given["prompt_mask"], given["completion_mask"]], 1))


def tokens_of(ids: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    """Real tokens of padded rows, sorted."""
    return sorted(row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True))


if __name__ == "__main__":
    main()
