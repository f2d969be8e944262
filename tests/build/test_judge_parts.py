"""From a judge recipe to its parts: protocols with their templates, and models in this process as judges."""

from pathlib import Path
from typing import Any

import pytest

from sightline import build
from sightline.build.judge_parts import embedded, make_protocol, open_answerer
from sightline.build.judges import judge_groups
from sightline.config.judge import JudgeRecipe
from sightline.data.images import ImageStore
from sightline.journal import RunFailed
from sightline.models.sampler import SamplingParams, sample
from sightline.records import Image, Message, Prompt, RecordError
from sightline.rewards.ask import Question, Reply
from sightline.rewards.judges.claims import ByClaims
from sightline.rewards.judges.pairwise import Pairwise
from sightline.rewards.judges.pointwise import Pointwise
from tests.tiny import tiny_inputs, tiny_policy
from tests.train.runs import tiny_recipe


def recipe(path: Path | str, protocol: dict[str, Any], **more: Any) -> JudgeRecipe:
    judge = {"kind": "model", "path": str(path)}
    return JudgeRecipe.model_validate({"name": "local", "judge": judge, "protocol": protocol, **more})


def ask(given: JudgeRecipe, questions: list[Question], *, stop: bool = False) -> tuple[list[Reply], str]:
    with open_answerer(given, lambda: stop) as answerer:
        found = dict(one for some in answerer.answer(questions) for one in some)
        return [found[number] for number in range(len(questions))], answerer.who


def question(text: str, **options: Any) -> Question:
    return Question(messages=(Message(role="user", content=(text,)),), max_tokens=6, **options)


def test_a_protocol_is_what_the_recipe_says():
    pairwise = make_protocol(recipe("x", {"kind": "pairwise", "against": 0, "max_tokens": 7}, seed=3))
    assert isinstance(pairwise, Pairwise)
    assert (pairwise.source, pairwise.against, pairwise.template.name) == ("local", 0, "pairwise")
    assert (pairwise.sampling.max_tokens, pairwise.sampling.seed, pairwise.sampling.temperature) == (7, 3, 0.0)
    aspects = ["helpfulness", {"name": "brevity", "means": "brevity."}]
    pointwise = make_protocol(recipe("x", {"kind": "pointwise", "aspects": aspects, "scale": [0, 3]}))
    assert isinstance(pointwise, Pointwise)
    assert [aspect.name for aspect in pointwise.aspects] == ["helpfulness", "brevity"]
    assert pointwise.aspects[0].means.startswith("helpfulness, that is,")
    assert (pointwise.read("Rating: 0").value, pointwise.read("Rating: 4").value) == (0.0, None)
    critique = make_protocol(recipe("x", {"kind": "critique", "pairs": False}))
    assert isinstance(critique, Pointwise)
    assert (critique.read("Rating: 4").value, critique.read("Well.\nScore: 7").value) == (None, 7.0)
    assert (critique.pairs, critique.sampling.max_tokens) == (False, 1024)
    claims = make_protocol(recipe("x", {"kind": "claims", "split": "pattern", "pattern": "a|b", "score": "rejected"}))
    assert isinstance(claims, ByClaims)
    assert (claims.score, claims.sampling.max_tokens, claims.split_sampling.max_tokens) == ("rejected", 16, 1024)


@pytest.mark.parametrize(
    ("protocol", "says"),
    [
        ({"kind": "pointwise", "aspects": ["ethic"]}, "protocol.aspects: 'ethic' is not shipped; did you mean ethics"),
        ({"kind": "pointwise", "aspects": ["ethics", "ethics"]}, "protocol.aspects: ethics is named twice"),
        ({"kind": "pairwise", "template": "pointwise"}, r"template pointwise: there is no \{answer\}"),
        ({"kind": "claims", "template": "claims_split"}, r"template claims_split: \{claim\} is missing"),
        ({"kind": "pairwise", "template": "pairwize"}, "template pairwize: does not exist; did you mean pairwise"),
    ],
)
def test_templates_and_aspects_are_checked_before_anybody_is_asked(protocol: dict[str, Any], says: str):
    with pytest.raises(ValueError, match=says):
        make_protocol(recipe("x", protocol))


def test_several_aspects_need_their_place_in_the_template(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("Rate {answer}.")
    given = {"kind": "pointwise", "template": str(tmp_path / "mine.txt")}
    with pytest.raises(ValueError, match=r"\{aspect\} is missing"):
        make_protocol(recipe("x", given))
    assert make_protocol(recipe("x", given | {"aspects": ["overall"]}))


def test_a_model_answers_the_same_question_with_the_same_words(world: Path):
    given = recipe(world / "model", {"kind": "pairwise"})
    questions = [question(f" circle {number}", temperature=1.0, seed=number % 2) for number in range(5)]
    together, who = ask(given, questions)
    alone = [ask(given, [one])[0][0] for one in questions]
    assert [reply.text for reply in together] == [reply.text for reply in alone]
    assert all(reply.prompt_tokens > 0 and 0 < reply.completion_tokens <= 6 for reply in together)
    assert who == ask(given, [])[1]
    both = [given.judge.model_copy(update={"dtype": dtype}) for dtype in ("float32", "bfloat16")]
    exact, rounded = (ask(given.model_copy(update={"judge": judge}), [])[1] for judge in both)
    assert exact != rounded
    assert who in (exact, rounded), "what `auto` means here is in the name under which replies are kept"


def test_what_a_model_cannot_read_is_a_problem_of_that_question(world: Path):
    replies, _ = ask(recipe(world / "model", {"kind": "pairwise"}), [question("fine"), question("an <image> as text")])
    assert replies[0].problem is None
    assert replies[1].problem is not None
    assert replies[1].problem.startswith("the model cannot read the question: it ")


def test_a_stop_comes_between_two_batches(world: Path):
    with pytest.raises(KeyboardInterrupt):
        ask(recipe(world / "model", {"kind": "pairwise"}), [question("a")], stop=True)


@pytest.fixture(scope="module")
def run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run on the tiny model."""
    given = tiny_recipe(world, tmp_path_factory.mktemp("judge") / "run", train={"steps": 1, "save_every": 1})
    return build.train(given, say=lambda line: None, show=lambda step, num, metrics: None)


def test_a_run_judges_with_what_it_has_become(run: Path, world: Path):
    protocol = {"kind": "claims", "split": "sentences", "template": "claim_exists"}
    [reply], who = ask(recipe(run, protocol), [question("red circle")])
    loaded, _ = build.load_trained(str(run))
    inputs = tiny_inputs(loaded)
    params = SamplingParams(temperature=0.0, max_tokens=6)
    prompt = inputs.prompt(Prompt(id="0", messages=question("red circle").messages))
    [[said]] = sample(tiny_policy(loaded), [prompt], num=1, params=params, ends=inputs.ends)
    assert reply.text == inputs.text(said.token_ids)
    assert who != ask(recipe(world / "model", protocol), [])[1]


def test_a_model_that_babbles_makes_no_score(world: Path, tmp_path: Path):
    given = recipe(world / "model", {"kind": "claims", "split": "sentences"}, cache=str(tmp_path / "cache"))
    out = tmp_path / "out.jsonl"
    with pytest.raises(RunFailed, match=r"^judge local: none of \d+ replies could be read"):
        judge_groups(source=world / "train.jsonl", judge=given, out=out, say=lambda line: None)
    assert not out.exists()


def test_pictures_that_are_none_are_told():
    prompt = Prompt(id="7", messages=(Message(role="user", content=(Image(data=b"nothing"), "What?")),))
    with pytest.raises(RecordError, match="is not an image that is read here"):
        embedded(prompt, ImageStore(None))
