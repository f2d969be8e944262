"""The learning steps that are measured, by set; the first set has the bounds that Sightline states."""

from bench.operations import Work
from bench.shapes import QWEN_7B, QWEN_TINY, Shape, Workload, llava

SHORT, LONG = llava(224), llava(336)


def workload(
    shape: Shape,
    objective: str,
    sizes: tuple[int, int, int],
    *,
    trained: bool,
    keep_reference: bool = False,
    least_ratio: float | None = None,
    most_memory: float | None = None,
) -> Workload:
    """One step of `sizes` (prompts, answers to each, tokens of an answer); a frozen tower's features are kept."""
    prompts, answers, tokens = sizes
    towered = "tower trained" if trained else "tower frozen, features kept"
    kept = ", reference kept" if keep_reference else ""
    return Workload(
        name=f"{objective} {prompts}x{answers}x{tokens}, {shape.name}, {towered}{kept}",
        shape=shape,
        objective=objective,
        work=Work(
            prompts=prompts,
            prompt_tokens=shape.prompt_tokens,
            answers=answers,
            answer_tokens=tokens,
            tower_trained=trained,
            keep_features=not trained,
            keep_reference=keep_reference,
        ),
        least_ratio=least_ratio,
        most_memory=most_memory,
    )


SETS: dict[str, tuple[Workload, ...]] = {
    "stated": (
        workload(SHORT, "dpo", (8, 2, 45), trained=True, least_ratio=2.0),
        workload(SHORT, "dpo", (8, 2, 45), trained=False, keep_reference=True, least_ratio=2.5),
        workload(SHORT, "grpo", (4, 8, 64), trained=True, least_ratio=3.8, most_memory=1 / 2),
        workload(LONG, "grpo", (2, 16, 32), trained=False, least_ratio=9.0, most_memory=1 / 4),
        workload(SHORT, "grpo", (4, 8, 256), trained=True, least_ratio=1.8),
    ),
    "more": (
        workload(SHORT, "dpo", (8, 2, 32), trained=True),
        workload(SHORT, "dpo", (8, 2, 256), trained=True),
        workload(SHORT, "grpo", (4, 8, 32), trained=True),
        workload(SHORT, "grpo", (2, 16, 64), trained=True),
    ),
    "qwen2.5-vl-tiny": (
        workload(QWEN_TINY, "dpo", (8, 2, 45), trained=True),
        workload(QWEN_TINY, "grpo", (4, 8, 64), trained=True),
        workload(QWEN_TINY, "grpo", (2, 16, 32), trained=False),
    ),
    "qwen2.5-vl-7b": (
        workload(QWEN_7B, "dpo", (8, 2, 150), trained=False),
        workload(QWEN_7B, "grpo", (4, 8, 128), trained=False),
        workload(QWEN_7B, "grpo", (2, 16, 128), trained=False),
        workload(QWEN_7B, "grpo", (2, 8, 512), trained=False),
    ),
}
