"""A conversation with a model, or with a run's base and its tuned model side by side, turn by turn.

Each of them remembers what it said itself. Everything is loaded once. Knows no terminal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sightline.build.loading import inputs_of, load_start, load_trained, make_inputs
from sightline.models.chat import Chat, Chatted, chat
from sightline.models.forward import Policy
from sightline.models.inputs import Inputs
from sightline.models.load import Loaded
from sightline.models.reading import reading_policy
from sightline.models.sampler import SamplingParams
from sightline.records import Image, Message


@dataclass(slots=True, kw_only=True)
class Speaker:
    """Who answers, and what was said so far."""

    name: str
    """"base", "tuned" or "model"."""
    policy: Policy
    """The model."""
    inputs: Inputs
    """Its reader of prompts."""
    turns: tuple[Message, ...] = ()
    """The conversation, the speaker's own answers included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One answer. Example: `Said(name="tuned", text="A red circle.")`."""

    name: str
    """Whose."""
    text: str
    """What was said."""
    cut: bool = False
    """Whether it was cut at the limit on tokens."""
    problem: str | None = None
    """Why there is none; the question is forgotten then."""


@dataclass(slots=True, kw_only=True)
class Talk:
    """A conversation. State: what was said, and pictures that wait for the next question."""

    speakers: Sequence[Speaker]
    """Who is asked."""
    params: SamplingParams
    """How answers are drawn; each question has a seed of its own."""
    pictures: list[Image] = field(default_factory=list)
    """Shown with the next question."""
    num_asked: int = 0
    """Questions so far."""

    def ask(self, question: str) -> list[Said]:
        """What each of them answers."""
        content = (*self.pictures, question)
        params = replace(self.params, seed=self.params.seed + self.num_asked)
        said = [self._answered(speaker, Message(role="user", content=content), params) for speaker in self.speakers]
        self.num_asked += 1
        if any(one.problem is None for one in said):
            self.pictures = []
        return said

    def start_anew(self) -> None:
        """Forget what was said and shown."""
        self.pictures = []
        for speaker in self.speakers:
            speaker.turns = ()

    def _answered(self, speaker: Speaker, question: Message, params: SamplingParams) -> Said:
        turns = (*speaker.turns, question)
        asked = Chat(messages=turns, params=params, may_shorten=True)
        found = _only(chat(speaker.policy, speaker.inputs, [asked]))
        if found.problem is not None:
            return Said(name=speaker.name, text="", problem=found.problem)
        [reply] = found.replies
        speaker.turns = (*turns, Message(role="assistant", content=(reply.text,)))
        return Said(name=speaker.name, text=reply.text, cut=reply.finish_reason == "length")


def open_talk(
    *,
    target: str,
    base: bool = True,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_tokens: int = 256,
    seed: int = 0,
) -> Talk:
    """A conversation with a run (its base beside it, if `base`) or a model."""
    loaded, recipe = load_trained(target)
    params = SamplingParams(temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed)
    if recipe is None:
        return Talk(speakers=[_speaker("model", loaded, make_inputs(loaded))], params=params)
    speakers = [_speaker("tuned", loaded, inputs_of(recipe, loaded))]
    if base:
        start = load_start(recipe)
        speakers.insert(0, _speaker("base", start, inputs_of(recipe, start)))
    return Talk(speakers=speakers, params=params)


def _speaker(name: str, loaded: Loaded, inputs: Inputs) -> Speaker:
    return Speaker(name=name, policy=reading_policy(loaded), inputs=inputs)


def _only(batches: object) -> Chatted:
    [[(_, found)]] = batches  # type: ignore[misc] - one conversation was asked
    return found
