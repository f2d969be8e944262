"""The end of a run that trains a reward model: an ensemble on the trained backbone, and how far it can be trusted."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from sightline.build.batches import batches
from sightline.build.loading import Row
from sightline.build.reward_models import FACTS, FOLDER, MEMBERS
from sightline.config import Recipe
from sightline.config.schema import Ranking
from sightline.evaluation.calibration import Calibration, accuracy, expected_calibration_error, fit_calibration
from sightline.journal import Journal, atomic_write
from sightline.models.forward import Policy
from sightline.models.heads import RatingHead
from sightline.models.load import Loaded
from sightline.models.scorers import Compared, Fit, Rater, fit_members, gather, units_of
from sightline.objectives.ranking import OVERALL
from sightline.progress import Say, each, phase


def make_rating(recipe: Recipe, loaded: Loaded) -> RatingHead | None:
    """The head that is trained with the backbone: for ranking alone."""
    objective = recipe.objective
    if not isinstance(objective, Ranking):
        return None
    weight = loaded.family.head(loaded.model).weight
    assert isinstance(weight, Tensor)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        head = RatingHead(
            weight.shape[1],
            num_attributes=len(objective.attributes),
            with_length=objective.length_weight > 0,
            with_likelihood=objective.likelihood,
            with_agreement=objective.own_answer,
        )
    return head.to(weight.device)


def finish_rating(
    recipe: Recipe, policy: Policy, rows: Sequence[Row], held_out: Sequence[Row], journal: Journal, say: Say
) -> Path:
    """Fit the ensemble to the trained backbone's states and calibrate it; writes `scorer/` as a whole."""
    objective = recipe.objective
    assert isinstance(objective, Ranking)
    say(f"reading the states of the answers of {len(rows)} groups, for an ensemble of {objective.members} heads")
    seen, fresh = (compared(recipe, policy, some) for some in (rows, held_out))
    with phase("fitting members"):
        members = fit_members(seen, fit_of(recipe), say=say)
    units = units_of(members, seen)
    rater = Rater(policy=policy, members=members, units=units, ends=())
    facts = {
        "attributes": list(objective.attributes),
        "width": seen.states.shape[-1],
        "with_length": objective.length_weight > 0,
        "with_likelihood": objective.likelihood,
        "with_agreement": objective.own_answer,
        "hidden": objective.member_hidden,
        "members": objective.members,
        **calibrated(rater, fresh, objective.attributes, seed=recipe.seed),
    }
    folder = journal.folder / FOLDER
    folder.mkdir(exist_ok=True)
    tensors = {f"{i}.{name}": value for i, head in enumerate(members) for name, value in head.state_dict().items()}
    partial = folder / f".partial-{MEMBERS}"
    save_file({name: value.contiguous() for name, value in tensors.items()} | {"units": units}, partial)
    partial.replace(folder / MEMBERS)
    atomic_write(folder / FACTS, json.dumps(facts, indent=1) + "\n")
    right, sure = facts["accuracy"], facts["calibration_error"]
    say(
        f"held-out comparisons ranked right: {right['estimate']:.1%} ({right['low']:.1%} to {right['high']:.1%} of "
        f"{facts['num_comparisons']}); calibration error {sure['before']:.1%}, {sure['after']:.1%} at temperature "
        f"{facts['temperature']:.2f} with a lapse of {facts['lapse']:.1%}"
    )
    return folder


def fit_of(recipe: Recipe) -> Fit:
    """How the recipe wants its members fitted."""
    objective = recipe.objective
    assert isinstance(objective, Ranking)
    return Fit(
        members=objective.members,
        hidden=objective.member_hidden,
        epochs=objective.member_epochs,
        num_attributes=len(objective.attributes),
        with_likelihood=objective.likelihood,
        with_agreement=objective.own_answer,
        margin_weight=objective.margin_weight,
        centring_weight=objective.centring_weight,
        length_weight=objective.length_weight,
        seed=recipe.seed,
    )


def compared(recipe: Recipe, policy: Policy, rows: Sequence[Row]) -> Compared:
    """States of all compared answers of some groups, read once."""
    found = [
        (batch, gather(policy, batch, token_budget=recipe.train.token_budget))
        for batch in each(batches(rows, recipe, None, shared=False), "reading states, batch")
    ]
    answers = np.cumsum([0, *(batch.num_answers for batch, _ in found)])
    prompts = np.cumsum([0, *(len(batch.prompts) for batch, _ in found)])
    column = lambda name: torch.cat([batch.pair_columns[name] for batch, _ in found])  # noqa: E731
    return Compared(
        states=torch.cat([states for _, (states, _) in found]).cpu(),
        evidence=torch.cat([evidence for _, (_, evidence) in found]).cpu(),
        lengths=torch.cat([batch.lengths for batch, _ in found]),
        group=torch.cat([batch.group + int(p) for (batch, _), p in zip(found, prompts, strict=False)]),
        pairs=torch.cat([batch.pairs + int(n) for (batch, _), n in zip(found, answers, strict=False)]),
        margin=column("margin"),
        tie=column("tie") > 0,
        aspect=column("aspect").long(),
    )


def calibrated(rater: Rater, held_out: Compared, attributes: Sequence[str], *, seed: int) -> dict[str, Any]:
    """Calibration with its error, and accuracy, on comparisons that were not trained on; ties are left out."""
    said = rater.members_say(held_out.states, held_out.evidence)
    ratings, decided = said.mean(0), ~held_out.tie
    pairs, aspect = held_out.pairs[decided], held_out.aspect[decided]
    sides = [ratings[pairs[:, side], aspect] for side in (0, 1)]
    differences = (sides[0] - sides[1]).double().numpy()
    if len(differences) == 0:
        raise ValueError("data.validation_files hold ties alone; ratings are calibrated on decided comparisons")
    prompts = held_out.group[pairs[:, 0]].numpy()
    longer = (held_out.lengths[pairs[:, 0]] - held_out.lengths[pairs[:, 1]]).numpy()
    overall = aspect.numpy() == 0
    main = differences[overall] if overall.any() else differences
    fitted = fit_calibration(main)
    named = {name: aspect.numpy() == i for i, name in enumerate((OVERALL, *attributes))}
    sized = {"chosen_longer": longer > 0, "equally_long": longer == 0, "chosen_shorter": longer < 0}
    return {
        "num_comparisons": len(differences),
        "accuracy": asdict(accuracy(differences, prompts.tolist(), seed=seed)),
        "by_aspect": _accuracies(differences, prompts, named, seed),
        "by_length": _accuracies(differences, prompts, sized, seed),
        **asdict(fitted),
        "calibration_error": {
            "before": expected_calibration_error(main, Calibration()),
            "after": expected_calibration_error(main, fitted),
        },
        "spread": float(said[..., 0].std(0, correction=0).mean()),
    }


def _accuracies(
    differences: NDArray[np.float64], prompts: NDArray[np.int64], parts: dict[str, NDArray[np.bool_]], seed: int
) -> dict[str, Any]:
    return {
        name: asdict(accuracy(differences[here], prompts[here].tolist(), seed=seed)) | {"num": int(here.sum())}
        for name, here in parts.items()
        if here.any()
    }
