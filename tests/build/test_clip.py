"""The contrastive model: what its loss counts, what the shipped weights tell apart, and one result for one seed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from sightline.build.clip import bring_up_clip, contrastive_loss
from sightline.build.clip_card import (
    SHOWN,
    TOLD_APART,
    Judged,
    as_picture,
    better_first,
    rank_correlation,
    retrieved,
    told_apart,
    write_clip_card,
)
from sightline.build.upbringing import world_build
from sightline.evaluation.statistics import Interval
from sightline.models.contrast import ContrastiveScorer, load_contrastive
from sightline.models.tiny_clip import ClipShape, make_clip, make_clip_processor
from sightline.world.scenes import Scene, make_scene
from sightline.world.stages import CLIP_FIRST_INDEX, FIRST_INDEX, STAGES
from sightline.world.tasks import make_question, sentence
from sightline.world.vocabulary import words
from sightline.world.weights import FOLDER

SCALE = 0.003


@pytest.fixture(scope="module")
def shipped() -> ContrastiveScorer:
    return ContrastiveScorer(load_contrastive(str(FOLDER / "clip"), device="cpu"), picture_batch=50)


@pytest.fixture(scope="module")
def shown() -> list[Scene]:
    return [make_question("describe", "test", i).scene for i in range(100)]


def test_a_caption_that_is_true_of_another_picture_is_no_negative_for_it():
    processor = make_clip_processor(words(), ClipShape())
    model = make_clip(processor, ClipShape(), seed=0)
    scene = make_scene("train", CLIP_FIRST_INDEX)
    with torch.no_grad():
        once, twice = (contrastive_loss(model, processor, [scene] * num, seed=0).item() for num in (1, 2))
        other = contrastive_loss(model, processor, [scene, make_scene("train", CLIP_FIRST_INDEX + 1)], seed=0).item()
    assert twice == pytest.approx(once, abs=1e-3)
    assert other > once + 0.1


def test_its_scenes_are_those_of_no_other_stage():
    assert FIRST_INDEX + sum(stage.num_steps * stage.scenes_per_step for stage in STAGES) < CLIP_FIRST_INDEX


def test_the_shipped_model_tells_mistakes_apart(shipped: ContrastiveScorer, shown: list[Scene]):
    assert told_apart(shipped, shown, TOLD_APART["hallucinated"]).mean() > 0.9
    assert told_apart(shipped, shown, TOLD_APART["swapped"]).mean() > 0.85
    assert told_apart(shipped, shown, TOLD_APART["missing"]).mean() > 0.75
    assert retrieved(shipped, shown).mean() > 0.7


def test_the_shipped_model_looks_at_the_picture(shipped: ContrastiveScorer, shown: list[Scene]):
    texts = [sentence(scene.labels) for scene in shown]
    right = np.mean(shipped.score([as_picture(scene) for scene in shown], texts))
    wrong = np.mean(shipped.score([as_picture(scene) for scene in shown[1:] + shown[:1]], texts))
    assert right > wrong + 0.3


def test_rank_correlation_is_spearmans_with_an_interval_around_it():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 9, 300).astype(float)
    others = values + rng.normal(0, 3, 300)
    found = rank_correlation(values, others, np.arange(300) // 3, seed=0)
    assert found.estimate == pytest.approx(spearmanr(values, others).statistic)
    assert found.low < found.estimate < found.high < found.low + 0.3
    assert rank_correlation(others, others**3, np.arange(300), seed=0).estimate == pytest.approx(1)


def test_the_better_answer_is_sought_among_answers_to_one_picture():
    judged = Judged(
        scene=np.asarray([0, 0, 0, 1, 1, 2]),
        similarity=np.asarray([0.9, 0.5, 0.6, 0.9, 0.1, 0.0]),
        quality=np.asarray([1.0, 0.5, 0.0, 0.5, 0.5, 1.0]),
        words=np.ones(6),
    )
    assert better_first(judged).tolist() == [pytest.approx(2 / 3)]


def test_the_card_has_a_row_for_every_ability_and_the_shipped_one_is_written_like_it(tmp_path: Path):
    abilities = dict.fromkeys(SHOWN, Interval(estimate=0.5, low=0.4, high=0.6))
    card = write_clip_card(tmp_path, abilities, {"mean": 0.5, "deviation": 0.2}, seconds="9 seconds", scenes=7)
    assert all(f"| {row} | " in card.read_text() for row in SHOWN.values())

    def without_numbers(path: Path) -> str:
        return "".join(letter for letter in path.read_text() if letter not in "0123456789.-")

    assert without_numbers(FOLDER / "clip" / "CARD.md") == without_numbers(card)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_a_finished_stage_is_kept(tmp_path: Path):
    said: list[str] = []

    def built(name: str, seed: int) -> bytes:
        folder = bring_up_clip(tmp_path / name, ceiling=FOLDER / "ceiling", seed=seed, scale=SCALE, say=said.append)
        return (folder / "model.safetensors").read_bytes()

    whole = built("once", 1)
    assert built("twice", 1) == whole
    assert built("other", 2) != whole
    assert sum("kept from before" in line for line in said) == 0
    assert built("once", 3) == whole
    assert sum("kept from before" in line for line in said) == 1


@pytest.mark.slow
def test_the_contrastive_model_can_be_built_alone_with_its_card(tmp_path: Path):
    world_build(out=tmp_path, scale=SCALE, only="clip", say=lambda line: None)
    kept = json.loads((tmp_path / "clip" / "abilities.json").read_text())
    assert kept["scenes"] == 20
    assert list(kept["abilities"]) == list(SHOWN)
    assert (tmp_path / "clip" / "CARD.md").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"9-captions", "clip"}
    load_contrastive(str(tmp_path / "clip"))
