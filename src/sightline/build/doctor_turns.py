"""What the doctor finds about the words around an answer: how the chat template writes one, and tags of thought."""

from collections.abc import Sequence

import torch

from sightline.batch import make_batch
from sightline.build.loading import Row
from sightline.config import Recipe
from sightline.models.forward import Policy
from sightline.models.inputs import Inputs
from sightline.models.turns import QUESTION
from sightline.records import Prompt
from sightline.reports.doctor_page import Line

NUM_ROWS = 8
"""Rows whose conversations are rendered."""
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
ASKING = {"think_answer": TAGS}
"""Rewards that want tags by themselves."""
NEVER_SAID = 1e-6
"""Probability at an answer's start below which a token is not sampled in a run's life."""


def turns_line(rows: Sequence[Row]) -> Line:
    """Answers are learned as the chat template writes them, and end as the checkpoint does."""
    name, inputs = "turns", rows[0][1]
    turns, word = inputs.turns, inputs.processor.tokenizer.convert_ids_to_tokens
    ends = ", ".join(word(token) for token in turns.ends)
    behind = turns.prompt.rpartition(QUESTION)[2]
    said = f"an answer is learned as {turns.written('...') + word(turns.ends[0])!r} behind {behind!r}"
    said += f"; sampling ends at {ends}"
    for group, reader in rows[:NUM_ROWS]:
        answers = [one.text for one in group.completions if one.text.strip()][:2]
        odd = _written_otherwise(reader, group.prompt, answers or ["Yes."])
        if odd is not None:
            problem = f"{said}; but behind prompt {group.prompt.id!r} the template writes {odd!r}"
            return Line(name=name, state="look", said=problem, cure="compare the two; please report the model")
    if turns.opening is not None:
        asked, answered = turns.opening
        return Line(
            name=name,
            state="look",
            said=f"{said}; the template opens an answer with {answered!r} in a conversation and with {asked!r} behind "
            "a prompt",
            cure="none is needed if the checkpoint was made so: answers are learned right behind the prompt, as they "
            "are sampled",
        )
    if turns.ends[0] not in turns.named:
        named = ", ".join(word(token) for token in turns.named) or "none"
        problem = f"{said}; generation_config.json names {named}, so the template's {word(turns.ends[0])} was added"
        cure = "add its id to eos_token_id there, or other software will not stop where the model was taught to"
        return Line(name=name, state="look", said=problem, cure=cure)
    return Line(name=name, state="pass", said=said)


def _written_otherwise(inputs: Inputs, prompt: Prompt, answers: Sequence[str]) -> str | None:
    """What the template writes behind this prompt where it is not what is learned."""
    asked, end = inputs.render(prompt), inputs.processor.tokenizer.convert_ids_to_tokens(inputs.end_of_turn)
    for answer in answers if inputs.turns.opening is None else ():
        whole = inputs.render(prompt, answer=answer)
        written = inputs.turns.written(answer) + (end if end in inputs.turns.tail else "")
        if not whole.startswith(asked + written):
            return whole[-len(written) - 32 :]
    return None


def tags_line(recipe: Recipe, policy: Policy, rows: Sequence[Row]) -> Line | None:
    """Tags that the run asks for and that are single tokens: a model that was never taught them does not say them."""
    inputs = rows[0][1]
    single = {tag: ids[0] for tag in _asked_for(recipe, rows) if len(ids := _ids(inputs, tag)) == 1}
    if not single:
        return None
    prompts = [reader.prompt(group.prompt) for group, reader in rows[:NUM_ROWS]]
    tokens = list(single.values())
    with torch.no_grad(), policy.whole_weights():
        logprobs = policy.score(make_batch(prompts, [[(token,) for token in tokens] for _ in prompts])).logprobs
    mean = dict(zip(single, logprobs.view(len(prompts), len(tokens)).double().exp().mean(0).tolist(), strict=True))
    listed = ", ".join(f"{tag} ({mean[tag]:.1g})" for tag in single)
    said = f"asked for and single tokens of this vocabulary, with their probability at an answer's start: {listed}"
    first = next((tag for tag in single if not tag.startswith("</")), None)
    if first is None or mean[first] >= NEVER_SAID:
        return Line(name="tags", state="pass", said=said)
    cure = (
        f"the model was not taught {first} and will hardly ever sample it: begin with sft on answers that have it, or "
        "ask for other words"
    )
    return Line(name="tags", state="look", said=said, cure=cure)


def _asked_for(recipe: Recipe, rows: Sequence[Row]) -> list[str]:
    """Tags that a reward, the chat template or a prompt speaks of."""
    told = [str(entry.options) for entry in recipe.rewards]
    told += [tag for entry in recipe.rewards for tag in ASKING.get(entry.name, ())]
    told += ["<answer>" for entry in recipe.rewards if entry.options.get("template") == "answer_tag"]
    told += [rows[0][1].turns.prompt + rows[0][1].turns.before]
    for group, _ in rows[:NUM_ROWS]:
        told += [part for message in group.prompt.messages for part in message.content if isinstance(part, str)]
    return [tag for tag in TAGS if any(tag in text for text in told)]


def _ids(inputs: Inputs, text: str) -> list[int]:
    return inputs.processor.tokenizer(text, add_special_tokens=False).input_ids
