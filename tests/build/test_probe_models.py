"""Rewards that models give are attacked too: by the embedded CLIP, and what is wrong is said before."""

import pytest

from sightline.build.probe_models import probe_model


def test_the_embedded_clip_falls_for_no_denial():
    probed = probe_model("clip", options={"model": "world:clip"}, truth=None, cases=6, seed=1)
    [kind] = probed.kinds
    assert kind.right > kind.honest > 0
    verdicts = {attack.name: attack.verdict for attack in kind.attacks}
    denials = [name for name in verdicts if "denied" in name or "missing" in name]
    assert len(denials) == 4
    assert {verdicts[name] for name in denials} == {"below"}
    assert verdicts["everything named"] == verdicts["every label swapped"] == "below"
    assert probed.passed == (not any(attack.failed for attack in kind.attacks))


def test_scenes_follow_the_seed():
    first, again = (probe_model("clip", options={"model": "world:clip"}, truth=None, cases=2, seed=3) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    ("name", "options", "truth", "says"),
    [
        ("clip", {}, None, "clip: model is missing"),
        ("learned", {}, None, "learned: run is missing"),
        ("judge", {}, None, "judge: recipe is missing"),
        ("clip", {"model": "world:clip"}, "boxes", "truth is 'boxes'; rewards of models are probed on descriptions"),
    ],
)
def test_what_is_missing_is_said(name, options, truth, says):
    with pytest.raises(ValueError, match=says):
        probe_model(name, options=options, truth=truth, cases=1, seed=0)
