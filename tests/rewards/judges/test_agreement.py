"""Which answer each source prefers, and how often two sources agree."""

from sightline.records import Label, Pair, Rank, Reward, Signal, Span
from sightline.rewards.judges.agreement import agreed, preferences, sources_of


def test_pairs_ranks_rewards_and_labels_all_say_a_preference():
    assert preferences([Pair(chosen=2, rejected=0, source="a")], "a") == {(0, 2): -1.0}
    assert preferences([Rank(ranks=(1, 0, 1), source="a")], "a") == {(0, 1): -1.0, (1, 2): 1.0}
    rewards = [Reward(completion=0, value=2.0, source="a"), Reward(completion=1, value=1.0, source="a")]
    assert preferences(rewards, "a") == {(0, 1): 1.0}
    labels = [Label(completion=1, good=True, source="a"), Label(completion=0, good=False, source="a")]
    assert preferences(labels, "a") == {(0, 1): -1.0}
    assert preferences([Span(completion=0, start=0, end=1, source="a")], "a") == {}


def test_ties_and_contradictions_say_none():
    assert preferences([Pair(chosen=0, rejected=1, tie=True, source="a")], "a") == {}
    one, other = Pair(chosen=0, rejected=1, source="a"), Pair(chosen=1, rejected=0, source="a")
    assert preferences([one, other], "a") == {}
    assert (
        preferences([one, Reward(completion=0, value=1, source="a"), Reward(completion=1, value=5, source="a")], "a")
        == {}
    )


def test_what_is_overall_goes_before_single_aspects():
    kind = Pair(chosen=0, rejected=1, source="a", aspect="kindness")
    true = Pair(chosen=1, rejected=0, source="a", aspect="overall")
    assert preferences([kind, true], "a") == {(0, 1): -1.0}
    assert preferences([kind], "a") == {(0, 1): 1.0}


def test_sources_are_told_apart():
    signals: list[Signal] = [Pair(chosen=0, rejected=1, source="a"), Pair(chosen=1, rejected=0)]
    assert sources_of(signals) == ["a", "unnamed"]
    assert preferences(signals, "unnamed") == {(0, 1): -1.0}


def test_agreement_counts_what_both_decide():
    mine = {(0, 1): 1.0, (0, 2): -1.0, (1, 2): 1.0}
    assert agreed(mine, {(0, 1): 2.0 / 2, (0, 2): 1.0, (3, 4): 1.0}) == (1, 2)
    assert agreed(mine, {}) == (0, 0)
