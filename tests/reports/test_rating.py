"""The section of a reward model."""

import json
from pathlib import Path

from sightline.reports.rating import reward_model
from tests.reports.invented import Reader

ROW = {"estimate": 0.88, "low": 0.85, "high": 0.91, "level": 0.95}
FACTS = {
    "num_comparisons": 1704,
    "members": 4,
    "accuracy": ROW,
    "by_aspect": {"overall": ROW | {"num": 1000}, "faithfulness": ROW | {"num": 704}},
    "by_length": {"chosen_longer": ROW | {"num": 400}, "chosen_shorter": ROW | {"estimate": 0.86, "num": 1000}},
    "temperature": 0.7,
    "lapse": 0.095,
    "calibration_error": {"before": 0.05, "after": 0.01},
    "spread": 0.12,
}


def test_accuracy_stands_beside_what_length_would_explain(tmp_path: Path):
    (tmp_path / "scorer").mkdir()
    (tmp_path / "scorer" / "scorer.json").write_text(json.dumps(FACTS))
    page = Reader(reward_model(tmp_path))
    for words in (
        "1,704",
        "88.0%",
        "faithfulness",
        "the better one is shorter",
        "9.5%",
        "5.0% as they are, 1.0% with these",
    ):
        assert words in page.text, words


def test_a_run_without_one_has_no_section(tmp_path: Path):
    assert reward_model(tmp_path) == ""
