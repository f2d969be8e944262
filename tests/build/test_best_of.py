"""Best of N: the answer that the scorer rates highest is the one that counts; scorers are named in three ways."""

from pathlib import Path

import pytest

from sightline import build
from sightline.build.best_of import BestOf, rated_answers, scorer_of
from sightline.build.loading import load_trained, make_inputs
from sightline.cli import main
from sightline.config import ConfigError
from sightline.config.rl import RewardEntry
from sightline.world.prompts import picture_png, task_prompts
from sightline.world.scenes import make_scene

RULE = RewardEntry(name="hallucination")


def test_answers_are_different_and_come_best_first():
    loaded, _ = load_trained("world:base")
    prompts = task_prompts("describe", "test", 6)
    rated = rated_answers(loaded, make_inputs(loaded), prompts, BestOf(num=6, scorer=RULE), max_tokens=64, batch_size=4)
    assert len(rated) == 6
    for answers in rated:
        values = [one.value for one in answers if one.value is not None]
        assert values == sorted(values, reverse=True)
        assert len({one.text for one in answers}) == len(answers)
    assert any(len(answers) > 1 for answers in rated)


def test_choosing_by_the_truth_beats_the_greedy_answer():
    given = {"target": "world:base", "tasks": ["describe"], "scenes": 60}
    greedy = build.evaluate(**given)["describe"]["quality"].estimate
    best = build.evaluate(**given, best_of=BestOf(num=6, scorer=RULE))["describe"]["quality"].estimate
    assert best > greedy + 0.1


def test_sampled_answers_show_their_rating(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "scene.png").write_bytes(picture_png(make_scene("test", 3)))
    words = ["sample", "world:base", "--image", str(tmp_path / "scene.png"), "--prompt", "Describe the picture."]
    words += ["--temperature", "1", "--num", "3", "--scorer", '{"name": "clip", "options": {"model": "world:clip"}}']
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "model's rating" in out
    assert "There is" in out


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("halucination", "did you mean hallucination"),
        ("{name: clip}", "--scorer: this is no JSON"),
        ('{"name": "clip", "wieght": 2}', "--scorer: wieght: unknown key"),
        (".", "--scorer: . holds no run; name a run folder of objective.kind ranking, or a reward"),
    ],
)
def test_mistakes_say_the_cure(text: str, problem: str):
    with pytest.raises((ConfigError, ValueError), match=problem):
        scorer_of(text)


def test_number_and_scorer_go_together(capsys: pytest.CaptureFixture[str]):
    for words in (["--best-of", "4"], ["--scorer", "hallucination"]):
        assert main(["evaluate", "world:base", "--tasks", "describe", *words]) == 2
        assert "go together" in capsys.readouterr().err
