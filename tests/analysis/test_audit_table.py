"""The table of soundness: its numbers by hand, what it says, and which audits it refuses."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pytest
from scipy.stats import binom

from certsmooth.analysis.metrics import accuracy_interval
from certsmooth.analysis.soundness import ORDERS, AuditedRun, soundness_table
from certsmooth.artefacts.audits import Broken
from certsmooth.errors import ConfigError, CountsError
from certsmooth.report.render import render, write_table
from certsmooth.science.audit.answers import KINDS
from certsmooth.science.audit.break_certificates import BreakPlan
from certsmooth.science.audit.order import order_cost
from factories import DIGEST, certified_run, column, row, rows

RADII = (0.0, 0.5)
# A line of three, see test_audit_order: the wrong answer at 1.5 holds the right one at 1.
POINTS, PREDICT, LABELS = np.array([[0.0], [1.0], [1.5]]), np.array([0, 0, 1]), np.array([0, 0, 0])
APART = np.array([[0.0], [10.0], [20.0]])
RADIUS = np.array([0.5, 0.7, 0.75])
SHOWN_ORDERS = (
    *("No memory", "Given order", "Shuffles, mean", "Shuffles, least", "Shuffles, most", "Worst order found"),
    "Every order, at least",
)


def audited(answers="brb", *, method="cohen_ds", before="none", after="memory", points=POINTS, seed=0, **changes):
    """One certificate per image; PREDICT's answer at each: r(ight), b(roken), a(bstain)."""
    cost = order_cost(points, PREDICT, RADIUS, LABELS, order=np.arange(3), radii=RADII, shuffles=4, seed=0, norm="l2")
    memory = after == "memory"
    conflicting = memory and cost.conflicts > 0
    predict, radius = (np.array([0, 0, 0]), np.array([0.5, 0.7, 0.2])) if conflicting else (PREDICT, RADIUS)
    shown = {"conflicts": cost.conflicts, "capped": 0, "repredicted": 1, "order": "shuffled"}
    count = len(answers)
    counts = {"r": [400, 0], "b": [0, 400], "a": [200, 200]}
    broken = Broken(
        index=np.array([10, 20, 30])[:count],
        predict=PREDICT[:count],
        radius=RADIUS[:count],
        sigma=np.full(count, 0.5),
        candidates=np.full(count, 16),
        kind=np.array([KINDS.index("start")] * count),
        distance=RADIUS[:count] / 2,
        sigma_there=np.full(count, 0.2),
        counts=np.array([counts[a][:: 1 - 2 * c] for a, c in zip(answers, PREDICT, strict=False)]).reshape(-1, 2),
        batch_size=np.full(count, 100),
    )
    run = certified_run(
        radius,
        labels=LABELS,
        predict=predict,
        method=method,
        guarantee=after,
        alpha=0.01,
        columns={"idx": [10, 20, 30], "radius_before_memory": RADIUS},
        made={"step": "1/16", "memory": shown if memory else None},
        grid={"iterations": 9},
        seed=seed,
    )
    plan = dataclasses.asdict(BreakPlan(n=400, seed=7, dataset="digits"))
    attack = {"stride": 1, "plan": plan, "device": "cpu", "seconds": 3.0}
    return dataclasses.replace(AuditedRun(run, "l2", before, cost, broken, attack), **changes)


def with_counts(*counts, **changes):
    """As `audited`, of the class 0 each, with these counts."""
    found = audited("r" * len(counts))
    given = dataclasses.replace(found.broken, counts=np.array(counts), predict=np.zeros(len(counts), dtype=np.int64))
    return dataclasses.replace(found, broken=given, **changes)


def fixed(**changes):
    values = {"method": "cohen", "before": "global", "after": "global", "points": APART}
    return audited("rra", **values | changes)


def build(runs, alpha=0.001):
    return soundness_table(runs, name="soundness", title="What certificates promise", alpha=alpha)


def test_numbers_by_hand():
    result = build([audited(), fixed()])
    about = {"n": 400, "alpha": 0.001, "dataset": "digits", "radii": list(RADII), "shuffles": 4}
    assert result.about == about
    first, second = rows(result.more["runs"])
    assert [first[key] for key in ("certificates", "broken", "abstained", "candidates")] == [3, 2, 0, 16]
    kinds = {each["kind"]: each["broken"] for each in rows(result.more["kinds"], method="Cohen-DS")}
    assert kinds == {kind: 2 if kind == "start" else 0 for kind in KINDS}
    assert rows(result.more["kinds"], method="Cohen") == []  # none of its certificates broke
    assert first["false_alarms"] == pytest.approx(0.003)
    assert (first["lower"] / 100, first["upper"] / 100) == pytest.approx(accuracy_interval(2 / 3, 3))
    # alpha of the certificate and of PREDICT, each once
    assert first["p_value"] == pytest.approx(binom.sf(1, 3, 0.011))
    assert (second["broken"], second["abstained"], second["p_value"]) == (0, 1, 1.0)
    assert [each["conflicts"] for each in (first, second)] == [1, 0]
    assert [(each["before"], each["after"]) for each in (first, second)] == [("none", "memory"), ("global", "global")]


def test_an_answer_is_predict_at_alpha():
    run = audited()
    close = dataclasses.replace(run.broken, counts=np.array([[180, 220], [400, 0], [400, 0]]))
    found = [row(build([dataclasses.replace(run, broken=close)], alpha=a).more["runs"]) for a in (0.001, 0.1)]
    assert [(each["broken"], each["abstained"]) for each in found] == [(1, 1), (2, 0)]


def test_the_page_says_all_of_it():
    text = render(build([audited(), audited("rrr", seed=1), fixed()]))
    methods = text.split("## Each method")[1].split("## Each run")[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in methods.splitlines() if line.startswith("|")]
    assert lines[2] == ["Cohen-DS", "none", "memory", "2", "2", "6", "2", "33.3 %", "0", "0.006"]
    assert lines[3] == ["Cohen", "global", "global", "1", "0", "3", "0", "0.0 %", "1", "0.003"]
    order = text.split("## What the order")[1].split("## Where")[0]
    for words in ("In the other runs", *SHOWN_ORDERS):
        assert words in order
    assert "| Cohen " not in order
    bound = next(line for line in order.splitlines() if "| Every order" in line)
    assert [cell.strip() for cell in bound.split("|")[-4:-1]] == ["33.3", "33.3", "0.167"]
    for words in ("`memory`:", "`none`:", "`global`:", "up to 16 points", "not clipped to [0, 1]", "p: at most"):
        assert words in text
    for words in ("ascent, starting sigma", "fingerprint sha256:abab", "n = 400, alpha = 0.001", "3 jobs, 9 s", "38 s"):
        assert words in text
    assert " nan " not in text


def test_without_conflicts_and_broken_certificates_it_says_so():
    text = render(build([fixed()]))
    assert "In no run certified balls of different classes intersect" in text
    assert "None was broken." in text
    assert SHOWN_ORDERS[-1] not in text


def test_files_hold_every_number(tmp_path):
    result = build([audited(), fixed()])
    markdown, values, content = write_table(result, tmp_path)
    assert markdown.read_text() == render(result)
    stored = json.loads(content.read_text())
    assert stored["runs"][0]["broken"] == 2
    with values.open() as file:
        lines = list(csv.DictReader(file))
    assert [float(line["value"]) for line in lines] == [number["value"] for number in stored["values"]]
    per_run = 1 + 4 + 1 + 1 + len(ORDERS) * (len(RADII) + 1)
    assert len(lines) == 2 * per_run
    for line in lines:
        assert (line["fingerprint"], line["images"], line["n"], line["alpha"]) == (
            DIGEST,
            "3",
            "1000",
            "0.01",
        )
        assert (line["training_seed"], line["seed"], line["device"], line["seconds"]) == ("0", "7", "cpu", "12.5")
        assert (line["attack_n"], line["attack_alpha"], line["attack_seconds"]) == ("400", "0.001", "3.0")
    found = {(r["method"], r["metric"], r["order"], r["radius"]): float(r["value"]) for r in lines}
    assert found["Cohen-DS", "broken", "", ""] == 2
    assert found["Cohen-DS", "conflicts", "", ""] == 1
    assert found["Cohen-DS", "certified_accuracy", "bound", "0.5"] == pytest.approx(100 / 3)
    assert found["Cohen", "acr", "bound", ""] == found["Cohen", "acr", "without", ""] == pytest.approx(0.4)


def test_a_run_without_certificates_has_none_to_break():
    found = row(build([audited("")]).more["runs"])
    assert [found[key] for key in ("certificates", "broken", "p_value", "upper")] == [0, 0, 1.0, 100]
    assert column(build([audited("")]).values, "value", metric="broken_share") == []
    assert "–" in render(build([audited("")]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: dataclasses.replace(r, broken=dataclasses.replace(r.broken, radius=RADIUS + 0.1)), "other radii"),
        (lambda r: dataclasses.replace(r, broken=dataclasses.replace(r.broken, index=np.array([1, 2, 3]))), "radii"),
        (lambda r: dataclasses.replace(r, order=fixed().order), "cost of the order"),
        (lambda r: dataclasses.replace(r, order=dataclasses.replace(r.order, radii=(0.0,))), "radii is"),
        (lambda r: dataclasses.replace(r, provenance={**r.provenance, "stride": 2}), "stride is 2, but 1"),
        (
            lambda r: dataclasses.replace(
                r, run=dataclasses.replace(r.run, provenance={**r.run.provenance, "dataset": "x"})
            ),
            "dataset is x, but digits",
        ),
    ],
)
def test_audits_of_something_else_are_refused(change, words):
    with pytest.raises(CountsError, match=words):
        build([fixed(), change(audited())])


def test_no_runs_and_runs_given_twice_are_refused():
    with pytest.raises(ConfigError, match="no runs"):
        build([])
    with pytest.raises(ConfigError, match="given twice"):
        build([audited(), audited()])
    with pytest.raises(ConfigError, match="alpha"):
        build([audited()], alpha=1.0)


def test_the_counts_of_an_expert_have_what_the_router_left_of_alpha():
    """12 of 12 samples: p = 2^-11 for the two-sided test, between a half and the whole of alpha."""
    counts = [0, 12]
    p_value = 2 * 0.5**12
    for router_alpha, broken in ((0.0, 1), (0.4 * p_value, 1), (0.6 * p_value, 0)):
        found = row(build([with_counts(counts, router_alpha=router_alpha)], alpha=1.5 * p_value).more["runs"])
        assert (found["broken"], found["abstained"]) == (broken, 1 - broken)
        assert found["false_alarms"] == pytest.approx(1.5 * p_value)  # of both together


def test_where_a_router_abstained_nothing_broke():
    found = row(build([with_counts([0, 0], [0, 400], [0, 0])]).more["runs"])
    assert (found["certificates"], found["broken"], found["abstained"]) == (3, 1, 2)
    assert row(build([with_counts([0, 0])]).more["runs"])["abstained"] == 1
