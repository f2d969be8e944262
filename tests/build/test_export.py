"""What leaves the house: a folder that transformers and peft load, with ordinary permissions and an honest card."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

from sightline import build
from sightline.build.loading import load_trained
from sightline.build.model_card import licence_of
from sightline.journal import RunFailed
from tests.train.runs import tiny_recipe

FIGURES = {
    "target": "runs/x",
    "split": "test",
    "scenes": 50,
    "tasks": {"describe": {"hallucination": {"estimate": 0.25, "low": 0.2, "high": 0.3}}},
}


def names(folder: str | Path) -> list[str]:
    return sorted(file.name for file in Path(folder).iterdir())


class FakeHub:
    """Keeps what it is told; errs when it is asked to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[dict[str, Any]] = []
        self.error = error

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        self.calls.append({"repo": repo_id, "private": private})

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        self.calls.append({"repo": repo_id, "files": names(folder_path), "message": commit_message})
        if self.error is not None:
            raise self.error


def trained(world: Path, out: Path, **blocks: Any) -> Path:
    recipe = tiny_recipe(world, out, train={"steps": 3, "save_every": 3, "groups_per_step": 4}, **blocks)
    return build.train(recipe, say=lambda line: None, show=lambda step, num_steps, metrics: None)


@pytest.fixture(scope="module")
def run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = {"validation_files": [str(world / "validation.jsonl")]}
    out = tmp_path_factory.mktemp("run") / "run"
    return trained(world, out, data=data, model={"train": "lora"}, optim={"learning_rate": 0.03})


def logits(model: Any, processor: Any) -> torch.Tensor:
    ids = processor.tokenizer("red blue", return_tensors="pt").input_ids
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
@pytest.mark.parametrize("keep_adapter", [False, True])
def test_files_have_the_permissions_that_the_user_gives_new_files(
    umask: int, keep_adapter: bool, run: Path, tmp_path: Path
):
    before = os.umask(umask)
    try:
        out = build.export(run=run, out=tmp_path / "out", keep_adapter=keep_adapter)
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in out.iterdir()}
    assert modes == dict.fromkeys(modes, 0o666 & ~umask)
    assert stat.S_IMODE(out.stat().st_mode) == 0o777 & ~umask


def test_the_folder_loads_with_transformers_alone(run: Path, tmp_path: Path):
    out = build.export(run=run, out=tmp_path / "out")
    model = AutoModelForImageTextToText.from_pretrained(out, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(out)
    ours, _ = load_trained(str(run))
    assert torch.allclose(logits(model, processor), logits(ours.model, ours.processor), atol=1e-4)


def test_an_adapter_names_its_base_and_loads_with_peft(run: Path, world: Path, tmp_path: Path):
    out = build.export(run=run, out=tmp_path / "out", keep_adapter=True)
    named = json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert Path(named) == (world / "model").resolve()
    base = AutoModelForImageTextToText.from_pretrained(named, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(out))
    ours, _ = load_trained(str(run))
    assert torch.allclose(logits(model, ours.processor), logits(ours.model, ours.processor), atol=1e-4)


def test_an_adapter_alone_is_refused_where_more_was_trained(world: Path, tmp_path: Path):
    folder = trained(world, tmp_path / "run", model={"train": "lora", "train_projector": True})
    with pytest.raises(ValueError, match="trained the projector too, which an adapter's file does not hold"):
        build.export(run=folder, out=tmp_path / "out", keep_adapter=True)
    assert not (tmp_path / "out").exists()


def test_the_card_says_where_it_comes_from_and_how_good_it_is(run: Path, tmp_path: Path):
    (tmp_path / "numbers.json").write_text(json.dumps(FIGURES))
    figures = build.read_figures(tmp_path / "numbers.json")
    out = build.export(run=run, out=tmp_path / "out", figures=figures)
    card = (out / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "transformers"
    assert front["pipeline_tag"] == "image-text-to-text"
    assert "license" not in front
    assert "base_model" not in front
    assert "not known here; look at its own card" in card
    assert "trained by `dpo`" in card
    assert "| describe | hallucination | 0.250 | 0.200 to 0.300 |" in card
    assert 'from_pretrained("out")' in card
    assert "objective:\n  kind: dpo" in card
    assert "On the run's validation rows, as training saw them last (no intervals)" in card
    assert "- `train.jsonl`\n- `validation.jsonl`, for validation alone" in card
    assert str(run.parent) not in card, "no path of this machine"
    assert json.loads((out / "figures.json").read_text()) == FIGURES


def test_without_figures_the_card_says_so(world: Path, tmp_path: Path):
    folder = trained(world, tmp_path / "run")
    card = (build.export(run=folder, out=tmp_path / "out") / "README.md").read_text()
    assert "`sightline evaluate` measures, and `export --figures FILE` writes them here" in card


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"tasks": {"a": {"b": {"estimate": 1}}}}', '{"tasks": 5}', "[" * 5000, "no JSON"]
)
def test_what_is_no_evaluation_is_refused(content: str, tmp_path: Path):
    (tmp_path / "numbers.json").write_text(content)
    with pytest.raises(ValueError, match=r"numbers.json holds no figures of an evaluation; give a file that"):
        build.read_figures(tmp_path / "numbers.json")


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n# x", "mit"), ("# no front", None), ("---\nlicense: [a]\n---\n", None),
        ("---\n!!python/object:os.system x\n---\n", None), ("---\nlicense: <script>\n---\n", None), (None, None),
    ],
)  # fmt: skip
def test_the_licence_is_that_of_the_bases_own_card(card: str | None, licence: str | None, tmp_path: Path):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert licence_of(str(tmp_path)) == licence
    assert licence_of("world:base") == "apache-2.0"


def test_a_push_makes_a_private_repository_of_the_whole_folder(run: Path, tmp_path: Path):
    hub = FakeHub()
    out = build.export(run=run, out=tmp_path / "out", push="me/aligned", hub=hub)
    made, sent = hub.calls
    assert made == {"repo": "me/aligned", "private": True}
    assert sent["files"] == names(out)
    assert {"README.md", "config.json", "model.safetensors"} <= set(sent["files"])
    assert 'from_pretrained("me/aligned")' in (out / "README.md").read_text()
    public = FakeHub()
    build.export(run=run, out=tmp_path / "open", push="me/aligned", public=True, hub=public)
    assert public.calls[0]["private"] is False


def test_an_upload_that_fails_leaves_a_whole_folder_and_says_how_to_go_on(run: Path, tmp_path: Path):
    hub = FakeHub(OSError("403 Forbidden: you do not own me/aligned"))
    with pytest.raises(RunFailed, match=r"me/aligned could not be written \(403 .*is whole: `hf upload me/aligned"):
        build.export(run=run, out=tmp_path / "out", push="me/aligned", hub=hub)
    assert load_trained(str(tmp_path / "out"))[1] is None


@pytest.mark.parametrize("name", ["aligned", "me/", "../x", "me/a/b", "me/a b", "https://huggingface.co/me/a"])
def test_what_is_no_repository_is_refused_before_anything_is_loaded(name: str, run: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="write the owner and the name, such as me/aligned-model"):
        build.export(run=run, out=tmp_path / "out", push=name, hub=FakeHub())
    assert not (tmp_path / "out").exists()


def test_without_a_key_nothing_is_loaded(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ValueError, match=r"needs a key for the hub, and there is none; run `hf auth login`, or"):
        build.export(run=run, out=tmp_path / "out", push="me/aligned")
