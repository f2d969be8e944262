"""The judge recipe: who judges and how, checked to the last key before anything heavy is imported.

The line under a field is its entry in docs/judges.md; a test holds the two together. Read and merged like a run's
recipe (`load`). Knows nothing of endpoints, models and templates, nor of what the values do.
"""

import importlib.util
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from sightline.config.load import origin_of, read_merged
from sightline.config.mistakes import ConfigError, first_mistake
from sightline.config.values import STRICT, Count, NotNegative, Positive, Share, Whole, check_pattern
from sightline.rewards.masking import shown_url

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


class Price(BaseModel):
    """What tokens cost, in any currency."""

    model_config = STRICT

    input: NotNegative = 0.0
    """Of a million tokens of questions."""
    output: NotNegative = 0.0
    """Of a million tokens of replies."""


class EndpointJudge(BaseModel):
    """An OpenAI-compatible server."""

    model_config = STRICT

    kind: Literal["endpoint"]
    """An OpenAI-compatible server: a provider's, vLLM, or `sightline serve`."""
    base_url: str
    """Address of its API; usually ends in /v1."""
    model: str = Field(min_length=1)
    """The model, as the server calls it."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; the key itself stands nowhere. null: no key is sent."""
    concurrency: Count = 8
    """Requests in flight at most."""
    requests_per_minute: Positive | None = None
    """Requests begun at most, evenly spaced; null: no limit but concurrency."""
    timeout: Positive = 120.0
    """Seconds after which a request has failed, whatever has arrived of its response by then."""
    retries: Whole = 5
    """Times that a question is tried again after 429, 5xx, a time-out or a lost connection; nothing else is."""
    backoff: Positive = 1.0
    """Seconds before the first of these, doubled each time (with jitter) up to a minute; Retry-After comes first."""
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """How the server calls the limit on a reply's tokens."""
    extra: dict[str, Any] = {}
    """Further fields of every request, as the server documents them."""
    price: Price = Price()
    """What tokens cost; for the summary alone."""

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", value):
            raise ValueError(f"is {shown_url(value)!r}; write the whole address, such as http://127.0.0.1:8000/v1")
        return value

    @field_validator("api_key_env")
    @classmethod
    def _is_name(cls, value: str | None) -> str | None:
        if value is not None and not _VARIABLE.fullmatch(value):
            raise ValueError("is no name of an environment variable; write a name such as OPENAI_API_KEY, never a key")
        return value


class ModelJudge(BaseModel):
    """A model in this process."""

    model_config = STRICT

    kind: Literal["model"]
    """A model in this process: the policy itself, or another."""
    path: str = Field(min_length=1)
    """A run folder, `world:base` or `world:ceiling`, a folder with a model, or a hub id."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """What it computes in; `auto`: a run as its recipe says, a model in what is fastest here."""
    batch_size: Count = 32
    """Questions at a time; memory follows it."""


class NamedAspect(BaseModel):
    """One thing that answers are judged by."""

    model_config = STRICT

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Its name in signals; alone it stands for a shipped aspect: overall, helpfulness, visual_faithfulness, ethics."""
    means: str | None = None
    """What stands for {aspect} in the template; null: as shipped."""

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class PairwiseProtocol(BaseModel):
    """Two answers side by side."""

    model_config = STRICT

    kind: Literal["pairwise"]
    """Which of two answers is better: pairs."""
    template: str = "pairwise"
    """A shipped template, or a .txt file of your own with {first}, {second}, and if you like {question}, {aspect}."""
    aspects: tuple[NamedAspect, ...] = Field(default=(NamedAspect(name="overall"),), min_length=1)
    """What answers are compared by, each in questions of its own."""
    orders: Literal["both", "one"] = "both"
    """`both` asks with either answer first, and measures position bias; `one` asks once, in an order that is drawn."""
    on_disagreement: Literal["drop", "tie", "average"] = "drop"
    """What differing verdicts of the two orders make: no pair, a tie, or a pair by their mean (margin 0.5: a win and a
    tie)."""
    against: Whole | None = None
    """Number of the answer that each other one is compared with; null: every two answers."""
    max_tokens: Count = 512
    """Replies are cut here."""


class PointwiseProtocol(BaseModel):
    """One answer at a time, a rating for each aspect."""

    model_config = STRICT

    kind: Literal["pointwise"]
    """A rating of each answer by each aspect, as VLFeedback has it: rewards, their mean, and pairs by the mean."""
    template: str = "pointwise"
    """A shipped template, or a .txt file of your own with {answer}, and if you like {question}, {aspect}, {low},
    {high}."""
    aspects: tuple[NamedAspect, ...] = Field(
        default=(
            NamedAspect(name="helpfulness"),
            NamedAspect(name="visual_faithfulness"),
            NamedAspect(name="ethics"),
        ),
        min_length=1,
    )
    """What answers are rated by, each in a question of its own."""
    scale: tuple[Whole, Whole] = (1, 5)
    """Lowest and highest rating; whole numbers in between are read, nothing else."""
    pairs: bool = True
    """Whether two answers whose means differ make a pair too."""
    min_margin: NotNegative = 0.0
    """Least difference that makes one."""
    max_tokens: Count = 512
    """Replies are cut here."""

    @field_validator("scale")
    @classmethod
    def _rises(cls, value: tuple[int, int]) -> tuple[int, int]:
        return _rising(value)


class CritiqueProtocol(BaseModel):
    """A critique of each answer, then a score."""

    model_config = STRICT

    kind: Literal["critique"]
    """A critique of each answer that ends in a score: rewards, and pairs by them."""
    template: str = "critique"
    """A shipped template, or a .txt file of your own with {answer}, and if you like {question}, {aspect}, {low},
    {high}."""
    aspects: tuple[NamedAspect, ...] = Field(default=(NamedAspect(name="overall"),), min_length=1)
    """What answers are examined by, each in a question of its own."""
    scale: tuple[Whole, Whole] = (0, 10)
    """Lowest and highest score; whole numbers in between are read, nothing else."""
    pairs: bool = True
    """Whether two answers whose means differ make a pair too."""
    min_margin: NotNegative = 0.0
    """Least difference that makes one."""
    max_tokens: Count = 1024
    """Replies are cut here; one that is cut has no score."""

    @field_validator("scale")
    @classmethod
    def _rises(cls, value: tuple[int, int]) -> tuple[int, int]:
        return _rising(value)


class ClaimsProtocol(BaseModel):
    """An answer claim by claim."""

    model_config = STRICT

    kind: Literal["claims"]
    """Each answer split into claims, and yes or no about each, as RLAIF-V has it: rewards, and pairs by them."""
    split: Literal["judge", "sentences", "pattern"] = "judge"
    """Who splits: the judge, asked for a list; a rule, sentence by sentence; or what matches `pattern`."""
    pattern: str | None = None
    """A regular expression, for `split: pattern`; what it matches (its one group, if it has one) is a claim."""
    split_template: str = "claims_split"
    """A shipped template, or a .txt file of your own with {answer}, and if you like {question}; for `split: judge`."""
    template: str = "claim"
    """A shipped template, or a .txt file of your own with {claim}, and if you like {question}, {answer}."""
    score: Literal["share", "rejected"] = "share"
    """An answer's value: the share of its claims that hold, or minus the number of those that do not (RLAIF-V)."""
    pairs: bool = True
    """Whether two answers whose values differ make a pair too."""
    min_margin: NotNegative = 0.0
    """Least difference that makes one."""
    max_tokens: Count = 16
    """Replies about a claim are cut here."""
    split_max_tokens: Count = 1024
    """Lists of claims are cut here; of one that is cut nothing is used."""

    @model_validator(mode="after")
    def _fits(self) -> "ClaimsProtocol":
        if (self.pattern is not None) != (self.split == "pattern"):
            cure = "give split: pattern with it, or remove it" if self.pattern is not None else "give one"
            raise ValueError(f"pattern goes with split: pattern; {cure}")
        check_pattern("pattern", self.pattern)
        return self


class JudgeRecipe(BaseModel):
    """One judge, complete."""

    model_config = STRICT

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the judge: the source of its signals; signals of an earlier judge of this name are replaced."""
    judge: Annotated[EndpointJudge | ModelJudge, Field(discriminator="kind")]
    """Who judges; the other keys of the block depend on `judge.kind`."""
    protocol: Annotated[
        PairwiseProtocol | PointwiseProtocol | ClaimsProtocol | CritiqueProtocol, Field(discriminator="kind")
    ]
    """What is asked; the other keys of the block depend on `protocol.kind`."""
    temperature: NotNegative | None = 0.0
    """Of the replies; 0 takes the most probable words, null leaves it to the server."""
    seed: Whole | None = 0
    """Of the replies, where the server takes one; null sends none."""
    self_agreement: Share = 0.05
    """Share of the questions that are asked again with another seed, to see whether the verdict is the same."""
    cache: str | None = None
    """Folder that keeps every reply, so that nothing is asked twice; null: `runs/judges/` and the name."""


def load_judge(path: str | Path, overrides: Iterable[str] = ()) -> JudgeRecipe:
    """The resolved judge of a YAML file (or a shipped name, `judges/NAME`) with `a.b=value` on top."""
    values, origins, source = read_merged([path], overrides)
    try:
        recipe = JudgeRecipe.model_validate(values)
    except ValidationError as error:
        where, sentence = first_mistake(error, JudgeRecipe)
        raise ConfigError(f"{origin_of(where, origins) or source}: {'.'.join(where)}: {sentence}") from None
    return recipe.model_copy(update={"cache": recipe.cache or f"runs/judges/{recipe.name}"})


def check_judge_present(recipe: JudgeRecipe, *, source: str) -> None:
    """Refuse a judge whose client or key is not here; called before anything heavy is imported."""
    if not isinstance(recipe.judge, EndpointJudge):
        return
    missing = next((name for name in ("openai", "httpx2") if importlib.util.find_spec(name) is None), None)
    if missing is not None:
        cure = "run `pip install 'sightline[judge]'`"
        problem = f"judge.kind: endpoint needs the openai client, and {missing} is not installed"
        raise ConfigError(f"{source}: {problem}; {cure}")
    api_key(recipe.judge, source=source)


def api_key(judge: EndpointJudge, *, source: str) -> str | None:
    """The key of an endpoint from the environment, if it takes one."""
    name = judge.api_key_env
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        problem = "is not set" if not key else "holds no key (characters that none has)"
        cure = f"export {name}=... with your key, or set judge.api_key_env to null for a server without keys"
        raise ConfigError(f"{source}: judge.api_key_env: the environment variable {name} {problem}; {cure}")
    return key


def judge_yaml(recipe: JudgeRecipe) -> str:
    """The judge as YAML with every key written out; loading it gives the same judge."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def shown_yaml(recipe: JudgeRecipe) -> str:
    """The same for people to read: a password in the address is masked."""
    if isinstance(recipe.judge, EndpointJudge):
        judge = recipe.judge.model_copy(update={"base_url": shown_url(recipe.judge.base_url)})
        recipe = recipe.model_copy(update={"judge": judge})
    return judge_yaml(recipe)


def _rising(scale: tuple[int, int]) -> tuple[int, int]:
    if scale[0] >= scale[1]:
        raise ValueError(f"is {list(scale)}; give the lowest first, such as [1, 5]")
    return scale
