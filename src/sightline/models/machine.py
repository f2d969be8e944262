"""What torch says of this machine: instructions, threads, GPUs, and the arithmetic that is fast here."""

from typing import Any

import torch

from sightline.models.arithmetic import arithmetic


def torch_facts() -> dict[str, Any]:
    """As plain values, for people and for programs; it measures for about a second."""
    gpus = [_gpu(number) for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    chosen = arithmetic()
    return {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "gpus": gpus,
        "arithmetic": chosen.dtype,
        "arithmetic_why": chosen.why,
    }


def _gpu(number: int) -> dict[str, Any]:
    facts = torch.cuda.get_device_properties(number)
    return {
        "name": facts.name,
        "memory": facts.total_memory,
        "capability": f"{facts.major}.{facts.minor}",
        "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
    }
