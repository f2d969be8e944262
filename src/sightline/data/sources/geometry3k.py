"""Geometry3K as `hiyouga/geometry3k` publishes it: school geometry with a drawing and a short answer.

Rows of images, a problem in which `<image>` stands for the drawing, and the answer as text, often LaTeX.
"""

from collections.abc import Iterator

from sightline.data.sources.contract import Found, Outcome, Published
from sightline.data.sources.parts import question, text_of, value_of
from sightline.data.sources.tables import Row, converted
from sightline.fields import expect
from sightline.records import Prompt


def geometry3k(published: Published, /, *, suffix: str = "") -> Iterator[Found]:
    """Problems with their answers, for the rewards math, number and text_distance."""

    def convert(row: Row, number: int) -> Outcome:
        values = value_of(row, "images")
        good = isinstance(values, list) and len(values) > 0
        expect(good, "images", "is not a list of pictures", "give at least one")
        images = [published.pictures.image(value, f"images[{i}]") for i, value in enumerate(values)]
        prompt = Prompt(
            id=f"geometry3k-{number}",
            task="geometry",
            messages=(question(text_of(row, "problem"), images, suffix=suffix),),
            truth={"answer": text_of(row, "answer")},
        )
        return Outcome(prompt=prompt)

    return converted(published.paths, convert, columns=("images", "problem", "answer"))
