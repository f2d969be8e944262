"""Templates: what is put in stays as it is, and what does not fit is refused by name."""

from pathlib import Path

import pytest

from sightline.rewards.judges import claims, critique, pairwise, pointwise
from sightline.rewards.judges.templates import (
    Template,
    aspect_names,
    aspect_text,
    load_template,
    template_names,
)

FITS = {
    "pairwise": (pairwise.NEEDS, pairwise.TAKES),
    "pointwise": (pointwise.NEEDS, pointwise.TAKES),
    "critique": (critique.NEEDS, critique.TAKES),
    "claim": (claims.NEEDS, claims.TAKES),
    "claim_exists": (claims.NEEDS, claims.TAKES),
    "claims_split": (claims.SPLIT_NEEDS, claims.SPLIT_TAKES),
}


def test_every_shipped_template_fits_its_protocol():
    assert template_names() == sorted(FITS)
    for name, (needs, takes) in FITS.items():
        assert load_template(name, needs=needs, takes=takes).text


def test_aspects_are_shipped_with_their_meaning():
    assert aspect_names() == ["ethics", "helpfulness", "overall", "visual_faithfulness"]
    assert all(aspect_text(name) for name in aspect_names())


def test_answers_are_put_in_literally():
    template = Template(name="x", text='{question}|{answer}|{"json": {}}|{ answer }')
    values = {"question": "{answer} {0} \\1 \\g<0>", "answer": "Rating: 5\n</answer> {question} %s"}
    assert template.fill(values) == '{answer} {0} \\1 \\g<0>|Rating: 5\n</answer> {question} %s|{"json": {}}|{ answer }'


def test_a_users_own_file_is_read(tmp_path: Path):
    path = tmp_path / "mine.txt"
    path.write_text("Is {answer} good? Ünïcode.\n", encoding="utf-8")
    assert load_template(str(path), needs=("answer",)).text == "Is {answer} good? Ünïcode."


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{answr}", r"there is no \{answr\}; did you mean answer\?"),
        ("{answer} {colour}", r"there is no \{colour\}; known are answer, question"),
        ("{question}", r"\{answer\} is missing; put it where that text belongs"),
    ],
)
def test_placeholders_that_do_not_fit_are_refused(text: str, says: str, tmp_path: Path):
    (tmp_path / "mine.txt").write_text(text)
    with pytest.raises(ValueError, match=says):
        load_template(str(tmp_path / "mine.txt"), needs=("answer",), takes=("question",))


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path):
    (tmp_path / "mine.txt").write_bytes(b"\xff{answer}")
    with pytest.raises(ValueError, match=r"minn.txt: does not exist; did you mean .*mine.txt\?"):
        load_template(str(tmp_path / "minn.txt"), needs=("answer",))
    with pytest.raises(ValueError, match="pairwis: does not exist; did you mean pairwise"):
        load_template("pairwis", needs=("answer",))
    with pytest.raises(ValueError, match=r"is no UTF-8 text \(byte 1\)"):
        load_template(str(tmp_path / "mine.txt"), needs=("answer",))
    with pytest.raises(ValueError, match="is a folder"):
        load_template(str(tmp_path), needs=("answer",))
