"""A run as on a processor that multiplies in bfloat16 slowly: AVX2 alone, which these settings make of any x86-64."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sightline.journal import Journal
from tests.train.runs import save_world, tiny_recipe, write_recipe

SLOW_IN_BFLOAT16 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or torch.cuda.is_available(), reason="no x86-64 that computes itself"
)
def test_a_run_on_such_a_processor_computes_in_float32(tmp_path: Path):
    save_world(tmp_path)
    recipe = tiny_recipe(tmp_path, tmp_path / "run", model={"dtype": "auto"}, train={"steps": 2, "save_every": 2})
    command = [sys.executable, "-m", "sightline.cli", "train", write_recipe(recipe, tmp_path / "recipe.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | SLOW_IN_BFLOAT16, check=False)
    assert done.returncode == 0, done.stderr
    assert "arithmetic: float32 (bfloat16 is " in done.stdout + done.stderr
    assert Journal.open(tmp_path / "run").recipe()["model"]["dtype"] == "float32"
