"""A reward model of simulated people who err one time in ten: how near the best possible, and what bounds it.

    python -m bench.reward_model --out runs/reward_model

Samples answers of the base, has them compared (by a person who errs, and without error), trains a backbone to see
better than the shipped one, trains the shipped recipe on the comparisons, and measures on other scenes. The bound of
sight is what the backbone could tell if it took its own greedy description for the truth. Samples, comparisons and
runs are kept in the folder and not made again. Writes `reward_model.json`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sightline import build
from sightline.build.labels import scored
from sightline.build.loading import load_trained, make_inputs
from sightline.config import load_recipe, make_recipe, to_dict
from sightline.config.rl import RewardEntry
from sightline.data.files import read_groups, write_groups
from sightline.evaluation.calibration import accuracy
from sightline.evaluation.run import judge_task
from sightline.journal import Journal, recipe_of
from sightline.models.reading import reading_policy
from sightline.records import Group, Pair
from sightline.rewards.text import Mention, match_mentions, mentions
from sightline.world.annotators import annotate, quality
from sightline.world.prompts import task_prompts
from sightline.world.scenes import COLOURS, SHAPES
from sightline.world.tasks import find_task

TASK, NOISE, ANSWERS = "describe", 0.1, 6
ASPECTS = ("faithfulness", "completeness")
FIRST = 300_000
"""Number of the first training scene, beyond what other benches use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One reward model: who compares in its training data, and what it is and reads."""

    people: str = "person"
    """Annotator of the training comparisons; held-out ones are always the person's."""
    aspects: tuple[str, ...] = ("overall",)
    """Aspects that are compared."""
    objective: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the recipe's objective that differ from the shipped ones."""
    seeing: bool = True
    """Whether its backbone was first trained to see (recipes/sft_sight_world.yaml); else it is world:ceiling."""


ARMS = {
    "shipped backbone, likelihood alone": Arm(seeing=False, objective={"own_answer": False}),
    "shipped backbone, own answer": Arm(seeing=False),
    "seeing backbone, likelihood alone": Arm(objective={"own_answer": False}),
    "seeing backbone, own answer": Arm(),
    "the same with attributes": Arm(aspects=("overall", *ASPECTS), objective={"attributes": list(ASPECTS)}),
    "the same, labels without error": Arm(people="rules"),
}


def main(words: Sequence[str] | None = None) -> None:
    """Run what is missing, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/reward_model"))
    parser.add_argument("--prompts", type=int, default=4000)
    parser.add_argument("--held-out", type=int, default=600)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--scenes", type=int, default=120_000, help="exact descriptions from which sight is learned")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--json", type=Path, default=Path("bench/results/reward_model.json"))
    given = parser.parse_args(words)
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    train = sampled(out / "train.jsonl", "train", given.prompts, FIRST)
    held_out = sampled(out / "held_out.jsonl", "validation", given.held_out, 0)
    found: dict[str, Any] = {"prompts": len(train), "best_possible": 1 - NOISE, "arms": {}}
    found["truth"] = figures(held_out, by_truth(held_out))
    seeing = taught_to_see(out, given.scenes)
    for name, target in (("shipped", "world:ceiling"), ("seeing", str(seeing))):
        found[f"sight, {name} backbone"] = figures(held_out, by_sight(held_out, target))
        print("bound of sight", name, found[f"sight, {name} backbone"], flush=True)
    for name in given.arms:
        model = str(seeing) if ARMS[name].seeing else "world:ceiling"
        run = trained(name, model, train, held_out, out, given.epochs)
        found["arms"][name] = figures(held_out, rated(run, held_out, out))
        print(name, found["arms"][name], flush=True)
    given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def sampled(path: Path, split: str, num: int, first: int) -> list[Group]:
    """The base's answers to questions about scenes."""
    if not path.is_file():
        base, _ = load_trained("world:base")
        prompts = task_prompts(TASK, split, num, first=first)
        groups = build.sample_groups(base, prompts, num=ANSWERS, max_tokens=64, seed=1, batch_size=64)
        write_groups(path, [group for group in groups if len(group.completions) > 1])
    return [group for _, group in read_groups(path)]


def compared(groups: Sequence[Group], people: str, aspects: Sequence[str]) -> list[Group]:
    """The groups with comparisons of every two answers, in every aspect."""
    found = []
    for group in groups:
        for aspect in aspects:
            group = annotate(group, people, seed=0, aspect=aspect)
        if group.signals:
            found.append(group)
    return found


def taught_to_see(out: Path, scenes: int) -> Path:
    """The backbone that sees better: the shipped recipe on exact descriptions, as an ordinary checkpoint."""
    folder, model, data = out / "seeing", out / "seeing_model", out / "exact.jsonl"
    if not model.is_dir():
        if not data.is_file():
            build.world_groups(task=TASK, split="train", num=scenes, out=data)
        run_recipe("sft_sight_world", "seeing", folder, {"data": {"files": [str(data)]}, "train": {"samples": 0}})
        build.export(run=folder, out=model)
    return model


def trained(name: str, model: str, train: Sequence[Group], held_out: Sequence[Group], out: Path, epochs: float) -> Path:
    """The recipe that ships, on these comparisons."""
    arm, folder = ARMS[name], out / name.replace(", ", "_").replace(" ", "_")
    files = {}
    for part, groups in (("train", train), ("held_out", held_out)):
        files[part] = out / f"{folder.name}_{part}.jsonl"
        if not files[part].is_file():
            people = arm.people if part == "train" else "person"
            write_groups(files[part], compared(groups, people, arm.aspects))
    blocks = {
        "model": {"path": model},
        "data": {"files": [str(files["train"])], "validation_files": [str(files["held_out"])]},
        "objective": arm.objective,
        "train": {"epochs": epochs, "samples": 0},
    }
    run_recipe("reward_model_world", name, folder, blocks)
    return folder


def run_recipe(recipe: str, name: str, folder: Path, blocks: Mapping[str, Mapping[str, Any]]) -> None:
    """A shipped recipe in a folder of its own, with some keys changed; a finished run is left as it is."""
    shipped: dict[str, Any] = to_dict(load_recipe([f"recipes/{recipe}.yaml"]))
    values = shipped | {"name": folder.name, "out": str(folder)}
    values |= {block: values[block] | dict(changed) for block, changed in blocks.items()}
    if recipe_of(folder) is None or Journal.open(folder).read_status()["state"] != "done":
        build.train(make_recipe(values), say=lambda line: print(f"{name}: {line}", flush=True))


def rated(run: Path, groups: Sequence[Group], root: Path) -> list[list[float]]:
    """The ensemble's rating of every answer."""
    base, _ = load_trained("world:base")
    reader = make_inputs(base, root=root)
    entry = RewardEntry(name="learned", options={"run": str(run), "penalty": 0.0})
    said = scored(groups, entry, {group.prompt.id: reader for group in groups})
    return [[score.value for score in scores if score is not None] for scores in said]


def by_sight(groups: Sequence[Group], target: str) -> list[list[float]]:
    """Quality of every answer if what the model itself says of the picture were all that is there."""
    loaded, _ = load_trained(target)
    policy = reading_policy(loaded)
    judged = judge_task(policy, make_inputs(loaded), find_task(TASK), [group.prompt for group in groups])
    found = []
    for group, seen in zip(groups, judged.answers, strict=True):
        there = [mention.label for mention in spoken(seen)]
        told = [match_mentions(spoken(completion.text), there) for completion in group.completions]
        found.append([float(len(one.found) - len(one.absent)) for one in told])
    return found


def by_truth(groups: Sequence[Group]) -> list[list[float]]:
    """The true quality of every answer: what nobody can beat, given which words of the person were wrong."""
    facts = [dict(group.prompt.truth) for group in groups]
    return [
        [quality(one.text, TASK, true) for one in group.completions] for group, true in zip(groups, facts, strict=True)
    ]


def spoken(answer: str) -> tuple[Mention, ...]:
    """The objects that a description names."""
    return mentions(answer, colours=tuple(COLOURS), shapes=SHAPES)


def figures(groups: Sequence[Group], ratings: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Share of comparisons ranked right: against the person's words, and against the truth, by what it is about."""
    clean = compared([replace(group, signals=()) for group in groups], "rules", ("overall",))
    noisy = compared([replace(group, signals=()) for group in groups], "person", ("overall",))
    values = {group.prompt.id: rating for group, rating in zip(groups, ratings, strict=True)}
    found: dict[str, Any] = {"noisy": share(noisy, values), "clean": share(clean, values)}
    for objects in (1, 2, 3):
        some = [only_far(group, objects) for group in clean]
        found[f"clean, {objects} or more objects apart"] = share([group for group in some if group.signals], values)
    return found


def only_far(group: Group, objects: int) -> Group:
    """The comparisons whose true qualities are at least so many objects apart."""
    facts = dict(group.prompt.truth)
    present = len(facts["objects"])
    true = [quality(completion.text, TASK, facts) * present for completion in group.completions]
    far = [pair for pair in pairs_of(group) if true[pair.chosen] - true[pair.rejected] > objects - 0.5]
    return replace(group, signals=tuple(far))


def pairs_of(group: Group) -> list[Pair]:
    """A group's comparisons."""
    return [signal for signal in group.signals if isinstance(signal, Pair)]


def share(groups: Sequence[Group], values: dict[str, Sequence[float]]) -> dict[str, Any]:
    """Accuracy with its interval over prompts; equal ratings count half."""
    found = [
        (values[group.prompt.id][pair.chosen] - values[group.prompt.id][pair.rejected], number)
        for number, group in enumerate(groups)
        for pair in pairs_of(group)
    ]
    interval = accuracy(np.array([difference for difference, _ in found]), [prompt for _, prompt in found], seed=0)
    return asdict(interval) | {"comparisons": len(found)}


if __name__ == "__main__":
    main()
