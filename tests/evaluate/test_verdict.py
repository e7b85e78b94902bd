"""The verdict in words."""

from echo.evaluate.figures import WER
from echo.evaluate.result import Difference, Figure, Measure, Result, Run
from echo.evaluate.verdict import verdict


def judged(value, interval, seeds=("1", "2"), kind="pilot"):
    runs = [Run(model, seed) for model in ("new", "old") for seed in seeds]
    difference = Difference("new", "old", value, interval, 0.9, len(seeds) == 1)
    figure = Figure("Parameters", "M", ".0f", is_cost=True).of({"new": 2.0, "old": 4.0})
    rates = WER.of({"new": 0.2 + value, "old": 0.2})
    measure = Measure(rates, [difference])
    return verdict(Result(kind, "d", runs, "old", [measure], figures=[figure]))


def test_the_verdict_says_how_sure_it_is_and_what_it_costs():
    sure = judged(-0.1, (-0.15, -0.05))
    assert sure.headline == ("new gets 10.0 % of the words wrong, old 20.0 %: 50 % fewer errors.")
    assert sure.certainty == "sure"
    assert "15.00 points better to 5.00 points better" in sure.sure
    assert sure.cost == "Cost of new against old: parameters 2 M against 4 M (−50 %)."
    assert judged(0.1, (0.05, 0.15)).headline.endswith("50 % more errors.")
    assert judged(-0.1, (-0.2, 0.01)).certainty == "unsure"
    assert judged(-0.1, (-0.15, -0.05), seeds=("1",)).certainty == "one seed"
    assert judged(-0.1, None).certainty == "unknown"
    assert judged(0.0, (0.0, 0.0)).headline == "new and old both get 20.0 % of the words wrong."
