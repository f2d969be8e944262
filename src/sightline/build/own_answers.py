"""Own answers of a reward model's backbone: made once before training and kept, made on demand when it is at work."""

import json
import re
from collections.abc import Sequence

from sightline.build.loading import Row, load_start, make_inputs
from sightline.config import Recipe
from sightline.config.schema import Ranking
from sightline.journal import Journal, atomic_write
from sightline.models.forward import Policy
from sightline.models.inputs import Inputs
from sightline.models.load import Loaded
from sightline.models.own_answers import OwnAnswers
from sightline.models.reading import reading_policy
from sightline.progress import Say, phase
from sightline.run_files import read_json
from sightline.train.distributed import gathered, own_share, rank_and_size

FILE = "own_answers.json"


def make_own_answers(
    recipe: Recipe, policy: Policy, rows: Sequence[Row], journal: Journal, say: Say
) -> OwnAnswers | None:
    """Own answers to the prompts of some rows by the policy as it stands, before its first update; from the run's
    folder where they were made before. Later prompts get none: the policy is another then."""
    if not (isinstance(recipe.objective, Ranking) and recipe.objective.own_answer):
        return None
    file = journal.folder / FILE
    own = _own(recipe, rows[0][1], policy)
    own.said = read_json(file) if file.is_file() else {}
    mine = own_share([inputs.prompt(group.prompt) for group, inputs in rows])

    with phase("own answers", len(mine)) as answered:
        fresh = gathered([own.ask(mine, told=answered.reach)])
    own.said |= {key: text for some in fresh for key, text in some.items()}
    num_new = sum(map(len, fresh))
    if num_new and rank_and_size()[0] == 0:
        atomic_write(file, json.dumps(own.said) + "\n")
    say(f"own answers: {num_new} made, the others were kept in {file}")
    own.speaker = None
    return own


def own_answers_at_work(recipe: Recipe, loaded: Loaded, policy: Policy) -> OwnAnswers:
    """Own answers of a trained reward model's start: with its adapters switched off, or by a second model."""
    inputs = make_inputs(loaded)
    own = _own(recipe, inputs, policy)
    if loaded.adapter is not None and all("lora_" in name for name in loaded.trained()):
        own.speaking = loaded.adapter.disable_adapter
        return own
    start = load_start(recipe)
    own.speaker = reading_policy(start)
    return own


def _own(recipe: Recipe, inputs: Inputs, speaker: Policy) -> OwnAnswers:
    objective = recipe.objective
    assert isinstance(objective, Ranking)
    return OwnAnswers(
        text=inputs.text,
        ends=inputs.ends,
        max_tokens=objective.own_answer_tokens,
        pattern=None if objective.phrase_pattern is None else re.compile(objective.phrase_pattern),
        speaker=speaker,
    )
