"""What a run that trained a reward model knows of it: accuracy on held-out comparisons, by aspect and by length.

Reads what the run left in its folder `scorer/`. Knows no models.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.evaluation.statistics import Interval
from sightline.reports.charts import interval_chart
from sightline.reports.page import compact, definitions, percent, section
from sightline.run_files import RunError, read_json

FILE = Path("scorer") / "scorer.json"
LENGTHS = {
    "chosen_longer": "the better one is longer",
    "equally_long": "both are equally long",
    "chosen_shorter": "the better one is shorter",
}


def reward_model(folder: Path) -> str:
    """The section; empty for a run that trained none."""
    path = folder / FILE
    if not path.is_file():
        return ""
    facts = read_json(path)
    try:
        return _section(facts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"{path}: does not say what is known of a reward model ({error!r})"
        raise RunError(f"{problem}; put it back from a copy, or train anew") from error


def _section(facts: Mapping[str, Any]) -> str:
    error = facts["calibration_error"]
    shown = {
        "comparisons held out": f"{facts['num_comparisons']:,}",
        "members of the ensemble": facts["members"],
        "temperature": compact(facts["temperature"]),
        "lapse": percent(facts["lapse"]),
        "calibration error": f"{percent(error['before'])} as they are, {percent(error['after'])} with these two",
        "mean spread of the members": compact(facts["spread"]),
    }
    rows = {"all": _interval(facts["accuracy"])}
    rows |= {name: _interval(row) for name, row in facts["by_aspect"].items() if len(facts["by_aspect"]) > 1}
    by_length = {LENGTHS[name]: _interval(row) for name, row in facts["by_length"].items()}
    charts = interval_chart(rows, title="Comparisons ranked right", form=percent, marks={"a coin": 0.5})
    charts += interval_chart(
        by_length, title="The same, by which answer is longer", form=percent, marks={"a coin": 0.5}
    )
    lead = (
        "Measured on comparisons that were not trained on. A reward model that ranks right only where the better "
        "answer is longer has learned length. The lapse is how often the contrary was said where the ratings leave no "
        "doubt: what the source errs at random, and the ratings where they are sure."
    )
    return section("Reward model", f'{definitions(shown)}<div class="charts">{charts}</div>', anchor="rated", lead=lead)


def _interval(row: Mapping[str, Any]) -> Interval:
    return Interval(estimate=row["estimate"], low=row["low"], high=row["high"])
