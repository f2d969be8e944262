"""From a judge recipe to its parts: the protocol that asks and reads, and whoever answers (an endpoint or a model)."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sightline.build.loading import inputs_of, load_trained, make_inputs
from sightline.config.judge import (
    ClaimsProtocol,
    EndpointJudge,
    JudgeRecipe,
    ModelJudge,
    NamedAspect,
    PairwiseProtocol,
    PointwiseProtocol,
    api_key,
)
from sightline.data.images import ImageStore
from sightline.journal import named, recipe_of
from sightline.models.arithmetic import AUTO
from sightline.models.chat import Chat, Chatted, chat
from sightline.models.load import fingerprint, load_model
from sightline.models.reading import reading_policy
from sightline.models.sampler import SamplingParams
from sightline.progress import announced
from sightline.records import Image, Message, Prompt
from sightline.registry import did_you_mean
from sightline.rewards.ask import Answer, Question, Reply
from sightline.rewards.judges import claims, pairwise, pointwise
from sightline.rewards.judges.claims import ByClaims
from sightline.rewards.judges.contract import Aspect, JudgeProtocol, Sampling
from sightline.rewards.judges.critique import critique
from sightline.rewards.judges.pairwise import Pairwise
from sightline.rewards.judges.pointwise import Pointwise
from sightline.rewards.judges.reading import rating
from sightline.rewards.judges.templates import Template, aspect_names, aspect_text, load_template
from sightline.world.weights import resolve

if TYPE_CHECKING:
    from sightline.rewards.endpoint import Usage

TAKEN_TYPES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF")
"""How files begin that endpoints take as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answerer:
    """Who answers the judge's questions."""

    answer: Answer
    """Replies as they arrive."""
    who: str
    """What it is, for the keys of kept replies."""
    usage: "Usage | None" = None
    """What an endpoint was sent."""


def make_protocol(recipe: JudgeRecipe) -> JudgeProtocol:
    """The protocol of a recipe, its templates read and checked."""
    given = recipe.protocol
    sampling = Sampling(max_tokens=given.max_tokens, temperature=recipe.temperature, seed=recipe.seed)
    if isinstance(given, ClaimsProtocol):
        return ByClaims(
            source=recipe.name,
            template=load_template(given.template, needs=claims.NEEDS, takes=claims.TAKES),
            split=_split(given),
            score=given.score,
            pairs=given.pairs,
            min_margin=given.min_margin,
            sampling=sampling,
            split_sampling=replace(sampling, max_tokens=given.split_max_tokens),
        )
    aspects = _aspects(given.aspects)
    if isinstance(given, PairwiseProtocol):
        return Pairwise(
            source=recipe.name,
            template=_template(given.template, pairwise.NEEDS, pairwise.TAKES, aspects),
            aspects=aspects,
            orders=given.orders,
            on_disagreement=given.on_disagreement,
            against=given.against,
            sampling=sampling,
        )
    template = _template(given.template, pointwise.NEEDS, pointwise.TAKES, aspects)
    low, high = given.scale
    if isinstance(given, PointwiseProtocol):
        return Pointwise(
            source=recipe.name,
            template=template,
            aspects=aspects,
            read=rating(low, high),
            scale=(low, high),
            pairs=given.pairs,
            min_margin=given.min_margin,
            sampling=sampling,
        )
    return critique(
        source=recipe.name,
        template=template,
        aspects=aspects,
        sampling=sampling,
        scale=(low, high),
        pairs=given.pairs,
        min_margin=given.min_margin,
    )


@contextmanager
def open_answerer(recipe: JudgeRecipe, stop: Callable[[], bool]) -> Iterator[Answerer]:
    """Whoever the recipe names, ready; `stop` says that no further question is wanted."""
    if isinstance(recipe.judge, ModelJudge):
        yield _local(recipe.judge, stop)
        return
    from sightline.rewards.endpoint import Endpoint, EndpointSettings  # an extra: only for who asks an endpoint

    given = recipe.judge
    settings = EndpointSettings(**given.model_dump(exclude={"kind", "api_key_env", "price"}))
    endpoint = Endpoint(settings, api_key=api_key(given, source=recipe.name), stop=stop)
    try:
        yield Answerer(answer=endpoint, who=settings.who, usage=endpoint.usage)
    finally:
        endpoint.close()


def embedded(prompt: Prompt, store: ImageStore) -> Prompt:
    """The prompt with every picture's file inside, as PNG where the file is of a kind that endpoints do not take."""

    def inside(part: str | Image) -> str | Image:
        if isinstance(part, str):
            return part
        data = store.read(part)
        if not data.startswith(TAKEN_TYPES):
            held = io.BytesIO()
            store.open(part).save(held, "PNG")
            data = held.getvalue()
        return Image(data=data)

    turns = tuple(Message(role=turn.role, content=tuple(map(inside, turn.content))) for turn in prompt.messages)
    return replace(prompt, messages=turns, alternates={})


def cost(judge: EndpointJudge | ModelJudge, prompt_tokens: int, completion_tokens: int) -> float | None:
    """What tokens cost; None where nothing is known of prices."""
    if not isinstance(judge, EndpointJudge) or judge.price.input == judge.price.output == 0:
        return None
    return (prompt_tokens * judge.price.input + completion_tokens * judge.price.output) / 1e6


def _local(judge: ModelJudge, stop: Callable[[], bool]) -> Answerer:
    run = None
    if recipe_of(named(judge.path)[0]) is None:
        with announced(f"loading {judge.path}"):
            loaded = load_model(resolve(judge.path), dtype=judge.dtype)
    else:
        loaded, run = load_trained(judge.path)
        if judge.dtype != AUTO:
            loaded = replace(loaded, dtype=judge.dtype)
    inputs = make_inputs(loaded) if run is None else inputs_of(run, loaded)
    policy = reading_policy(loaded, keep_batch=judge.batch_size)

    def answer(questions: Sequence[Question]) -> Iterator[list[tuple[int, Reply]]]:
        chats = [_chat(question) for question in questions]
        for some in chat(policy, inputs, chats, batch_size=judge.batch_size):
            yield [(number, _reply(found)) for number, found in some]
            if stop():
                raise KeyboardInterrupt

    who = f"{fingerprint(loaded.model)} {loaded.dtype} {inputs.settings_hash}"
    return Answerer(answer=answer, who=who)


def _chat(question: Question) -> Chat:
    temperature = 1.0 if question.temperature is None else question.temperature
    params = SamplingParams(temperature=temperature, max_tokens=question.max_tokens, seed=question.seed or 0)
    return Chat(messages=question.messages, params=params)


def _reply(found: Chatted) -> Reply:
    if found.problem is not None:
        return Reply(problem=f"the model cannot read the question: it {found.problem}")
    said = found.replies[0]
    return Reply(
        text=said.text,
        finished=said.finish_reason == "stop",
        prompt_tokens=found.num_prompt_tokens,
        completion_tokens=said.num_tokens,
    )


def _split(given: ClaimsProtocol) -> Template | re.Pattern[str] | None:
    if given.split == "judge":
        return load_template(given.split_template, needs=claims.SPLIT_NEEDS, takes=claims.SPLIT_TAKES)
    return None if given.pattern is None else re.compile(given.pattern)


def _template(name: str, needs: tuple[str, ...], takes: tuple[str, ...], aspects: Sequence[Aspect]) -> Template:
    """The template; with several aspects {aspect} must stand in it, or all questions would be the same."""
    must = (*needs, "aspect") if len(aspects) > 1 else needs
    return load_template(name, needs=must, takes=takes)


def _aspects(given: Sequence[NamedAspect]) -> tuple[Aspect, ...]:
    names = [aspect.name for aspect in given]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"protocol.aspects: {repeated} is named twice; remove one")
    for aspect in given:
        if aspect.means is None and aspect.name not in aspect_names():
            hint = did_you_mean(aspect.name, aspect_names())
            problem = f"protocol.aspects: {aspect.name!r} is not shipped{hint}"
            raise ValueError(f"{problem} (or say what it means: {{name: {aspect.name}, means: ...}})")
    return tuple(Aspect(name=one.name, means=one.means or aspect_text(one.name)) for one in given)
