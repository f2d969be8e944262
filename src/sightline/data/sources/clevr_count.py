"""CLEVR counting as R1-V publishes it (`clevr_cogen_a_train`): how many things of some kind a rendered scene shows.

Rows of image, problem and a solution such as `<answer> 3 </answer>`.
"""

from collections.abc import Iterator

from sightline.data.sources.contract import Found, Outcome, Published
from sightline.data.sources.parts import question, text_of, value_of
from sightline.data.sources.tables import Row, converted
from sightline.fields import expect
from sightline.records import Prompt


def clevr_count(published: Published, /, *, suffix: str = "") -> Iterator[Found]:
    """Questions for a number of things, with the true number."""

    def convert(row: Row, number: int) -> Outcome:
        image = published.pictures.image(value_of(row, "image"), "image")
        prompt = Prompt(
            id=f"clevr_count-{number}",
            task="count",
            messages=(question(text_of(row, "problem"), [image], suffix=suffix),),
            truth={"count": _count(text_of(row, "solution"))},
        )
        return Outcome(prompt=prompt)

    return converted(published.paths, convert, columns=("image", "problem", "solution"))


def _count(solution: str) -> int:
    bare = solution.removeprefix("<answer>").removesuffix("</answer>").strip()
    good = bare.isascii() and bare.isdigit() and len(bare) < 10
    expect(good, "solution", f"is {solution[:60]!r}", "write a whole number, as in <answer> 3 </answer>")
    return int(bare)
