"""Groups to judge, and protocols driven by hand: a test plays whoever answers."""

from collections.abc import Callable, Sequence

from sightline.records import Image, Message, Prompt
from sightline.rewards.ask import Question, Reply
from sightline.rewards.judges.contract import Aspect, Judgement, JudgeProtocol, Sampling, Subject
from sightline.rewards.judges.reading import read_reply

PNG = b"\x89PNG the picture"
SAMPLING = Sampling(max_tokens=40, temperature=0.0, seed=3)
OVERALL = Aspect(name="overall", means="how good it is.")
HELPFUL = Aspect(name="helpfulness", means="whether it helps.")
ETHICS = Aspect(name="ethics", means="whether it harms nobody.")


def subject(*answers: str, asked: str = "What is here?") -> Subject:
    """One picture, one question, some answers."""
    messages = (Message(role="user", content=(Image(data=PNG), asked)),)
    return Subject(prompt=Prompt(id="7", messages=messages), answers=answers)


def text_of(question: Question) -> str:
    """What is asked, without the pictures."""
    return "".join(part for part in question.messages[-1].content if isinstance(part, str))


def judged(
    protocol: JudgeProtocol, about: Subject, speak: Callable[[str], str | Reply]
) -> tuple[Judgement, list[list[Question]]]:
    """The judgement when every question is answered by `speak`, and the questions round by round."""
    rounds, asked = protocol.rounds(about), []
    questions = next(rounds)
    try:
        while True:
            asked.append([one.question for one in questions])
            given = [speak(text_of(one.question)) for one in questions]
            replies = [Reply(text=one) if isinstance(one, str) else one for one in given]
            read = zip(replies, questions, strict=True)
            questions = rounds.send([read_reply(reply, one.read) for reply, one in read])
    except StopIteration as end:
        return end.value, asked


def in_turn(*texts: str) -> Callable[[str], str]:
    """A judge that says these things one after another."""
    left: Sequence[str] = list(texts)
    place = iter(left)
    return lambda text: next(place)
