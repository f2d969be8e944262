"""A study as data: one question, what is made before, a grid of runs, what is measured, and what it will not show.

`{out}` in a text stands for the study's folder, `{seed}` for the seed of a run. Knows nothing of how runs are run.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from sightline.config.rl import RewardEntry
from sightline.config.values import STRICT, Count, NotNegative, Positive, Share, Whole


class Metric(BaseModel):
    """One figure of one task."""

    model_config = STRICT

    task: str
    """Task of the embedded world, or diversity."""
    name: str
    """The metric of the task (docs/metrics.md), or of `evaluation.metrics.diversity`."""
    split: str = "test"
    """Split on which it is measured."""
    better: Literal["higher", "lower"] = "higher"
    """Which way is good."""
    label: str | None = None
    """How tables call it; null: task and name."""
    unit: Literal["percent", "number"] = "percent"
    """How it is written; percent takes fractions."""

    @property
    def key(self) -> str:
        """Its name in results: "describe/quality", with the split where it is not the test."""
        return f"{self.task}/{self.name}" + ("" if self.split == "test" else f"@{self.split}")

    @property
    def shown(self) -> str:
        """Its name in tables."""
        return self.label or self.key

    def write(self, value: float) -> str:
        """A value in its unit."""
        return f"{value:.1%}" if self.unit == "percent" else f"{value:.2f}"

    def write_change(self, value: float) -> str:
        """A difference in its unit, with a sign."""
        return f"{value * 100:+.1f} points" if self.unit == "percent" else f"{value:+.2f}"


class Prompts(BaseModel):
    """Questions about scenes, without answers."""

    model_config = STRICT

    make: Literal["prompts"]
    """Questions about scenes, without answers."""
    out: str
    """File, below the study's folder."""
    task: str
    """What is asked."""
    num: Count
    """How many."""
    first: Whole = 0
    """Number of the first scene, so that files share no scene."""
    split: str = "train"
    """Where the scenes come from."""


class Samples(BaseModel):
    """A model's own answers to questions about scenes."""

    model_config = STRICT

    make: Literal["samples"]
    """A model's own answers to questions about scenes."""
    out: str
    """File, below the study's folder."""
    task: str
    """What is asked."""
    num: Count
    """How many questions."""
    answers: Count = 8
    """Sampled answers to each; equal ones are kept once."""
    first: Whole = 0
    """Number of the first scene."""
    split: str = "train"
    """Where the scenes come from."""
    model: str = "world:base"
    """Who answers."""
    temperature: Positive = 1.0
    """Of sampling."""
    max_tokens: Count = 64
    """Answers are cut here."""


class Annotator(BaseModel):
    """A simulated person or judge of the embedded world."""

    model_config = STRICT

    kind: Literal["annotator"]
    """A simulated person, who reads the truth with known noise and biases."""
    name: str = "person"
    """Its name in signals."""
    truth: NotNegative = 1.0
    """Weight of the true quality."""
    length: float = 0.0
    """Bias: worth of a word."""
    slip: NotNegative = 0.0
    """Standard deviation of an error in reading each answer."""
    noise: Share = 0.0
    """Probability that a comparison is turned round after all."""


class ByReward(BaseModel):
    """A reward: a rule, or a model behind a name."""

    model_config = STRICT

    kind: Literal["reward"]
    """A reward by name: a rule, a reward model, similarity, a judge."""
    reward: RewardEntry
    """As in a recipe."""


class Labels(BaseModel):
    """Sampled answers compared by somebody."""

    model_config = STRICT

    make: Literal["labels"]
    """Sampled answers compared by somebody."""
    out: str
    """File, below the study's folder."""
    source: str
    """File of sampled answers, below the study's folder."""
    by: Annotated[Annotator | ByReward, Field(discriminator="kind")]
    """Who compares."""
    num: Count | None = None
    """Groups of the source that are compared, the first ones; null: all."""
    pairs: Literal["all", "best_worst", "balanced"] = "best_worst"
    """Every two that differ; the best against the worst; or one pair that the shorter answer wins and one that the
    longer wins, so that length says nothing."""


class Trained(BaseModel):
    """A run that others build on, such as a reward model."""

    model_config = STRICT

    make: Literal["run"]
    """A run that others build on, such as a reward model."""
    out: str
    """Run folder, below the study's folder."""
    recipe: dict[str, Any]
    """Its blocks; name and folder are filled in."""


Step = Annotated[Prompts | Samples | Labels | Trained, Field(discriminator="make")]


class Arm(BaseModel):
    """One way to train, over the seeds."""

    model_config = STRICT

    recipe: dict[str, Any] = {}
    """Blocks laid over those of the study."""
    family: str | None = None
    """Arms of one family are one line in charts."""
    x: float | None = None
    """Its place on that line (the strength of a KL, say)."""
    seeds: Annotated[tuple[Whole, ...], Field(min_length=1)] | None = None
    """Seeds, where they are not the study's."""
    equal_compute: str | None = None
    """An arm whose tokens this one may spend too: its passes are scaled to that, seed by seed."""
    labels: Whole | None = None
    """Answers that somebody judged for it, where its run does not count them itself."""
    note: str = ""
    """What is special about it."""


class Measured(BaseModel):
    """What is asked of every model."""

    model_config = STRICT

    scenes: dict[str, Count] = Field(min_length=1)
    """Scenes by task, or by task@split."""
    diversity: dict[str, Count] = {}
    """task: prompts of this task whose answers are sampled; answers: how many each."""
    along: Whole = 0
    """Scenes of the primary's task on which every kept checkpoint is measured; 0: none."""


class Chart(BaseModel):
    """Arms of each family as a line: a metric over the arms' x, or over another metric."""

    model_config = STRICT

    title: str
    """What it shows."""
    y: Metric
    """Upwards."""
    x: Metric | None = None
    """Sideways; null: the arms' own x."""
    log: bool = False
    """Whether x is drawn by its logarithm."""
    strength: str = "strength"
    """What the arms' own x is."""
    families: tuple[str, ...] | None = None
    """Which families are drawn; null: all."""

    def x_label(self) -> str:
        """What stands below the chart."""
        return self.strength if self.x is None else self.x.shown


class Stable(BaseModel):
    """When an arm of a family counts as stable: every seed close to the family's best, with variety kept."""

    model_config = STRICT

    within: NotNegative
    """How far any seed may be from the family's best in the primary, in its own unit."""
    diversity: Metric
    """What says how varied answers are."""
    keeps: Share
    """Share of the variety of `against` that must be left."""


class Study(BaseModel):
    """One study, complete."""

    model_config = STRICT

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    """Its name, and the folder that it fills below runs/studies."""
    question: str
    """What it asks."""
    budget: str
    """What is equal for all arms."""
    primary: Metric
    """The figure that decides, fixed beforehand."""
    against: str = "base"
    """The row that others are compared with."""
    seeds: tuple[Whole, ...] = Field(default=(0, 1, 2), min_length=1)
    """Seeds of every arm."""
    rows: dict[str, str] = {"base": "world:base", "ceiling": "world:ceiling"}
    """Models that are measured beside: what is started from, and what could be reached."""
    scale: Positive = 1.0
    """Times the numbers of questions in `prepare`."""
    prepare: tuple[Step, ...] = ()
    """What is made before the runs; anew for every seed where the file's name holds {seed}."""
    base: dict[str, Any]
    """Recipe blocks of every arm."""
    arms: dict[str, Arm] = Field(min_length=1)
    """The grid."""
    measure: Measured
    """What is asked of every model."""
    table: tuple[Metric, ...]
    """Figures of the report, besides the primary."""
    mention: tuple[Metric, ...] = ()
    """Figures whose change is told beside the best arm's, such as what a lower rate of errors was bought with."""
    charts: tuple[Chart, ...] = ()
    """Drawn figures."""
    stable: Stable | None = None
    """When an arm counts as stable; null: that is not asked."""
    not_shown: tuple[str, ...]
    """What the study does not show, said in the report."""
    seconds_per_step: dict[str, Positive] = {}
    """Measured seconds of one update by objective, for the plan's estimate."""
    quick: dict[str, Any] = {}
    """What is laid over the study for a look in minutes: fewer seeds, steps, scenes, arms (an arm set to null goes)."""

    @model_validator(mode="after")
    def _complete(self) -> "Study":
        known = [*self.rows, *self.arms]
        if self.against not in known:
            raise ValueError(f"against names {self.against!r}, which is neither a row nor an arm")
        for name, arm in self.arms.items():
            if arm.equal_compute is not None and arm.equal_compute not in self.arms:
                raise ValueError(f"arms.{name}.equal_compute names {arm.equal_compute!r}, which is no arm")
        return self
