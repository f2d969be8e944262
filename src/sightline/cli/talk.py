"""The command `chat`: questions in turn, from a terminal or a pipe, and a few words that begin with a slash."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from sightline.cli.parts import AT_LEAST_ONE, FLAG, NOT_NEGATIVE, SEVERAL, app, expect_file, printable, say
from sightline.config import ConfigError
from sightline.data.images import embedded
from sightline.journal import Journal, named, recipe_of
from sightline.registry import did_you_mean
from sightline.world.weights import resolve

if TYPE_CHECKING:
    from sightline.build.talk import Said, Talk
    from sightline.records import Image

COMMANDS = {
    "/image": "FILE: show a picture with the next question",
    "/new": "forget what was said and shown",
    "/help": "these words",
    "/quit": "leave (so does Ctrl-D)",
}


@app.command
def chat(
    target: str,
    /,
    *,
    image: Annotated[tuple[Path, ...], SEVERAL] = (),
    no_base: Annotated[bool, FLAG] = False,
    temperature: Annotated[float, NOT_NEGATIVE] = 0.0,
    top_p: Annotated[float, Parameter(validator=Number(gt=0, lte=1))] = 1.0,
    max_tokens: Annotated[int, AT_LEAST_ONE] = 256,
    seed: Annotated[int, NOT_NEGATIVE] = 0,
    trust_remote_code: Annotated[bool, FLAG] = False,
) -> None:
    """Talk with a model about pictures, turn by turn; for a run, its base answers beside the tuned model.

    Questions are read line by line, from a terminal or a pipe. A line that begins with a slash is for the command:
    /image FILE shows a picture with the next question, /new starts anew, /help, /quit.

    Example: `sightline chat runs/dpo_world --image scene.png`

    From a pipe: `echo "What is in the picture?" | sightline chat world:base --image scene.png`

    Args:
        target: A run folder, an exported model, `world:base` or a hub id.
        image: Image files that are shown with the first question.
        no_base: Leave out the run's base.
        temperature: 0 takes the most likely token each time; 1 draws from the model's own distribution.
        top_p: Draw from the most probable tokens that together hold this much probability.
        max_tokens: Longest answer.
        seed: Decides the draws.
        trust_remote_code: Run the model's own Python code; a run folder never allows it by itself.
    """
    _check_target(target)
    for path in image:
        expect_file(path)
    pictures = [embedded(path) for path in image]
    from sightline.build.loading import Trusted
    from sightline.build.talk import open_talk

    options = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "seed": seed}
    talk = open_talk(target=Trusted(target) if trust_remote_code else target, base=not no_base, **options)
    talk.pictures += pictures
    converse(talk, _lines(), live=sys.stdin.isatty())


def converse(talk: "Talk", lines: Iterator[str], *, live: bool) -> None:
    """Answer line by line; `live` people may correct a mistake, a pipe ends at its first one."""
    if live:
        say(f"{' and '.join(speaker.name for speaker in talk.speakers)} listen; /help shows the words for the command")
    for line in lines:
        text = line.strip()
        if text == "/quit":
            return
        try:
            if text.startswith("/"):
                _command(talk, text)
            elif text:
                _tell(talk.ask(text), live)
        except (ValueError, OSError) as error:
            if not live:
                raise
            say(f"{error}")
        except KeyboardInterrupt:
            if not live:
                raise
            say("\nthe answer is given up; Ctrl-D leaves")
        sys.stdout.flush()


def _command(talk: "Talk", text: str) -> None:
    word, _, rest = text.partition(" ")
    if word == "/new":
        talk.start_anew()
    elif word == "/help":
        for name, meaning in COMMANDS.items():
            say(f"{name} {meaning}")
    elif word == "/image":
        talk.pictures.append(_picture(rest.strip()))
    else:
        known = ", ".join(COMMANDS)
        raise ConfigError(f"there is no {word}{did_you_mean(word, list(COMMANDS)) or f'; there are {known}'}")


def _picture(name: str) -> "Image":
    if not name:
        raise ConfigError("/image names no file; write /image FILE")
    path = Path(name).expanduser()
    expect_file(path)
    return embedded(path)


def _tell(said: "list[Said]", live: bool) -> None:
    for one in said:
        if one.problem is not None and not live:
            raise ConfigError(f"{one.name}: {one.problem}")
        cut = " [cut at --max-tokens]" if one.cut else ""
        say(f"{one.name}: {one.text if one.problem is None else f'no answer: {one.problem}'}{cut}")


def _lines() -> Iterator[str]:
    """What is asked, until it ends: Ctrl-C and Ctrl-D at the prompt are an end like any other."""
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    while True:
        try:
            yield input("you: ")
        except (EOFError, KeyboardInterrupt):
            say("")
            return


def _check_target(target: str) -> None:
    """Refuse what cannot answer before anything heavy is imported."""
    values = recipe_of(named(target)[0])
    if values is None:
        resolve(target)
        return
    Journal.open(target).checkpoint()
    objective = values.get("objective")
    if isinstance(objective, dict) and objective.get("kind") == "ranking":
        problem = f"{printable(target)} is a reward model, which rates answers and gives none"
        raise ConfigError(f"{problem}; name it as --scorer of sample or evaluate")
