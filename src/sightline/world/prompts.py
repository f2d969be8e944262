"""Questions about scenes as records: a prompt with its picture embedded, its task and its truth."""

import io

from PIL import Image as Pillow

from sightline.records import Completion, Group, Image, Message, Prompt
from sightline.world.scenes import Scene, draw
from sightline.world.tasks import Question, make_question


def picture_png(scene: Scene) -> bytes:
    """The scene's picture as a PNG file."""
    buffer = io.BytesIO()
    Pillow.fromarray(draw(scene)).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def as_prompt(question: Question) -> Prompt:
    """The question as a record; its id names task, split, seed and number."""
    content = (Image(data=picture_png(question.scene)), question.text)
    return Prompt(
        id=f"{question.task}-{question.scene.id}",
        task=question.task,
        messages=(Message(role="user", content=content),),
        truth=question.truth,
    )


def task_prompts(task: str, split: str, num: int, *, seed: int = 0, first: int = 0) -> list[Prompt]:
    """`num` prompts of one task about consecutive scenes of a split."""
    return [as_prompt(make_question(task, split, first + i, seed=seed)) for i in range(num)]


def exact_group(question: Question) -> Group:
    """The question with its exact answer."""
    return Group(prompt=as_prompt(question), completions=(Completion(text=question.answer, source="exact"),))
