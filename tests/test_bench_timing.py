"""Times are taken in turns and compared in pairs, on a machine whose clock the test moves."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from betavae_core.bench import timing
from betavae_core.bench.timing import Rounds, Timed, interleave


class Machine:
    """A machine whose clock moves only while something runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.turns = 0.0, ""
        monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def runs(self, name: str, cost: Callable[[float], float], calls: int = 1) -> Timed:
        """Something that takes `cost(now)` seconds."""

        def run() -> None:
            self.turns += name
            self.now += cost(self.now)

        return Timed(run, calls)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_turns_are_taken_one_after_another(fake: Machine) -> None:
    interleave({name: fake.runs(name, lambda _: 1.0) for name in "ABC"}, seconds=19)
    warm_up = "AAABBBCCC"
    assert fake.turns == warm_up + "ABC" * 3


def test_the_budget_is_kept_and_holds_one_round_at_least(fake: Machine) -> None:
    subjects = {name: fake.runs(name, lambda _: 1.0) for name in "AB"}
    assert len(interleave(subjects, seconds=13.5).seconds["A"]) == 3
    assert fake.now <= 13.5
    assert len(interleave(subjects, seconds=0).seconds["A"]) == 1


def test_short_runs_are_repeated_to_fill_a_turn(fake: Machine) -> None:
    rounds = interleave({"A": fake.runs("A", lambda _: 2.0**-10)}, seconds=0, turn=2.0**-5)
    assert len(fake.turns) == 3 + 32
    assert rounds.seconds["A"] == [2.0**-10]


def test_a_run_of_many_calls_is_reported_as_one_call(fake: Machine) -> None:
    rounds = interleave({"A": fake.runs("A", lambda _: 8.0, calls=64)}, seconds=0)
    assert rounds.seconds["A"] == [0.125]


def test_a_round_of_several_cycles_is_their_sum(fake: Machine) -> None:
    costs = iter(
        [1.0, 1.0, 1.0, 9.0, 1.0, 1.0, 1.0]
    )  # three to warm up, then one turn in four is dear
    rounds = interleave({"A": fake.runs("A", lambda _: next(costs))}, seconds=0, cycles=4)
    assert rounds.seconds["A"] == [3.0]


def test_a_ratio_is_the_median_of_pairs_and_not_of_medians() -> None:
    rounds = Rounds({"slow": [2.0, 30.0, 4.0], "fast": [1.0, 10.0, 40.0]})
    assert rounds.ratio("slow", "fast").median == 2.0
    assert rounds.spread("slow").median / rounds.spread("fast").median == 0.4


def test_a_machine_that_slows_down_tenfold_does_not_change_the_ratio(fake: Machine) -> None:
    def load(now: float) -> float:
        return 10.0 if now > 200 else 1.0

    subjects = {"slow": fake.runs("s", lambda t: 3 * load(t)), "fast": fake.runs("f", load)}
    rounds = interleave(subjects, seconds=1000)
    assert rounds.ratio("slow", "fast") == (3.0, 3.0, 3.0)
    assert rounds.spread("fast").p80 == 10 * rounds.spread("fast").p20
