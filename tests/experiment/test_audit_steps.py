"""The audits as steps, on digits: which certificates are attacked, and that a killed run changes nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from certsmooth.artefacts.audits import Broken, read_order_cost
from certsmooth.artefacts.certificates import find_certificates, read_certificates
from certsmooth.artefacts.records import read_logs, read_record
from certsmooth.errors import ConfigError, CountsError
from certsmooth.experiment.cli import main
from certsmooth.experiment.config import parse_params
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import CertificationRun
from certsmooth.experiment.specs import MemberSpec, audit_path, certificates_path, counts_paths
from certsmooth.experiment.steps import break_certificates as step
from certsmooth.experiment.steps import certify
from certsmooth.experiment.steps.break_certificates import break_batch
from certsmooth.experiment.steps.certify import certificate_of, certify_batch
from certsmooth.experiment.steps.data import load_part
from certsmooth.experiment.steps.gathered import Counted
from certsmooth.experiment.steps.loaded import Loaded
from certsmooth.experiment.steps.order_cost import cost_orders
from certsmooth.science.audit.break_certificates import BreakPlan
from certsmooth.science.certificates import ABSTAIN, FLOAT32_ROUNDING
from certsmooth.science.memory import memory_pass, shuffled_order
from certsmooth.science.theory.worst_case import semi_elastic_radius
from factories import digits_content, write_params

pytestmark = pytest.mark.slow

RESULTS = Path("results")
DATA_DEPENDENT = {"variant": "class_held", "iterations": 2, "step": 0.05, "class_samples": 1}
METHODS = {
    "ds": {
        "policy": {"name": "data_dependent", "options": DATA_DEPENDENT},
        "certification": {"n0": 50, "n": 200, "stride": 3},
    },
    "border": {
        "policy": {"name": "border_distance", "options": {"rate": 0.3, "lower": 0.9, "upper": 1.1}},
        "certificate": {"name": "semi_elastic"},
        "certification": {"n0": 20, "n": 100, "stride": 10},
    },
    "l1": {
        "policy": {"name": "data_dependent", "options": DATA_DEPENDENT | {"norm": "l1"}},
        "certificate": {"name": "l1"},
        "certification": {"n0": 20, "n": 60, "alpha": 0.5, "stride": 3},
    },
}
CPU = torch.device("cpu")


def make_experiment(*, memory="shuffled", **changes):
    """The shipped configuration with methods of few samples, float32 noise, one sigma and three epochs.

    Args:
        memory: of the method in L1.
        changes: of the table, whose audits are of each certificate and few samples.
    """
    params = digits_content(epochs=3)
    params["datasets"]["digits"] |= {"methods": {}, "step": None}
    common = {"training": "gaussian", "certificate": {"name": "cohen"}}
    params["methods"] |= {name: {**common, "label": f"made {name}", **about} for name, about in METHODS.items()}
    params["methods"]["l1"]["memory"] = memory
    audits = {"kind": "soundness", "title": "Audits", "methods": list(METHODS), "shuffles": 2}
    params["tables"]["audits"] = {**audits, "predict": {"n": 100, "alpha": 0.001}, **changes}
    write_params(Path(), params)
    return Experiment(parse_params(params))


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A folder with a checkpoint and counts of every third test image of digits."""
    folder = tmp_path_factory.mktemp("audited")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_experiment()
        assert main(["data", "digits"]) == 0
        assert main(["train", "digits/gaussian/sigma=0.25/seed=0/default"]) == 0
        assert main(["sample", "digits/ds/seed=0"]) == 0
    return folder


@pytest.fixture(scope="module")
def unbroken(sampled):
    """An attack on all certificates that was not interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(sampled)
        return sampled / attack(make_experiment(), patch)


@pytest.fixture
def folder(sampled, tmp_path, monkeypatch):
    """A fresh folder that starts from what is sampled."""
    for part in ("data", "checkpoints", "counts"):
        shutil.copytree(sampled / "results" / part, tmp_path / "results" / part)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def attack(experiment, monkeypatch, change=lambda spec: spec):
    """Attack the certificates with little effort; return the file of what was found."""
    monkeypatch.setattr(step, "BreakPlan", partial(BreakPlan, steps=2, samples=2, screen=20))
    batch = experiment.breakings("audits", "digits", "ds")
    batch = replace(batch, parts=tuple(change(spec) for spec in batch.parts))
    break_batch("audits", batch, results=RESULTS, device=CPU)
    return RESULTS / audit_path("audits", batch.name, "broken.parquet")


def certified(experiment, method="ds"):
    return experiment.certify(CertificationRun("digits", method, 0.25, 0, (), 0), "test")


def gathered(spec):
    return Counted(RESULTS).gather(spec.sampled, spec.counts, record(spec))


def bound(spec):
    """The counts that certificates follow from, and these before any memory pass."""
    found = gathered(spec)
    shape = record(spec)["image_shape"]
    return found.counts, found.bound(certificate_of(spec), alpha=spec.alpha, image_shape=shape)


def record(spec):
    return read_record(RESULTS / spec.sampled.base.data.path)


def split(spec, name="test"):
    return load_part(spec.sampled.base.data, name, record(spec))


def test_counts_of_another_noise_than_the_certificates_are_refused(folder):
    spec = certified(make_experiment())
    other = replace(spec, certificate=MemberSpec("l1", {}))
    with pytest.raises(ConfigError, match=r"'l1' is about 'uniform' noise; must be about 'gaussian'"):
        certificate_of(other)
    other = replace(other, sampled=replace(spec.sampled, noise="uniform"))
    with pytest.raises(CountsError, match=r"0-of-1\.parquet: spec.noise is 'gaussian'; must be 'uniform'"):
        bound(other)


def test_a_varying_sigma_is_certified_with_its_rate_its_dimension_and_where_it_is_constant(folder):
    spec = certified(make_experiment(), "border")
    assert main(["sample", "digits/border/seed=0"]) == 0
    counts, found = bound(spec)
    policy = Loaded(RESULTS, CPU).policy(spec.sampled)
    training, test = split(spec, "training"), split(spec)
    fitted = policy.fit(training.images, training.labels)
    within = fitted.constant_within(test.batch(np.arange(0, len(test), 10))).numpy()
    np.testing.assert_array_equal(counts.constant_within, within)
    assert gathered(spec).identity["semi_elasticity"] == 0.3

    def radius(p_a, rate, dimension, within):
        return semi_elastic_radius(
            p_a, counts.sigma, rate, dimension, constant_within=within, rounding=FLOAT32_ROUNDING
        )

    expected = radius(found.p_a_lower, 0.3, 64, within)
    np.testing.assert_allclose(found.radius, expected, rtol=1e-9)
    for other in ((0.3, 1, within), (0.29, 64, within), (0.3, 64, 0.0)):
        assert (np.abs(radius(found.p_a_lower, *other) - expected) > 1e-4).any()


@pytest.mark.parametrize("memory", ["shuffled", "test_order"])
def test_certificates_in_l1_enter_a_memory_in_l1_in_the_order_asked_for(folder, monkeypatch, memory):
    experiment = make_experiment(memory=memory)
    spec = certified(experiment, "l1")
    assert main(["sample", "digits/l1/seed=0"]) == 0
    test = split(spec)
    # Balls around these images would be far apart; around darker ones they are not.
    images = np.asarray(test.images[np.arange(0, len(test), 3)]) * np.float32(0.04)
    monkeypatch.setattr(certify, "images_at", lambda sampled, record, index: images)
    batch = experiment.certify_batch("digits", "l1", (0,))
    certify_batch(batch, results=RESULTS)
    path = RESULTS / certificates_path(batch.name)
    part = find_certificates(path, read_certificates(path), spec.identity)
    found = part.frame
    _, given = bound(spec)
    orders = {"shuffled": shuffled_order(len(images), seed=0), "test_order": np.arange(len(images))}
    results = {
        (order, norm): memory_pass(images, given.predict, given.radius, order=orders[order], norm=norm)
        for order in orders
        for norm in ("l1", "l2")
    }
    ours = results.pop((memory, "l1"))
    assert all((ours.radius != other.radius).any() for other in results.values())
    assert ours.conflicts > 0
    told = {"shuffled": "shuffled, seed 0", "test_order": "of the test split"}
    assert part.provenance["memory"]["order"] == told[memory]
    np.testing.assert_array_equal(found["predict"], ours.predict)
    np.testing.assert_array_equal(found["radius"], ours.radius)
    np.testing.assert_allclose(found["radius_linf"], ours.radius / 64, rtol=1e-12)
    assert set(found["guarantee"]) == {"memory"}


def test_every_certificate_is_attacked_and_no_abstention(folder, unbroken, monkeypatch):
    experiment = make_experiment()
    (spec,) = experiment.breakings("audits", "digits", "ds").parts
    found, identity, _ = Broken.read(unbroken, expect={"spec": spec.identity})
    counts, certificates = bound(spec.certified)
    answered = certificates.predict != ABSTAIN
    assert 0 < answered.sum() < len(counts)
    assert found.index.tolist() == counts.index[answered].tolist()
    np.testing.assert_array_equal(found.predict, certificates.predict[answered])
    np.testing.assert_array_equal(found.radius, certificates.radius[answered])
    np.testing.assert_array_equal(found.sigma, counts.sigma[answered])
    assert (found.distance < found.radius).all()
    assert set(found.counts.sum(axis=1)) == {100}
    assert len(set(found.sigma_there)) > 10  # each point's own
    assert identity["spec"]["certified"]["alpha"] == 0.001
    about = identity["spec"]["certified"]["sampled"]
    assert {key: about[key] for key in ("n0", "n", "seed", "split")} == {"n0": 50, "n": 200, "seed": 0, "split": "test"}
    assert (identity["plan"]["norm"], identity["plan"]["noise"], identity["plan"]["n"]) == ("l2", "gaussian", 100)
    (log,) = read_logs(unbroken)
    assert len(log.seconds) == -(-len(found) // 50)

    some = make_experiment(stride=8)
    (spec,) = some.breakings("audits", "digits", "ds").parts
    chosen = np.flatnonzero(answered)[np.flatnonzero(answered) % 8 == 0]
    few, _, _ = Broken.read(attack(some, monkeypatch), expect={"spec": spec.identity})
    assert few.index.tolist() == counts.index[chosen].tolist()


def test_a_run_killed_midway_gives_the_same_bytes(folder, unbroken, monkeypatch):
    experiment, real, calls = make_experiment(), step.break_group, []

    def dies_second(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(step, "break_group", dies_second)
    with pytest.raises(KeyboardInterrupt):
        attack(experiment, monkeypatch)
    killed = RESULTS / audit_path("audits", "digits/ds/seed=0", "broken.parquet")
    assert not killed.exists()
    assert list(killed.parent.glob(".broken*.journal"))
    assert attack(experiment, monkeypatch) == killed
    assert killed.read_bytes() == unbroken.read_bytes()
    groups = -(-len(Broken.read(killed, expect={})[0]) // 50)
    assert groups > 1
    assert len(calls) == groups + 1  # the first group was not attacked again
    assert not list(killed.parent.glob(".*"))


def test_the_nearest_image_is_of_another_class(folder, monkeypatch):
    spec = certified(make_experiment())
    images_of, found = split(spec), certify.certificates_of(spec, Counted(RESULTS), record(spec))
    certified_images = step._Certified.of(images_of, found, 1)
    group = certified_images.attacked[:50]
    balls = certified_images.balls(group, "l2", CPU)
    images = images_of.batch(certified_images.positions).flatten(1).to(torch.float64)
    for row, ball in zip(group, balls.nearest.flatten(1).to(torch.float64), strict=True):
        other = torch.from_numpy(certified_images.predict != certified_images.predict[row])
        distances = torch.linalg.vector_norm(images - images[row], dim=1)
        assert torch.linalg.vector_norm(ball - images[row]) == pytest.approx(float(distances[other].min()))
    monkeypatch.setattr(step, "_COLUMNS", 7)
    again = certified_images.balls(group, "l2", CPU)
    assert torch.equal(again.nearest, balls.nearest)


def test_counts_of_something_else_are_refused(folder, monkeypatch):
    experiment = make_experiment()

    def of_fixed_sigma(spec):
        sampled = replace(spec.certified.sampled, policy=MemberSpec("fixed", {}))
        return replace(spec, certified=replace(spec.certified, sampled=sampled))

    with pytest.raises(CountsError, match=r"0-of-1\.parquet: spec.policy.name is 'data_dependent'; must be 'fixed'"):
        attack(experiment, monkeypatch, of_fixed_sigma)
    (path,) = counts_paths(experiment.sample_batch("digits", "ds", (0,)))
    (RESULTS / path).write_bytes(b"not counts")
    with pytest.raises(CountsError, match=r"0-of-1\.parquet: truncated, altered, or not 'counts"):
        attack(experiment, monkeypatch)
    assert not list((RESULTS / "audits").rglob("*.*"))


def test_the_cost_of_the_order_is_that_of_the_certificates(folder):
    batch = make_experiment().orders("audits", "digits", "ds")
    (spec,) = batch.parts
    spec = replace(spec, certified=replace(spec.certified, seed=3), radii=(0, 0.25))
    cost_orders("audits", replace(batch, parts=(spec,)), results=RESULTS)
    counts, certificates = bound(spec.certified)
    found = read_order_cost(RESULTS / audit_path("audits", batch.name, "order.json"), expect={"spec": spec.identity})
    correct = certificates.predict == counts.label
    assert found.images == len(counts)
    assert found.without.acr == pytest.approx(np.where(correct, certificates.radius, 0).mean())
    assert found.without.accuracy == (correct.mean(), (correct & (certificates.radius >= 0.25)).mean())
    order = shuffled_order(len(counts), seed=3)
    images = split(spec.certified).images_at(counts.index)
    after = memory_pass(images, certificates.predict, certificates.radius, order=order)
    assert found.conflicts == after.conflicts
    assert found.given.acr == pytest.approx(np.where(after.predict == counts.label, after.radius, 0).mean())


@pytest.mark.parametrize(("memory", "after"), [(None, "none"), ("shuffled", "memory")])
def test_a_table_says_what_certificates_promise_before_a_memory_and_after(memory, after, folder, monkeypatch):
    monkeypatch.setitem(METHODS, "ds", METHODS["ds"] | {"memory": memory})
    experiment = make_experiment(methods=["ds"])
    assert main(["certify", "digits/ds/seed=0"]) == 0
    assert main(["order-cost", "digits/ds/seed=0", "--table", "audits"]) == 0
    attack(experiment, monkeypatch)
    assert main(["table", "audits"]) == 0
    (found,) = json.loads(Path("results/tables/audits.json").read_text())["runs"]
    assert (found["before"], found["after"]) == ("none", after)
