"""What `sightline env` tells, on this machine and on broken ones."""

import json
import subprocess
import sys

import pytest

from sightline import environment as environment_module
from sightline.cli import machine as machine_module
from sightline.cli import main
from sightline.environment import extras


def test_everything_is_told_as_a_table(capsys: pytest.CaptureFixture[str]):
    assert main(["env"]) == 0
    out = capsys.readouterr().out
    for word in ("python", "sightline", "torch", "transformers", "peft", "accelerate", "processor", "memory", "GPU"):
        assert f"\n{word} " in f"\n{out}"
    assert "threads" in out
    assert "arithmetic" in out
    assert "extra judge" in out


def test_and_as_json(capsys: pytest.CaptureFixture[str]):
    assert main(["env", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["packages"]["torch"]
    assert found["machine"]["memory"] > 2**28
    assert 1 <= found["machine"]["cores_allowed"] <= found["machine"]["cores"]
    assert found["torch"]["threads"] >= 1
    assert found["torch"]["arithmetic"] in ("float32", "bfloat16")
    assert {"judge", "serve", "math"} <= set(found["extras"])


def test_variables_that_decide_are_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    main(["env", "--json"])
    variables = json.loads(capsys.readouterr().out)["machine"]["variables"]
    assert variables["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in variables


def test_an_extra_that_is_missing_is_told_with_its_cure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    known = environment_module._version
    monkeypatch.setattr(environment_module, "_version", lambda name: None if name == "uvicorn" else known(name))
    assert extras()["serve"] == ["uvicorn"]
    main(["env"])
    out = " ".join(capsys.readouterr().out.split())
    assert "extra serve without uvicorn: pip install 'sightline[serve]'" in out
    assert "extra judge there" in out


def test_gpus_are_listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    facts = machine_module._facts()
    card = {"name": "Imagined 9000", "memory": 80 * 2**30, "capability": "9.0", "bfloat16": True}
    facts["torch"] |= {"gpus": [card], "cuda": "12.8"}
    monkeypatch.setattr(machine_module, "_facts", lambda: facts)
    main(["env"])
    assert "Imagined 9000, 80.0 GiB, 9.0" in capsys.readouterr().out


def test_a_broken_torch_is_told_and_nothing_else_is_lost():
    code = "import sys; sys.modules['torch'] = None; from sightline.cli import main; sys.exit(main(['env']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stdout.split())
    assert "torch cannot be used (ModuleNotFoundError:" in told
    assert "install it again" in told
    assert "processor" in told
