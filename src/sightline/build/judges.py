"""Groups judged by another model: questions in, signals out, nothing asked twice; and the same judge as a reward.

Owns the order of work: some groups at a time, their rounds together, replies kept as they arrive, the file written
when its last group is judged. A judge that says nothing that can be read is given up early, with the reason.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

from sightline.build.judge_parts import Answerer, cost, embedded, make_protocol, open_answerer
from sightline.build.judge_summary import JudgeSummary, Tally
from sightline.config.judge import JudgeRecipe, PairwiseProtocol
from sightline.data.files import read_groups, write_groups
from sightline.data.images import ImageStore
from sightline.journal import RunFailed
from sightline.progress import Phase, Say, phase, say
from sightline.records import Group, Prompt, RecordError
from sightline.rewards.ask import asking
from sightline.rewards.contract import Score
from sightline.rewards.judges.contract import JudgeProtocol, Subject
from sightline.rewards.judges.rounds import Counts, judge_all
from sightline.rewards.kept_answers import KeptAnswers
from sightline.stopping import asked_to_stop
from sightline.train.distributed import rank_and_size

GROUPS_AT_ONCE = 128
ENOUGH_QUESTIONS = 8
STOPPING = "stopping: replies in flight are waited for and kept; Ctrl-C again leaves at once"


def judge_groups(
    *, source: Path, judge: JudgeRecipe, out: Path, root: Path | None = None, say: Say = say
) -> JudgeSummary:
    """Add what the judge says to the groups of a file; `out` is written whole, and may be the source itself.

    Stopped or killed, it goes on when it is called again: replies are kept in the recipe's cache.
    """
    store = ImageStore(root or source.parent)
    names = _check_source(source, store, 2 if isinstance(judge.protocol, PairwiseProtocol) else 1)
    _check_out(out, source, names)
    out.parent.mkdir(parents=True, exist_ok=True)
    judging = phase("judging, group", len(names))
    with (
        asked_to_stop(STOPPING, say=say) as stop,
        judging as counted,
        open_judge(judge, say=say, counted=counted, stop=stop) as opened,
    ):
        try:
            write_groups(out, opened.groups((group for _, group in read_groups(source)), store))
        except KeyboardInterrupt:
            say("stopped; every reply is kept. Go on with the same command")
            raise
        return opened.summary()


@contextmanager
def open_judge(
    recipe: JudgeRecipe, *, say: Say = say, counted: Phase | None = None, stop: Callable[[], bool] = lambda: False
) -> Iterator["Judge"]:
    """The judge of a recipe, for as long as it is needed; it holds the lock on its cache.

    `counted` hears how many groups are judged; once `stop` says so, nothing more is asked.
    """
    protocol = make_protocol(recipe)
    assert recipe.cache is not None, "load_judge fills it in"
    rank, _ = rank_and_size()
    folder = Path(recipe.cache) / f"process-{rank}" if rank else Path(recipe.cache)  # one process writes in each
    with KeptAnswers(folder) as kept, open_answerer(recipe, stop) as answerer:
        if len(kept):
            say(f"{recipe.cache} keeps {len(kept):,} replies; what they answer is not asked again")
        yield Judge(recipe, protocol, answerer, kept, counted)


class Judge:
    """A judge at work. State: the counts of all that it judged."""

    def __init__(
        self,
        recipe: JudgeRecipe,
        protocol: JudgeProtocol,
        answerer: Answerer,
        kept: KeptAnswers,
        counted: Phase | None,
    ) -> None:
        """Made by `open_judge`."""
        self._recipe, self._protocol, self._answerer, self._counted = recipe, protocol, answerer, counted
        self._num_replies = 0
        self._ask = asking(answerer.answer, kept, who=answerer.who, told=self._told)
        self.tally = Tally(source=recipe.name)

    def groups(self, groups: Iterable[Group], store: ImageStore) -> Iterator[Group]:
        """The groups with the judge's signals; those of an earlier judge of the same name are replaced."""
        rest, size = iter(groups), 1  # few at first, so that a useless judge costs little
        while chunk := list(islice(rest, size)):
            subjects = [_subject(group, store) for group in chunk]
            judgements, counts = judge_all(
                [self._protocol.rounds(subject) for subject in subjects], self._ask, again=self._recipe.self_agreement
            )
            for group, judgement, count in zip(chunk, judgements, counts, strict=True):
                others = [signal for signal in group.signals if signal.source != self._recipe.name]
                self.tally.add(judgement, count, others)
                yield replace(group, signals=(*others, *judgement.signals))
            if self.tally.counts.questions >= ENOUGH_QUESTIONS:
                self._check_read()
            size = min(2 * size, GROUPS_AT_ONCE)
        self._check_read()

    def scores(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]], store: ImageStore | None = None
    ) -> list[list[Score | None]]:
        """A score for every answer to every prompt, as rewards give them; None where there is none.

        For pointwise, critique and claims; nothing is asked twice for the sake of self-agreement.
        """
        if isinstance(self._recipe.protocol, PairwiseProtocol):
            cure = "use pointwise, critique or claims"
            raise ValueError(f"{self._recipe.name}: protocol.kind pairwise gives no scores; {cure}")
        pictures = store or ImageStore(None)
        subjects = [
            Subject(prompt=embedded(prompt, pictures), answers=tuple(given))
            for prompt, given in zip(prompts, answers, strict=True)
        ]
        alone = 0 if self.tally.counts.questions else 1  # a judge that cannot be read is found out by one prompt
        return self._scored(subjects[:alone]) + self._scored(subjects[alone:])

    def _scored(self, subjects: Sequence[Subject]) -> list[list[Score | None]]:
        judgements, counts = judge_all([self._protocol.rounds(subject) for subject in subjects], self._ask)
        for judgement, count in zip(judgements, counts, strict=True):
            self.tally.add(judgement, count, ())
        self._check_read()
        return [list(judgement.scores) for judgement in judgements]

    def summary(self) -> JudgeSummary:
        """What was done so far."""
        counts, usage, judge = self.tally.counts, self._answerer.usage, self._recipe.judge
        return self.tally.summary(
            requests=None if usage is None else usage.requests,
            retries=None if usage is None else usage.retries,
            cost=cost(judge, counts.prompt_tokens, counts.completion_tokens),
            cost_now=None if usage is None else cost(judge, usage.prompt_tokens, usage.completion_tokens),
        )

    def _told(self, num: int) -> None:
        """So many replies more."""
        self._num_replies += num
        if self._counted is not None:
            self._counted.reach(self.tally.groups, facts=f"{self._num_replies:,} replies")

    def _check_read(self) -> None:
        """Stop when nothing of what came back could be read."""
        if self.tally.counts.questions and not self.tally.counts.read:
            raise RunFailed(self._hopeless(self.tally.counts))

    def _hopeless(self, counts: Counts) -> str:
        """Why it makes no sense to go on, in a sentence with the cure."""
        name, num = self._recipe.name, counts.questions
        failed, refused = counts.problems.get("failed", 0), counts.problems.get("refused", 0)
        said = " ".join(counts.example.split())[:120]
        if failed >= num / 2:
            cure = "mend it, and the same command goes on from here"
            return f"judge {name}: {failed} of {num} questions got no reply, the last because {counts.problem}; {cure}"
        if refused >= num / 2:
            cure = "ask another model, or word the template otherwise"
            return f"judge {name}: {refused} of {num} replies decline to judge, such as {said!r}; {cure}"
        kinds = ", ".join(f"{count} {kind}" for kind, count in counts.problems.items())
        cure = "ask a model that keeps to the form, or give a template and max_tokens that it can follow"
        return f"judge {name}: none of {num} replies could be read ({kinds}), such as {said!r}; {cure}"


def _subject(group: Group, store: ImageStore) -> Subject:
    answers = tuple(completion.text for completion in group.completions)
    try:
        return Subject(prompt=embedded(group.prompt, store), answers=answers)
    except RecordError as error:
        raise RecordError(f"prompt {group.prompt.id!r}: {error.where}", error.problem, error.cure) from error


def _check_source(source: Path, store: ImageStore, at_least: int) -> set[str]:
    """The ids of all groups; every row is read once and every picture's file looked for, before anything is asked."""
    names, most = set(), 0
    for line, group in read_groups(source):
        names.add(group.prompt.id)
        most = max(most, len(group.completions))
        for image in group.prompt.images:
            try:
                if image.path is not None:
                    store.locate(image)
            except RecordError as error:
                raise RecordError(f"{source}:{line}: {error.where}", error.problem, error.cure) from error
    if most < at_least:
        wanted = "two answers to compare" if at_least == 2 else "an answer to judge"
        raise ValueError(f"{source} holds no group with {wanted}; add answers, or name another file")
    return names


def _check_out(out: Path, source: Path, names: set[str]) -> None:
    """Refuse what is no data file, and to write over anything but the source and an earlier result of it."""
    if out.suffix not in (".jsonl", ".parquet"):
        raise ValueError(f"{out}: ends in {out.suffix!r}; data files are .jsonl or .parquet")
    if not out.exists() or (out.is_file() and out.samefile(source)):
        return
    try:
        same = out.is_file() and {group.prompt.id for _, group in read_groups(out)} == names
    except RecordError:
        same = False
    if not same:
        raise ValueError(f"{out} is there already and holds other things; give a new name, or remove it")
