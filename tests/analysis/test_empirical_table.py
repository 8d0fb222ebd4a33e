"""Certified against empirical accuracy: the numbers, and that a wrong certificate would be seen."""

from __future__ import annotations

import csv
import dataclasses
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chi2

from certsmooth._internal.registry import member
from certsmooth.analysis.contradictions import AttackedRun, check_certificates, contradiction_p_value, over_all
from certsmooth.analysis.empirical import ShownAttack, empirical_table, thinned
from certsmooth.analysis.metrics import accuracy_interval
from certsmooth.artefacts.attacks import AttackCounts
from certsmooth.errors import ConfigError, CountsError
from certsmooth.experiment.steps.attack import AttackPlan, attack_group
from certsmooth.report.figures.curves import empirical_curves
from certsmooth.report.figures.panels import write_figure
from certsmooth.report.render import render, write_table
from certsmooth.science.certificates import ABSTAIN, Smoothing, cohen
from certsmooth.science.sampling.sampler import GROUP, Sampler, SamplingPlan
from certsmooth.science.sigma.fixed import FixedSigma
from factories import certified_run, column, half_space, row, rows

RADII = (0.0, 0.5, 1.0)
SMOOTHED = ShownAttack("smoothed", "PGD", "`pgd` (steps 20)", (1, 8))
BASE = ShownAttack("base", "Base PGD", "`base_pgd`", (0,))
ALPHA = 0.001
ANSWERS = {"right": [0, 100], "wrong": [100, 0], "abstain": [50, 50]}
NAMES = {"r": "right", "w": "wrong", "a": "abstain"}


def make_counts(results, images):
    """``results``: (samples, epsilon) -> a letter of ANSWERS per image, and optionally the distances."""
    rows = []
    for (samples, epsilon), answers in results.items():
        letters, distance = answers if isinstance(answers, tuple) else (answers, [epsilon] * images)
        rows += [
            (20 * i, 1, samples, epsilon, d, 0.5, ANSWERS[NAMES[letter]], 100)
            for i, (letter, d) in enumerate(zip(letters, distance, strict=True))
        ]
    columns = zip(*reversed(rows), strict=True)  # the order in a file does not matter
    return AttackCounts.from_lists(
        [dict(zip([f.name for f in dataclasses.fields(AttackCounts)], columns, strict=True))]
    )


def attacked(radius, *, smoothed=None, base=None, **options):
    images = len(radius)
    right = "r" * images
    given_smoothed = {(0, 0.0): right} | {(m, r): right for m in (1, 8) for r in (0.5, 1.0)} | (smoothed or {})
    given_base = {(0, r): right for r in RADII} | (base or {})
    made = {"stride": 1, "seed": 7, "device": "cpu", "seconds": 3.0}
    return AttackedRun(
        certified_run(radius, **options),
        {"smoothed": make_counts(given_smoothed, images), "base": make_counts(given_base, images)},
        {"smoothed": made, "base": made},
    )


def build(runs, **options):
    values = {"name": "empirical", "title": "Figure 3", "radii": RADII, "attacks": (SMOOTHED, BASE), "alpha": ALPHA}
    return empirical_table(runs, **values | options)


def example():
    """Two sigmas: the smaller is better near, the larger far away."""
    return [
        attacked(
            [0.6, 0.5, 0.4, -0.2],
            sigma=0.25,
            smoothed={(0, 0.0): "rrrw", (1, 0.5): "rrrw", (8, 0.5): "rrww", (1, 1.0): "wwww", (8, 1.0): "awww"},
        ),
        attacked(
            [1.2, 1.1, -0.2, 0.0],
            sigma=0.5,
            smoothed={(0, 0.0): "rrwa", (1, 0.5): "rraw", (8, 0.5): "rrwa", (1, 1.0): "rrww", (8, 1.0): "rwww"},
        ),
    ]


CURVES = {
    "Certified": {"attack": None},
    "PGD, m = 1": {"attack": "PGD", "samples": 1},
    "PGD, m = 8": {"attack": "PGD", "samples": 8},
    "Base PGD": {"attack": "Base PGD", "samples": 0},
}


def best(result, name="value"):
    """A column of each curve of the best settings."""
    return [column(result.values, name, sigma="best", **curve) for curve in CURVES.values()]


def test_accuracies_by_hand():
    result = build(example())
    certified, one, eight, base = best(result)
    assert len(rows(result.values, sigma="best")) == 4 * len(RADII)
    assert certified == [75.0, 50.0, 50.0]
    assert best(result, "chosen_sigma")[0] == [0.5, 0.5, 0.5]
    assert one == [75.0, 75.0, 50.0]  # an abstention is wrong
    assert best(result, "chosen_sigma")[1] == [0.25, 0.25, 0.5]
    assert eight == [75.0, 50.0, 25.0]
    assert base == [100.0, 100.0, 100.0]
    for sigma, expected in (("0.25", [75.0, 75.0, 0.0]), ("0.5", [50.0, 50.0, 50.0])):
        assert column(result.values, "value", sigma=sigma, samples=1, selected_on="none") == expected
    assert [set(metrics) for metrics in best(result, "metric")] == [
        {"certified_accuracy"},
        *[{"empirical_accuracy"}] * 3,
    ]
    lower, upper = accuracy_interval(0.75, 4)
    first = row(result.values, sigma="best", samples=1, radius=0.0)
    assert (first["lower"], first["upper"]) == (100 * lower, 100 * upper)
    assert [result.about[key] for key in ("n", "alpha", "dataset")] == [100, ALPHA, "digits"]


def test_an_answer_is_predict_at_alpha():
    """60 of 100 is an abstention at 0.001 and an answer at 0.1."""
    run = example()[0]
    counts = run.attacks["base"]
    run.attacks["base"].counts[:] = [40, 60]
    assert counts.counts.sum(axis=1).tolist() == [100] * len(counts)
    assert best(build([run]))[3] == [0.0, 0.0, 0.0]
    assert best(build([run], alpha=0.1))[3] == [100.0, 100.0, 100.0]


def test_fewer_samples_of_predict_abstain_more_often():
    """Of 100 equal samples 10 are 2 / 1024 from a tie, which is more than alpha; 11 are not. 95 of 100 are enough."""
    run = example()[0]
    run.attacks["base"].counts[:] = [0, 100]
    run.attacks["smoothed"].counts[:] = [5, 95]
    result = build([run], fewer=(10, 11))
    for n, expected in ((10, 0.0), (11, 100.0), (100, 100.0)):
        assert column(result.values, "value", sigma="best", attack="Base PGD", n=n) == [expected] * len(RADII)
    for samples in (1, 8):
        at_11, at_100 = (column(result.values, "value", sigma="best", samples=samples, n=n) for n in (11, 100))
        assert max(at_11) < 100  # one of the five in 100 is among 11 of them nearly every second time
        assert at_100 == [100.0] * len(RADII)
    assert column(result.values, "n", attack=None) == [None] * 2 * len(RADII)
    assert (result.about["n"], result.about["fewer"]) == (100, [10, 11])
    text = render(result)
    for words in ("PGD, m = 8, n = 11", "Base PGD, n = 100", "are drawn from the 100, at the same attacked images"):
        assert words in text
    drawn = empirical_curves(result, [run.run])
    labels = [line.get_label() for line in drawn.axes[0].get_lines()]
    attacks = ("PGD, m = 1", "PGD, m = 8", "Base PGD")
    assert labels == ["Certified", *(f"{attack}, n = {n}" for attack in attacks for n in (10, 11, 100))]
    for fewer in ((100,), (0,), (10, 200)):
        with pytest.raises(ConfigError, match="must be below the 100 samples that PREDICT drew"):
            build([run], fewer=fewer)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_fewer_samples_are_some_of_the_samples(data):
    counts = np.array(data.draw(st.lists(st.lists(st.integers(0, 50), min_size=3, max_size=3), max_size=4)))
    counts = counts.reshape(-1, 3)
    n = data.draw(st.integers(0, counts.sum(axis=1).min(initial=150)))
    found = thinned(counts, n)
    assert found.shape == counts.shape
    assert (found.sum(axis=1) == n).all()
    assert ((found >= 0) & (found <= counts)).all()
    assert np.array_equal(found, thinned(counts, n))


def test_fewer_samples_have_the_law_of_those_of_fewer_samples():
    p = [0.7, 0.2, 0.1]
    many = thinned(np.random.default_rng(3).multinomial(200, p, size=20_000), 20)
    for k, each in enumerate(p):
        expected = binom.pmf(np.arange(21), 20, each) * len(many)
        found = np.bincount(many[:, k], minlength=21)
        often = expected > 20
        statistic = ((found - expected)[often] ** 2 / expected[often]).sum()
        assert chi2.sf(statistic, often.sum()) > 0.001


def test_several_seeds_are_averaged():
    result = build(
        [
            attacked([0.6, 0.6], seed=0, base={(0, 0.5): "rw"}),
            attacked([0.6, 0.1], seed=1, base={(0, 0.5): "ww"}),
        ]
    )
    certified, *_, base = best(result)
    assert certified[1] == 75.0
    assert base[1] == 25.0
    assert set(column(result.values, "seeds")) == {"0 1"}


def test_attacks_on_other_images_or_labels_are_refused():
    run = example()[0]
    counts = run.attacks["base"]
    for changes in ({"index": counts.index + 1}, {"label": counts.label * 0}, {"epsilon": counts.epsilon + 0.1}):
        other = {**run.attacks, "base": dataclasses.replace(counts, **changes)}
        with pytest.raises(CountsError, match=r"cohen, sigma 0.25.*base at radius"):
            build([dataclasses.replace(run, attacks=other)])
    with pytest.raises(ConfigError, match="no runs"):
        build([])
    fewer = {**run.attacks, "base": dataclasses.replace(counts, counts=counts.counts // 2)}
    with pytest.raises(CountsError, match=r"\[50, 100\] samples"):
        build([dataclasses.replace(run, attacks=fewer)])


# --- whether attacks contradict certificates


def test_checks_by_hand():
    run = attacked(
        [0.6, 0.5, 1.2, -0.7, 0.0],
        smoothed={
            (0, 0.0): "wrrwr",  # not attacked: no check
            (
                1,
                0.5,
            ): "wwarr",  # 0 contradicted; 1 not inside; 2 abstains; 3 contradicted: certified as 0
            (8, 0.5): ("wrrwr", [0.59, 0.49, 0.5, 0.5, 0.0]),
            (1, 1.0): ("wwrww", [1.0, 1.0, 1.0, 0.7, 0.1]),
            (8, 1.0): ("rrrrr", [1.0, 1.0, 1.3, 0.71, 0.1]),
        },
        base={(0, 0.5): ("rrrwr", [0.6, 0.6, 1.1, 0.6, 0.6]), (0, 1.0): ("wwwww", [2.0] * 5)},
        alpha=0.01,
    )
    verdict = check_certificates(run, alpha=0.002)
    # Inside: image 0 twice, 1 once, 2 at (1, .5), (8, .5), (1, 1), base; 3 at (1, .5), (8, .5), base; 4 never.
    assert (verdict.images, verdict.checked, verdict.checks, verdict.contradicted) == (5, 4, 2 + 1 + 4 + 3, 2)
    assert verdict.expected == pytest.approx(5 * 0.01 + 10 * 0.002)
    assert verdict.p_value == pytest.approx(binom.sf(1, 5, verdict.expected / 5))


def test_only_global_certificates_are_checked():
    for guarantee in ("memory", "none"):
        run = attacked([0.6, 0.6], guarantee=guarantee, base={(0, 0.5): "ww"})
        assert check_certificates(run, alpha=ALPHA) is None
        text = render(build([run]))
        assert "none was checked" in text
        assert ("attacked without it" in text) == (guarantee == "memory")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_the_p_value_bounds_the_tail_of_any_sum(data):
    """Against the exact distribution of a sum of independent, different 0/1 variables."""
    images = data.draw(st.integers(1, 12))
    p = data.draw(st.lists(st.floats(0, 1), min_size=images, max_size=images))
    exact = np.ones(1)
    for each in p:
        exact = np.convolve(exact, [1 - each, each])
    for contradicted in range(images + 1):
        bound = contradiction_p_value(contradicted, images=images, expected=sum(p))
        assert bound >= exact[contradicted:].sum() - 1e-9
        assert bound <= 1


def test_several_runs_are_corrected_for_their_number():
    one = check_certificates(attacked([0.6] * 4, base={(0, 0.5): "wwrr"}), alpha=ALPHA)
    none = check_certificates(attacked([0.6] * 4), alpha=ALPHA)
    both = over_all([one, none])
    assert 0 < both.p_value < 0.1
    assert both.p_value == 2 * one.p_value
    assert (both.contradicted, both.checks, both.images) == (2, one.checks + none.checks, 8)
    assert both.expected == one.expected + none.expected
    assert over_all([]) is None


@pytest.fixture(scope="module")
def linear():
    """A half-space under noise, certified and attacked: its smoothed version is the half-space, its radius known."""
    direction, offset, sigma = np.array([3.0, 4.0]), 0.2, 0.5
    points = np.random.default_rng(3).uniform(-1, 1, (150, 2)).astype(np.float32)
    distance = np.abs(points @ direction - offset) / 5
    label = (points @ direction > offset).astype(np.int64)
    model = half_space(direction, offset)
    radii = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    attacks = {r: member("attacks", "pgd")(epsilon=r, steps=2, clamp=False) for r in radii}
    plan = AttackPlan("pgd", attacks, False, (1, 4), 1000, 0, "linear")
    sampler = Sampler(model, num_classes=2, plan=SamplingPlan(100, 1000, 0, "linear/test"))
    counted, parts = [], []
    for start in range(0, len(points), GROUP):
        rows = slice(start, start + GROUP)
        images, sigmas = torch.from_numpy(points[rows]), torch.full((GROUP,), sigma, dtype=torch.float64)
        identities = list(range(len(points)))[rows]
        counted += list(sampler.count(images, sigmas, identities))
        truth = torch.from_numpy(label[rows])
        options = {"num_classes": 2, "policy": FixedSigma(sigma), "plan": plan}
        parts += [part.lists() for part in attack_group(model, images, truth, sigmas, identities, **options)]
    selection, estimation = (np.stack([getattr(c, name) for c in counted]) for name in ("selection", "estimation"))
    every = np.full(len(points), sigma)
    smoothing = Smoothing(every, len(points[0]), 0.0, np.full(len(points), np.inf))
    bound = cohen.CohenCertificate()(selection, estimation, smoothing, alpha=0.001)
    run = certified_run(bound.radius, labels=label, predict=bound.predict, columns={"idx": np.arange(len(points))})
    return AttackedRun(run, {"smoothed": AttackCounts.from_lists(parts)}, {}), distance


def test_an_attack_never_beats_a_right_certificate_more_often_than_alpha_allows(linear):
    run, distance = linear
    certified = run.run.frame["predict"].to_numpy() != ABSTAIN
    assert certified.sum() > 120
    assert (run.run.frame["radius"].to_numpy() <= distance + 1e-6)[certified].mean() > 0.99  # right they are
    verdict = check_certificates(run, alpha=0.001)
    assert verdict.checked > 80
    assert verdict.checks > 300
    assert verdict.contradicted <= verdict.expected + 1
    assert verdict.p_value == 1


def test_a_wrong_certificate_is_caught(linear):
    run, _ = linear
    frame = run.run.frame.assign(radius=2 * run.run.frame["radius"])
    wrong = dataclasses.replace(run, run=dataclasses.replace(run.run, frame=frame))
    verdict = check_certificates(wrong, alpha=0.001)
    assert verdict.contradicted > 20
    assert verdict.p_value < 1e-9


# --- files


def test_the_line_says_what_was_found():
    text = render(build(example()))
    assert "1 of 3 certified images (in 2 runs) contradicted in 15 checks (alpha allows up to 0.0 expected)" in text
    assert "no more than alpha allows" in text
    assert "**Optimistic:**" in text
    caught = build([attacked([0.6] * 20, base={(0, 0.5): "w" * 20})])
    text = render(caught)
    assert "20 of 20 certified images contradicted" in text
    assert "p < 0.001, **more than alpha allows: something is wrong**" in text
    assert "nothing was chosen" in text


def test_the_three_files_say_the_same(tmp_path):
    result = build(example())
    markdown, table, content = write_table(result, tmp_path, figure="figures/empirical.svg")
    text = markdown.read_text()
    for words in ("](figures/empirical.svg)", "4 test images of digits", "alpha = 0.001", "PGD, m = 8", "4 jobs, 12 s"):
        assert words in text
    lines = list(csv.DictReader(table.read_text().splitlines()))
    assert len(lines) == (4 + 8) * len(RADII)
    one = [line for line in lines if line["sigma"] == "best" and line["attack"] == "PGD" and line["samples"] == "1"]
    assert [float(line["value"]) for line in one] == best(result)[1]
    assert [line["chosen_sigma"] for line in one] == ["0.25", "0.25", "0.5"]
    assert {line["metric"] for line in lines if not line["attack"]} == {"certified_accuracy"}
    for number in rows(result.values, sigma="best", samples=1):
        assert f"{number['value']:.1f} [{number['lower']:.1f}, {number['upper']:.1f}]" in text
    stored = json.loads(content.read_text())
    assert [float(line["value"]) for line in lines] == [number["value"] for number in stored["values"]]
    assert stored["verdict"]["checks"] == result.about["verdict"]["checks"] == 15
    assert stored["attack_sources"][0]["provenance"]["device"] == "cpu"


def test_the_figure_shows_each_curve_at_its_radii(tmp_path):
    runs = [*example(), attacked([0.3] * 4, method="smoothadv", sigma=0.25), attacked([0.3] * 4, method="smoothadv")]
    result, certified = build(runs), [run.run for run in runs]
    drawn = empirical_curves(result, certified)
    assert [axis.get_title() for axis in drawn.axes] == ["Cohen", "SmoothAdv"]
    lines = {line.get_label(): line for line in drawn.axes[0].get_lines()}
    assert list(lines) == list(CURVES)
    for name, curve in list(CURVES.items())[1:]:
        assert lines[name].get_xdata().tolist() == list(RADII)
        expected = column(result.values, "value", sigma="best", method="Cohen", **curve)
        assert lines[name].get_ydata().tolist() == expected
    grid, height = lines["Certified"].get_xdata(), lines["Certified"].get_ydata()
    assert height[0] == 75
    assert height[np.searchsorted(grid, 1.0)] == 50
    assert len({(line.get_color(), line.get_marker()) for line in lines.values()}) == len(lines)
    (tmp_path / "again").mkdir()
    first = write_figure(lambda: empirical_curves(result, certified), tmp_path, name="t")
    second = write_figure(lambda: empirical_curves(result, certified), tmp_path / "again", name="t")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert ET.parse(first[0]).getroot().tag == "{http://www.w3.org/2000/svg}svg"
