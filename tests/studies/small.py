"""A study small enough for a test: the embedded model, two updates, a handful of scenes."""

from typing import Any

from sightline.studies.schema import Study


def small_study(**changes: Any) -> Study:
    """DPO on a person's comparisons against imitation for as many tokens, one seed."""
    values: dict[str, Any] = {
        "name": "small",
        "question": "Which is better?",
        "budget": "Two updates.",
        "primary": {"task": "describe", "name": "quality"},
        "seeds": [0],
        "rows": {"base": "world:base"},
        "prepare": [
            {"make": "samples", "out": "samples-{seed}.jsonl", "task": "describe", "num": 8, "answers": 4},
            {
                "make": "labels",
                "out": "pairs-{seed}.jsonl",
                "source": "samples-{seed}.jsonl",
                "by": {"kind": "annotator"},
                "pairs": "best_worst",
            },
            {"make": "prompts", "out": "prompts.jsonl", "task": "describe", "num": 8},
        ],
        "base": {
            "model": {"path": "world:base", "train": "full"},
            "data": {"files": ["{out}/pairs-{seed}.jsonl"]},
            "objective": {"kind": "dpo"},
            "train": {"steps": 2, "groups_per_step": 2, "save_every": 1, "keep_checkpoints": 2, "samples": 0},
        },
        "arms": {"dpo": {}, "sft": {"equal_compute": "dpo", "recipe": {"objective": {"kind": "sft"}}}},
        "measure": {"scenes": {"describe": 6}, "along": 4},
        "table": [],
        "not_shown": ["Much."],
    }
    return Study.model_validate(values | changes)
