"""Talking with a run: base beside tuned, each with its own memory, pictures where they were shown."""

from pathlib import Path
from typing import Any

import pytest

from sightline import build
from sightline.build import talk as talk_module
from sightline.build.talk import open_talk
from sightline.records import Image
from tests.tiny import png
from tests.train.runs import tiny_recipe


@pytest.fixture(scope="module")
def run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    train = {"steps": 3, "save_every": 3, "groups_per_step": 4}
    recipe = tiny_recipe(world, out, train=train, model={"train": "lora"}, optim={"learning_rate": 0.03})
    return build.train(recipe, say=lambda line: None, show=lambda step, num_steps, metrics: None)


def test_base_answers_beside_tuned_and_each_remembers_its_own_words(run: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[Any, ...]] = []
    plain = talk_module.chat

    def noting(policy: Any, inputs: Any, chats: Any, **options: Any) -> Any:
        asked.append(chats[0].messages)
        return plain(policy, inputs, chats, **options)

    monkeypatch.setattr(talk_module, "chat", noting)
    talk = open_talk(target=str(run), max_tokens=4, temperature=1.0)
    talk.pictures.append(Image(data=png(1)))
    first = talk.ask("What is it?")
    assert [one.name for one in first] == ["base", "tuned"]
    assert talk.pictures == []
    talk.ask("Sure?")
    for number, one in enumerate(first):
        picture, said, again = asked[2 + number]
        assert picture.content == (Image(data=png(1)), "What is it?")
        assert (said.role, said.content) == ("assistant", (one.text,))
        assert again.content == ("Sure?",)
    talk.start_anew()
    talk.ask("Hello")
    assert [message.content for message in asked[-1]] == [("Hello",)]


def test_the_base_can_be_left_out_and_a_model_talks_alone(run: Path, world: Path):
    assert [one.name for one in open_talk(target=str(run), base=False, max_tokens=2).ask("Hello")] == ["tuned"]
    assert [one.name for one in open_talk(target=str(world / "model"), max_tokens=2).ask("Hello")] == ["model"]


def test_a_question_that_cannot_be_read_is_forgotten_and_its_picture_waits(world: Path):
    talk = open_talk(target=str(world / "model"), max_tokens=2)
    talk.pictures.append(Image(data=png(1)))
    [said] = talk.ask("What? <image>")
    assert said.problem is not None
    assert talk.speakers[0].turns == ()
    assert len(talk.pictures) == 1
    assert talk.ask("What?")[0].problem is None


def test_each_question_has_its_own_draw_and_the_seed_decides_it(world: Path):
    def answers(seed: int) -> list[str]:
        talk = open_talk(target=str(world / "model"), temperature=1.0, max_tokens=12, seed=seed)
        found = []
        for _ in range(3):
            talk.start_anew()
            found.append(talk.ask("Hello")[0].text)
        return found

    first = answers(1)
    assert first == answers(1)
    assert len({*first, *answers(7)}) > 2
