"""What a recipe may hold: every key with its type, default, bounds and meaning.

The line under a field is its entry in docs/recipes.md; a test holds the two together.
Knows nothing of files and command lines, nor of what the values do.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field, field_validator, model_validator
from pydantic.fields import FieldInfo

from sightline.config.rl import Critic, Monitors, PolicyGradient, RewardEntry, Rollout
from sightline.config.values import (
    STRICT,
    BelowHalf,
    BelowOne,
    Count,
    NotNegative,
    Positive,
    Share,
    Whole,
    check_pattern,
)
from sightline.registry import did_you_mean

EMBEDDED_MODELS = ("world:base", "world:ceiling")


class Lora(BaseModel):
    """Low-rank adapters."""

    model_config = STRICT

    rank: Count = 16
    """Width of the adapters: memory and optimiser state grow with it, speed hardly changes."""
    alpha: Positive = 32
    """Scale: the adapter's output is multiplied by alpha / rank."""
    dropout: NotNegative = 0.0
    """Must be 0: with dropout the shared-prompt forward and its plain twin would draw different masks."""
    targets: Literal["language"] | tuple[str, ...] = "language"
    """Linear layers that get an adapter: `language` is all of the language model; or a list of names."""

    @field_validator("dropout")
    @classmethod
    def _exact(cls, value: float) -> float:
        if value != 0:
            raise ValueError(f"is {value}; set it to 0, since dropout breaks the exactness of the forward")
        return value

    @field_validator("targets", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        names = isinstance(value, (list, tuple)) and value and all(isinstance(name, str) for name in value)
        if value != "language" and not names:
            raise ValueError(f"is {value!r}; write language, or a list of layers such as [q_proj, v_proj]")
        return value


class Model(BaseModel):
    """Which model is trained, and how much of it."""

    model_config = STRICT

    path: str = Field(min_length=1)
    """`world:base` or `world:ceiling` (they ship with the package), a folder, or a hub id."""
    revision: str | None = None
    """Commit, tag or branch of a hub model; pin it to be able to repeat the run."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """What is computed in; `auto`: on a GPU `bfloat16` if it multiplies in it, on CPU what a short measurement says is
    faster, kept in the run's own recipe. `bfloat16` halves frozen weights; trained ones stay float32."""
    train: Literal["lora", "full"] = "lora"
    """`lora` trains adapters beside frozen weights; `full` the language model itself, for more memory."""
    lora: Lora = Lora()
    """The adapters; read only when `model.train` is `lora`."""
    train_tower: bool = False
    """Train the vision tower too: images are then encoded at every step, twice when a step's pictures take more tokens
    than `train.token_budget`, so that memory follows the budget."""
    train_projector: bool = False
    """Train the projector (merger) between tower and language model too."""
    min_pixels: Count | None = None
    """Smaller images are enlarged to this many pixels (Qwen-VL, Idefics3, SmolVLM, InternVL); null: as published."""
    max_pixels: Count | None = None
    """Larger images are shrunk to this many pixels (the same models): the first knob for memory; null: as published."""
    longest_side: Count | None = None
    """Images are shrunk until their longer side has this many pixels (the same models); null leaves them."""
    kept_features_mib: Count = 1024
    """Memory for the features of pictures, which are kept for the run when tower and projector are frozen; the least
    recently used go first."""
    features_folder: str | None = None
    """Folder in which such features are kept on disk too, for runs that read the same pictures with the same tower;
    null: none."""
    quantise: Literal["4bit"] | None = None
    """`4bit`: frozen weights of the language model in four bits (NF4), adapters beside them; needs a CUDA GPU and
    bitsandbytes; null: as `model.dtype` says."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass, those of a trained tower too: about a third slower, for much less
    memory."""
    trust_remote_code: bool = False
    """The model brings Python code of its own. It runs only where a command says --trust-remote-code, every time."""

    @field_validator("path")
    @classmethod
    def _embedded(cls, value: str) -> str:
        if value.startswith("world:") and value not in EMBEDDED_MODELS:
            raise ValueError(f"{value!r} is no embedded model{did_you_mean(value, EMBEDDED_MODELS)}")
        return value

    @model_validator(mode="after")
    def _ordered(self) -> "Model":
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            bounds = f"min_pixels {self.min_pixels} is above max_pixels {self.max_pixels}"
            raise ValueError(f"{bounds}; exchange them")
        return self


class Data(BaseModel):
    """What the model learns from."""

    model_config = STRICT

    files: tuple[str, ...] = Field(min_length=1)
    """JSONL or Parquet files of groups, read one after another; relative to the current folder."""
    validation_files: tuple[str, ...] = ()
    """Files that are only ever evaluated: by the loss, and by the held-out measure where their truth allows one; the
    checkpoint that is best by the latter, or else by the former, is kept."""
    root: str | None = None
    """Folder that image paths are relative to and may not leave; null: the folder of each file."""
    aspect: str | None = None
    """Of pairs and ranks, those that compare this (`helpfulness`); rows without one are bad rows. null: what a row says
    overall, else its one aspect; a row of several aspects is a bad row. For dpo and sft on data."""
    on_bad: Literal["error", "skip"] = "error"
    """What a bad row does: stop the run, or be left out, counted and listed in skipped.jsonl."""
    max_image_pixels: Count = 50_000_000
    """Images with more pixels are bad rows; their header is read, they are never decoded."""
    max_image_bytes: Count = 64 * 2**20
    """Image files with more bytes are bad rows."""
    max_prompt_tokens: Count | None = None
    """Prompts with more tokens (those of images included) are bad rows; nothing is ever truncated."""
    max_answer_tokens: Count | None = None
    """Answers with more tokens are bad rows; nothing is ever truncated."""


class Sft(BaseModel):
    """Imitate the chosen answers."""

    model_config = STRICT

    kind: Literal["sft"]
    """Imitate the chosen answers (supervised fine-tuning)."""
    normalise: Literal["token", "answer"] = "token"
    """What weighs the same: every token of the step, or every answer however long."""


class Dpo(BaseModel):
    """Prefer the chosen answer to the rejected one."""

    model_config = STRICT

    kind: Literal["dpo"]
    """Prefer the chosen answer to the rejected one (direct preference optimisation)."""
    beta: Positive = 0.1
    """How close the policy stays to the reference: smaller moves further."""
    label_smoothing: BelowHalf = 0.0
    """Share of pairs that are assumed to be labelled the wrong way round (conservative DPO)."""
    nll_weight: NotNegative = 0.0
    """Weight of the per-token negative log-likelihood of the chosen answer: an anchor for what it names."""
    length_normalise: bool = False
    """Divide each answer's log-probability by its number of tokens, so that length alone wins nothing."""


class Ranking(BaseModel):
    """Learn to rate answers as they were compared: a reward model."""

    model_config = STRICT

    kind: Literal["ranking"]
    """Learn to rate answers as they were compared (Bradley-Terry): a reward model."""
    attributes: tuple[str, ...] = ()
    """Aspects that are rated apart, as the comparisons name them; a gate over the prompt weighs them into the overall
    rating."""
    margin_weight: NotNegative = 0.0
    """Times a comparison's margin: the distance that its two ratings should keep."""
    centring_weight: NotNegative = 0.01
    """Weight of the squared sum of the two ratings, which keeps ratings around zero."""
    length_weight: NotNegative = 0.0
    """Above 0 a second head takes up what length alone explains, and the rating is kept free of it."""
    likelihood: bool = False
    """Read the answer's log-probability under the backbone too, and train it by the comparisons: worth much where the
    backbone speaks better than it judges."""
    own_answer: bool = False
    """Let the backbone answer every prompt itself before it is trained, greedily, and read how answers agree with that:
    phrases shared, alone, left out. Worth as much as the backbone sees; its start is kept to answer new prompts."""
    own_answer_tokens: Count = 256
    """Own answers are cut here."""
    phrase_pattern: str | None = None
    """A regular expression: what it matches (its one group, if it has one) is a phrase of an answer; null: runs of
    words between English small words and punctuation."""
    head_learning_rate: Positive | None = None
    """Peak learning rate of the head; null: ten times that of the backbone."""
    members: Count = 4
    """Heads of the ensemble that is fitted at the end, each on its own bootstrap of the prompts."""
    member_hidden: Whole = 64
    """Units of a member between states and ratings; 0: none."""
    member_epochs: Count = 10
    """Passes of a member over its bootstrap."""

    @model_validator(mode="after")
    def _own(self) -> "Ranking":
        if self.phrase_pattern is not None and not self.own_answer:
            raise ValueError("phrase_pattern goes with own_answer: true; give that too, or remove it")
        check_pattern("phrase_pattern", self.phrase_pattern)
        return self


Objective = Annotated[Sft | Dpo | Ranking | PolicyGradient, Field(discriminator="kind")]


class Reference(BaseModel):
    """The model that the policy is compared with."""

    model_config = STRICT

    kind: Literal["auto", "none", "adapter_off", "copy", "cached"] = "auto"
    """`adapter_off` (no memory; only adapters are trained), `copy` (a frozen second model), `cached`
    (log-probs computed once and kept on disk), `none`; `auto`: none for sft, adapter_off where it is exact,
    else cached."""
    cache: str | None = None
    """Folder of the kept log-probs, for `cached`; runs may share it; null: `reference` in the run folder."""


class Optim(BaseModel):
    """AdamW and its schedule."""

    model_config = STRICT

    learning_rate: Positive = 1e-5
    """Peak learning rate."""
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""
    epsilon: Positive = 1e-8
    """Added to the denominator."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay."""
    max_grad_norm: Positive = 1.0
    """Larger gradients are scaled down to this norm."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate falls after the warm-up; `linear` and `cosine` end at zero."""
    warmup_fraction: Share = 0.05
    """Share of all steps over which the learning rate rises from zero."""


class Train(BaseModel):
    """How long, in what portions, and what is kept."""

    model_config = STRICT

    epochs: Positive | None = None
    """Passes over the data; give this or `steps`; null and no `steps`: 1."""
    steps: Count | None = None
    """Optimiser steps; give this or `epochs`."""
    groups_per_step: Count = 16
    """Prompts (with all their answers) per optimiser step, over all processes."""
    token_budget: Count = 8192
    """Tokens of the packed layout per micro-batch, the reference's too: memory follows it, the gradient does not depend
    on it. A larger group is cut between its answers, each part with the prompt again."""
    evaluate_every: Count | None = None
    """Steps between evaluations (`data.validation_files`, the held-out measure, the distance from the start); the first
    comes before training; null: as `train.save_every`, or ten times in a run with fewer than five checkpoints."""
    save_every: Count = 100
    """Steps between checkpoints; the last step is always saved."""
    keep_checkpoints: Count = 1
    """Last checkpoints to keep; the best one is kept besides, and what an alarm speaks of."""
    log_every: Count = 1
    """Steps between lines in metrics.jsonl."""
    shard: bool = False
    """With several processes: each holds its part of weights, gradients and optimiser state (FSDP2) instead of all."""
    samples: Whole = 4
    """Prompts whose greedy answers go to samples.jsonl, before the first update and at each checkpoint; 0 for none."""
    threads: Count | None = None
    """Threads that torch uses; repeating a run bit for bit needs the same number; null: torch decides."""
    one_thread_below: Literal["auto"] | NotNegative = "auto"
    """Operations of one layer for one token of all answers below which sampling on CPU uses one thread; `auto`: from
    where on a short measurement says that threads help, kept in the run's own recipe."""
    check_first_batch: bool = True
    """Before the first update: pictures are read, the policy is its reference, prompt once equals plain; else stop."""

    @model_validator(mode="after")
    def _one_length(self) -> "Train":
        if self.epochs is not None and self.steps is not None:
            raise ValueError("epochs and steps are both given; remove one of them")
        return self


class Recipe(BaseModel):
    """One run, complete."""

    model_config = STRICT

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run: letters, digits, dots, dashes and underscores."""
    out: str | None = None
    """Run folder; null: `runs/` and the name."""
    seed: Whole = 0
    """Decides the order of the data and every random draw."""
    model: Model
    """Which model is trained, and how much of it."""
    data: Data
    """What it learns from."""
    objective: Objective
    """What it learns; the other keys of the block depend on `objective.kind`."""
    rewards: tuple[RewardEntry, ...] = ()
    """What sampled answers are worth; for objectives that learn from rewards, which need at least one."""
    rollout: Rollout = Rollout()
    """How answers are sampled and judged; for objectives that learn from rewards."""
    reference: Reference = Reference()
    """The model that the policy is compared with."""
    optim: Optim = Optim()
    """AdamW and its schedule."""
    critic: Critic = Critic()
    """Who values the states before each token; for objective.kind ppo."""
    monitors: Monitors = Monitors()
    """What is watched while a run learns."""
    train: Train = Train()
    """How long, in what portions, and what is kept."""
    tracking: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where metrics go besides metrics.jsonl; each must be installed."""


def branches(field: FieldInfo) -> list[type[BaseModel]]:
    """The blocks that a field may hold: none for a plain value, one for a list of blocks, several for a union."""
    listed = get_origin(field.annotation) is tuple
    options = get_args(field.annotation) if field.discriminator or listed else (field.annotation,)
    return [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]


def kinds_of(branch: type[BaseModel]) -> tuple[str, ...]:
    """The values of `kind` that choose this block of a union."""
    return get_args(branch.model_fields["kind"].annotation)


def recipe_keys(block: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key in the order of the schema, dotted; `kind` comes once for each variant of a union."""
    for name, field in block.model_fields.items():
        yield f"{prefix}{name}", field
        for branch in branches(field):
            yield from recipe_keys(branch, f"{prefix}{name}.")
