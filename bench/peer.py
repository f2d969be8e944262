"""TRL's DPO and GRPO trainers, driven step by step on inputs that are ready.

The trainers are built by their own constructors, fused head included; a step is their reference pass, their
`training_step` (loss and backward) and the optimiser that they make. Their collators, samplers and reward calls are
left out: preprocessing is outside the clock for both sides. Runs where TRL is installed (`make bench`).
"""

import tempfile
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import ProcessorMixin
from trl import __version__
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from bench.contenders import BETA, KL_WEIGHT, LEARNING_RATE, MAX_GRAD_NORM, Contender, Scene, without_adapters
from bench.shapes import picture
from sightline.batch import Batch
from sightline.models.tiny import TinyShape, make_processor
from sightline.world.vocabulary import CHAT_TEMPLATE, pieces

NAME = f"trl {__version__}"


def peer_step(scene: Scene) -> Contender:
    """TRL's step."""
    grpo = scene.workload.objective == "grpo"
    trainer: Any = _grpo_trainer(scene) if grpo else _dpo_trainer(scene)
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1  # its own loop would set this
    inputs = [(_grpo_inputs if grpo else _dpo_inputs)(scene, batch) for batch in scene.batches]
    trained = list(scene.loaded.trained().values())

    def gradients(number: int) -> float:
        given = dict(inputs[number % len(inputs)])
        with trainer.accelerator.autocast():
            if grpo:
                given["ref_per_token_logps"] = _reference(scene, trainer, given)
            trainer._prepare_inputs = lambda _: given  # what a rollout would have put there
            return float(trainer.training_step(trainer.model, given, None))

    def step(number: int) -> float:
        loss = gradients(number)
        trainer.accelerator.clip_grad_norm_(trained, MAX_GRAD_NORM)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        return loss

    def before() -> None:
        if scene.shape.checkpointing:
            scene.loaded.model.gradient_checkpointing_enable({"use_reentrant": False})

    return Contender(name=NAME, step=step, gradients=gradients, before=before)


@torch.no_grad()
def _reference(scene: Scene, trainer: Any, given: dict[str, Any]) -> Tensor:
    """The pass that TRL makes inside its rollout."""
    kept = {name: given[name] for name in ("pixel_values", "image_grid_thw", "mm_token_type_ids") if name in given}
    with without_adapters(scene):
        found, _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model if scene.reference is None else scene.reference,
            torch.cat([given["prompt_ids"], given["completion_ids"]], 1),
            torch.cat([given["prompt_mask"], given["completion_mask"]], 1),
            given["completion_ids"].shape[1],
            num_images=given["num_images"],
            **kept,
        )
    return found


def _settings(scene: Scene) -> dict[str, Any]:
    return {
        "output_dir": tempfile.mkdtemp(),
        "learning_rate": LEARNING_RATE,
        "bf16": scene.loaded.autocast is not None,
        "gradient_checkpointing": scene.shape.checkpointing,
        "use_cpu": scene.device == "cpu",
        "report_to": "none",
        "max_grad_norm": MAX_GRAD_NORM,
    }


def _processor() -> ProcessorMixin:
    """The constructors ask for one; the inputs are ready, so it is never called."""
    return make_processor(pieces(), CHAT_TEMPLATE, TinyShape())


def _model(scene: Scene) -> Any:
    return scene.loaded.model if scene.loaded.adapter is None else scene.loaded.adapter


def _dpo_trainer(scene: Scene) -> DPOTrainer:
    rows = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c", "images": []}])
    config = DPOConfig(**_settings(scene), beta=BETA, max_length=None)
    model = _model(scene)
    trainer = DPOTrainer(
        model=model, ref_model=scene.reference, args=config, train_dataset=rows, processing_class=_processor()
    )
    if scene.reference is None:
        model.delete_adapter("ref")  # a copy of the fresh adapter; switching it off is the same and cheaper
    return trainer


def _grpo_trainer(scene: Scene) -> GRPOTrainer:
    """With beta 0 it loads no second model from disk; beta and the reference are set afterwards."""
    rows = Dataset.from_list([{"prompt": [{"role": "user", "content": "a"}]}])
    work = scene.workload.work
    config = GRPOConfig(
        **_settings(scene),
        beta=0.0,
        use_bias_correction_kl=False,  # the plain k3, as ours
        loss_type="grpo",
        num_generations=work.answers,
        per_device_train_batch_size=work.rows,
        max_completion_length=work.answer_tokens,
    )
    trainer = GRPOTrainer(
        model=_model(scene),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=rows,
        processing_class=_processor(),
    )
    trainer.beta = KL_WEIGHT
    if scene.reference is not None:
        trainer.ref_model = scene.reference
        add_fused_lm_head(scene.reference)
    return trainer


def _dpo_inputs(scene: Scene, batch: Batch) -> dict[str, Any]:
    """Chosen rows, then rejected rows, as its collator lays them out."""
    order = torch.cat([batch.pairs[:, 0], batch.pairs[:, 1]])
    prompts, answers, vision = _rows(scene, batch, order.tolist())
    scored = torch.cat([torch.zeros_like(prompts), torch.ones_like(answers)], 1)
    ids = torch.cat([prompts, answers], 1)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": scored, **vision}


def _grpo_inputs(scene: Scene, batch: Batch) -> dict[str, Any]:
    prompts, answers, vision = _rows(scene, batch, list(range(batch.num_answers)))
    return {
        "prompt_ids": prompts,
        "prompt_mask": torch.ones_like(prompts),
        "completion_ids": answers,
        "completion_mask": torch.ones_like(answers),
        "advantages": batch.columns["advantages"].float().to(scene.device),
        "num_items_in_batch": torch.tensor(answers.numel(), device=scene.device),
        "num_images": [1] * len(answers),
        **vision,
    }


def _rows(scene: Scene, batch: Batch, order: list[int]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Prompts and answers [N, tokens] (all of one length, so nothing is padded), and each row's own picture."""
    prompts = [batch.prompts[batch.group[row]] for row in order]
    ids = torch.as_tensor([prompt.ids for prompt in prompts]).to(scene.device)
    answers = batch.tokens[order].to(scene.device)
    processor = scene.loaded.processor.image_processor
    pictures = [prompt.images[0] for prompt in prompts]
    given = [picture(scene.shape.side, int(image.key.rsplit("-", 1)[1])) for image in pictures]
    found = {k: v.to(scene.device) for k, v in processor(given, return_tensors="pt").items()}
    if "image_grid_thw" in found:
        filler = (ids == scene.loaded.model.config.image_token_id).long()
        found["mm_token_type_ids"] = torch.cat([filler, torch.zeros_like(answers)], 1)
    return ids, answers, found
