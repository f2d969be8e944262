"""From a recipe to a run and back to its model: bad rows, samples, export."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sightline import build
from sightline.build.loading import load_trained
from sightline.data.files import write_groups
from sightline.journal import Journal, RunError
from sightline.models.load import Loaded
from sightline.models.sampler import SamplingParams, sample
from sightline.records import Completion, Group, Image, Message, Pair, Prompt, RecordError
from tests.tiny import png, tiny_groups, tiny_inputs, tiny_policy, tiny_prompt
from tests.train.runs import tiny_recipe

SHORT = {"steps": 3, "save_every": 3, "samples": 0, "groups_per_step": 4}


def trained(world: Path, out: Path, **blocks: Any) -> tuple[Path, list[str]]:
    said: list[str] = []
    recipe = tiny_recipe(world, out, **({"train": SHORT} | blocks))
    return build.train(recipe, say=said.append, show=lambda step, num_steps, metrics: None), said


def greedy(loaded: Loaded) -> list[str]:
    inputs = tiny_inputs(loaded)
    prompts = [inputs.prompt(tiny_prompt(str(n), num_images=n, seed=n)) for n in range(3)]
    params = SamplingParams(temperature=0, max_tokens=8)
    found = sample(tiny_policy(loaded), prompts, num=1, params=params, ends=loaded.ends)
    return [inputs.text(group[0].token_ids) for group in found]


def bad_groups() -> dict[str, Group]:
    """Groups that cannot be trained on, by what is said of them."""
    good = tiny_groups(1)[0]

    def pictured(image: Image) -> Group:
        message = Message(role="user", content=(image, "What is it?"))
        prompt = Prompt(id="bad", messages=(message,))
        return Group(prompt=prompt, completions=good.completions, signals=good.signals)

    return {
        "no pair": Group(prompt=tiny_prompt("bad"), completions=good.completions),
        "cannot be found below": pictured(Image(path="missing.png")),
        "keep images below the data root": pictured(Image(path="../outside.png")),
        "pixels": pictured(Image(data=png(0, side=64))),
        "tokens": Group(
            prompt=tiny_prompt("bad"),
            completions=(Completion(text=" red" * 30), Completion(text="a")),
            signals=(Pair(chosen=0, rejected=1),),
        ),
    }


@pytest.mark.parametrize("problem", bad_groups())
def test_a_bad_row_stops_the_run_with_file_line_and_cure(problem: str, world: Path, tmp_path: Path):
    file = tmp_path / "data.jsonl"
    write_groups(file, [*tiny_groups(2), bad_groups()[problem]])
    data = {"files": [str(file)], "max_image_pixels": 1000, "max_answer_tokens": 20}
    with pytest.raises(RecordError, match=problem) as caught:
        trained(world, tmp_path / "run", data=data)
    assert str(caught.value).startswith(f"{file}:3: ")
    assert "\n" not in str(caught.value)


def test_skipped_rows_are_counted_said_and_listed(world: Path, tmp_path: Path):
    file = tmp_path / "data.jsonl"
    bad = list(bad_groups().values())
    rows = [*tiny_groups(4), bad[0], bad[2]]
    lines = [row.to_json().replace('"id": "bad"', f'"id": "bad {n}"') for n, row in enumerate(rows)]
    file.write_text("\n".join(lines) + "\n")
    folder, said = trained(world, tmp_path / "run", data={"files": [str(file)], "on_bad": "skip"})
    listed = Journal.open(folder).read_skipped()
    assert [row["line"] for row in listed] == [5, 6]
    assert any(line.startswith("2 bad rows are left out") and "skipped.jsonl" in line for line in said)


def test_files_of_several_folders_find_their_own_pictures(world: Path, tmp_path: Path):
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "picture.png").write_bytes(png(len(files)))
        message = Message(role="user", content=(Image(path="picture.png"), "What is it?"))
        answers = (Completion(text=" red"), Completion(text=" blue"))
        prompt = Prompt(id=name, messages=(message,))
        group = Group(prompt=prompt, completions=answers, signals=(Pair(chosen=0, rejected=1),))
        files.append(tmp_path / name / "data.jsonl")
        write_groups(files[-1], [group])
    folder, _ = trained(world, tmp_path / "run", data={"files": list(map(str, files))})
    assert Journal.open(folder).read_status()["state"] == "done"


@pytest.mark.parametrize("train", ["lora", "full"])
def test_an_exported_run_gives_the_runs_own_greedy_answers(train: str, world: Path, tmp_path: Path):
    folder, _ = trained(world, tmp_path / "run", model={"train": train}, optim={"learning_rate": 0.03})
    wanted = greedy(load_trained(str(folder))[0])
    out = build.export(run=folder, out=tmp_path / "out")
    loaded, recipe = load_trained(str(out))
    assert recipe is None
    assert greedy(loaded) == wanted
    assert wanted != greedy(load_trained(str(world / "model"))[0]), "the run must have changed something"
    with pytest.raises(ValueError, match="is not empty; name a new folder"):
        build.export(run=folder, out=out)


def test_a_model_is_no_run_to_export(world: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="is a model, not a run"):
        build.export(run=world / "model", out=tmp_path / "out")


def test_a_run_without_a_checkpoint_has_no_model_yet(world: Path, tmp_path: Path):
    folder, _ = trained(world, tmp_path / "run")
    for checkpoint in Journal.open(folder).checkpoints():
        checkpoint.rename(tmp_path / "away")
    with pytest.raises(RunError, match="has no checkpoint yet"):
        load_trained(str(folder))


def test_a_damaged_checkpoint_is_refused(world: Path, tmp_path: Path):
    folder, _ = trained(world, tmp_path / "run")
    latest = Journal.open(folder).latest()
    assert latest is not None
    with (latest / "weights.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\x00\x01\x02\x03")
    with pytest.raises(RunError, match=r"is damaged: weights\.safetensors is not the file that was written"):
        load_trained(str(folder))


def test_samples_of_a_run_show_base_beside_tuned(world: Path, tmp_path: Path):
    folder, _ = trained(world, tmp_path / "run", optim={"learning_rate": 0.03})
    (tmp_path / "picture.png").write_bytes(png(0))
    found = build.sample(target=str(folder), images=[tmp_path / "picture.png"], prompt="What is it?", max_tokens=6)
    assert [who for who, _ in found] == ["base", "tuned"]
    assert found[0][1] != found[1][1]


def test_sampled_answers_go_to_the_run_folder_with_their_step_from_before_the_first_on(world: Path, tmp_path: Path):
    folder, _ = trained(world, tmp_path / "run", train=SHORT | {"samples": 2, "steps": 4, "save_every": 2})
    rows = Journal.open(folder).read_samples()
    assert [(row["step"], row["prompt"]) for row in rows] == [(step, prompt) for step in (0, 2, 4) for prompt in "01"]
    assert all(row["preferred"] for row in rows)


def test_a_finished_run_that_is_resumed_stays_as_it_is(world: Path, tmp_path: Path):
    folder, _ = trained(world, tmp_path / "run")
    before = (folder / "metrics.jsonl").read_text()
    build.resume(folder, say=lambda line: None, show=lambda step, num_steps, metrics: None)
    assert (folder / "metrics.jsonl").read_text() == before
    assert Journal.open(folder).read_status()["state"] == "done"


def test_a_run_says_what_it_used(world: Path, tmp_path: Path):
    folder, said = trained(world, tmp_path / "run")
    assert json.loads((folder / "environment.json").read_text())["packages"]["torch"]
    assert Journal.open(folder).recipe()["reference"]["kind"] == "cached"
    assert any("log-probs of 24 answers computed" in line for line in said)


def test_data_check_needs_no_weights_and_finds_tokens_beyond_the_vocabulary(world: Path, tmp_path: Path):
    recipe = tiny_recipe(world, tmp_path / "run")
    shutil.copytree(recipe.model.path, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    fine, bad = Completion(text="red", token_ids=(5, 2)), Completion(text="red", token_ids=(5_000_000, 2))
    write_groups(tmp_path / "kept.jsonl", [Group(prompt=tiny_prompt("x"), completions=(fine, bad))])
    found = build.check_data(files=[tmp_path / "kept.jsonl"], model=str(tmp_path / "model"))
    assert [row.field for row in found.bad_rows] == ["completions[1].text"]
    assert found.bad_rows[0].problem.startswith("token_ids hold 5000000, and the model knows ")


def test_data_check_lists_answers_with_a_token_that_is_no_text(world: Path, tmp_path: Path):
    asked, fine = tiny_prompt("x"), Completion(text=" red")
    for name, bad in (("text", Completion(text="red</s> blue")), ("kept", Completion(text="red", token_ids=(9, 2, 9)))):
        write_groups(tmp_path / f"{name}.jsonl", [Group(prompt=asked, completions=(fine, bad))])
    recipe = tiny_recipe(world, tmp_path / "run")
    found = build.check_data(files=[tmp_path / "text.jsonl", tmp_path / "kept.jsonl"], model=recipe.model.path)
    assert [(row.field, row.problem) for row in found.bad_rows] == [
        ("completions[1].text", "spells '</s>', which ends an answer"),
        ("completions[1].text", "holds '</s>' inside, which ends an answer"),
    ]


def test_a_start_that_failed_does_not_block_another_recipe(world: Path, tmp_path: Path):
    file = tmp_path / "bad.jsonl"
    write_groups(file, [*tiny_groups(2), next(iter(bad_groups().values()))])
    with pytest.raises(RecordError):
        trained(world, tmp_path / "run", data={"files": [str(file)]})
    folder, _ = trained(world, tmp_path / "run", optim={"learning_rate": 0.01})
    assert Journal.open(folder).read_status()["state"] == "done"
    with pytest.raises(RunError, match=r"holds a run of another recipe \(optim.learning_rate is 0.02 and was 0.01\)"):
        trained(world, tmp_path / "run", optim={"learning_rate": 0.02})
