"""The audits as steps, on digits: which certificates are attacked, and that a killed run changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from certsmooth.artefacts.audits import Broken, read_order_cost
from certsmooth.artefacts.certificates import read_certificates
from certsmooth.artefacts.records import read_record
from certsmooth.errors import ConfigError, CountsError
from certsmooth.experiment import runs
from certsmooth.experiment.cli import main
from certsmooth.experiment.config import parse_params
from certsmooth.experiment.steps import break_certificates as step
from certsmooth.experiment.steps.break_certificates import break_certificates
from certsmooth.experiment.steps.certify import Order, certify_counts
from certsmooth.experiment.steps.data import DataChoice, load_part
from certsmooth.experiment.steps.order_cost import cost_order, gather_bound
from certsmooth.experiment.steps.sample import sample_shard
from certsmooth.science.audit.break_certificates import BreakPlan
from certsmooth.science.certificates import ABSTAIN, FLOAT32_ROUNDING, cohen, l1, semi_elastic
from certsmooth.science.memory import memory_pass, shuffled_order
from certsmooth.science.sampling.sampler import SamplingPlan
from certsmooth.science.sigma.border_distance import BorderDistanceSigma as BorderDistance
from certsmooth.science.sigma.data_dependent import DataDependentSigma as DataDependent
from certsmooth.science.theory.worst_case import semi_elastic_radius
from shipped import shipped_content
from workflow_project import plain_yaml

ROOT = Path(__file__).resolve().parents[2]
POLICY = DataDependent(sigma=0.25, iterations=2, step=0.05, class_samples=1)
SETTINGS = {"name": "data_dependent", "options": {"iterations": 2}}
ALPHA = 0.001
RECORD, MODEL, COUNTS = Path("digits.json"), Path("model.safetensors"), Path("counts.parquet")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A folder with a checkpoint and counts of every third test image of digits."""
    folder = tmp_path_factory.mktemp("audited")
    params = shipped_content()
    params["datasets"]["digits"]["recipe"] |= {"epochs": 3}
    (folder / "params.yaml").write_text(plain_yaml(params))
    run = ["--dataset", "digits", "--sigma", "0.25", "--seed", "0", "--data", str(RECORD)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["data", "--dataset", "digits", "--output", str(RECORD)]) == 0
        assert main(["train", *run, "--training", "gaussian", "--output", str(MODEL), "--log", "log.csv"]) == 0
        sample_shard(
            **about(folder),
            part="test",
            stride=3,
            shard=0,
            shards=1,
            settings=SETTINGS,
            plan=SamplingPlan(50, 200, 0, "digits/test"),
            output=COUNTS,
        )
    return folder


@pytest.fixture(scope="module")
def unbroken(sampled):
    """An attack on all certificates that was not interrupted."""
    output = sampled / "unbroken.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(sampled)
        attack(sampled, output)
    return output


@pytest.fixture
def folder(sampled, monkeypatch):
    monkeypatch.chdir(sampled)
    return sampled


def about(folder):
    params = parse_params(yaml.safe_load((folder / "params.yaml").read_text()))
    return {
        "choice": DataChoice(**runs.data_slice(params, "digits")),
        "record": RECORD,
        "model": MODEL,
        "sigma": 0.25,
        "policy": POLICY,
        "device": torch.device("cpu"),
    }


def attack(folder, output, **changes):
    plan = BreakPlan(n=100, seed=0, dataset="digits", steps=2, samples=2, screen=20)
    values = {"counts": [COUNTS], "certificate": cohen.CohenCertificate(), "alpha": ALPHA, "stride": 1, "plan": plan}
    break_certificates(**about(folder) | values | {"settings": {"policy": SETTINGS}, "output": output} | changes)


def bound():
    counts, _, bound = gather_bound(
        [COUNTS], certificate=cohen.CohenCertificate(), alpha=ALPHA, expect={"part": "test"}, record=RECORD
    )
    return counts, bound


def test_counts_of_another_noise_than_the_certificates_are_refused(folder):
    with pytest.raises(CountsError, match=r"counts\.parquet: .*noise.*'gaussian'.*'uniform'"):
        gather_bound([COUNTS], certificate=l1.L1Certificate(), alpha=ALPHA, expect={"part": "test"}, record=RECORD)


def test_a_varying_sigma_is_certified_with_its_rate_its_dimension_and_where_it_is_constant(folder, tmp_path):
    policy = BorderDistance(sigma=0.25, rate=0.3, lower=0.9, upper=1.1)
    options = about(folder) | {"policy": policy, "settings": {"name": "border_distance"}}
    plan, output = SamplingPlan(20, 100, 0, "digits/test"), tmp_path / "counts.parquet"
    sample_shard(**options, part="test", stride=10, shard=0, shards=1, plan=plan, output=output)
    counts, identity, found = gather_bound(
        [output], certificate=semi_elastic.SemiElasticCertificate(), alpha=ALPHA, expect={}, record=RECORD
    )
    content = read_record(RECORD)
    training, test = (load_part(options["choice"], part, content) for part in ("training", "test"))
    fitted = policy.fit(training.images, training.labels)
    within = fitted.constant_within(test.batch(np.arange(0, len(test), 10))).numpy()
    np.testing.assert_array_equal(counts.constant_within, within)
    assert identity["semi_elasticity"] == 0.3

    def radius(p_a, rate, dimension, within):
        return semi_elastic_radius(
            p_a, counts.sigma, rate, dimension, constant_within=within, rounding=FLOAT32_ROUNDING
        )

    expected = radius(found.p_a_lower, 0.3, 64, within)
    np.testing.assert_allclose(found.radius, expected, rtol=1e-9)
    for other in ((0.3, 1, within), (0.29, 64, within), (0.3, 64, 0.0)):
        assert (np.abs(radius(found.p_a_lower, *other) - expected) > 1e-4).any()


def test_certificates_in_l1_enter_a_memory_in_l1(folder, tmp_path):
    policy = DataDependent(sigma=0.25, iterations=2, step=0.05, class_samples=1, norm="l1")
    options = about(folder) | {"policy": policy, "settings": {"name": "data_dependent"}}
    plan = SamplingPlan(20, 60, 0, "digits/test", noise="uniform")
    counts, output = tmp_path / "counts.parquet", tmp_path / "certificates.tsv"
    sample_shard(**options, part="test", stride=3, shard=0, shards=1, plan=plan, output=counts)
    test = load_part(options["choice"], "test", read_record(RECORD))
    images = np.asarray(test.images[np.arange(0, len(test), 3)])
    # Balls around these images would be far apart; around darker ones they are not.
    images = images * np.float32(0.04)
    certify_counts(
        [counts],
        certificate=l1.L1Certificate(),
        alpha=0.5,
        described={"name": "l1"},
        expect={},
        record=RECORD,
        memory=Order(0),
        images_at=lambda index: images,
        output=output,
    )
    found, _ = read_certificates(output)
    _, _, given = gather_bound([counts], certificate=l1.L1Certificate(), alpha=0.5, expect={}, record=RECORD)
    order = shuffled_order(len(images), seed=0)
    ours, other = (memory_pass(images, given.predict, given.radius, order=order, norm=norm) for norm in ("l1", "l2"))
    assert (ours.radius != other.radius).any()
    assert ours.conflicts > 0
    np.testing.assert_array_equal(found["predict"], ours.predict)
    np.testing.assert_array_equal(found["radius"], ours.radius)
    np.testing.assert_allclose(found["radius_linf"], ours.radius / 64, rtol=1e-12)
    assert set(found["guarantee"]) == {"memory"}


def test_every_certificate_is_attacked_and_no_abstention(folder, tmp_path, unbroken):
    found, identity = Broken.read(unbroken)
    counts, certificates = bound()
    answered = certificates.predict != ABSTAIN
    assert 0 < answered.sum() < len(counts)
    assert found.index.tolist() == counts.index[answered].tolist()
    np.testing.assert_array_equal(found.predict, certificates.predict[answered])
    np.testing.assert_array_equal(found.radius, certificates.radius[answered])
    np.testing.assert_array_equal(found.sigma, counts.sigma[answered])
    assert (found.distance < found.radius).all()
    assert set(found.counts.sum(axis=1)) == {100}
    assert len(set(found.sigma_there)) > 10  # each point's own
    assert identity["certified"] == {"alpha": ALPHA, "n0": 50, "n": 200, "seed": 0}
    log = json.loads(unbroken.with_suffix(".log.json").read_text())
    assert len(log["seconds"]) == -(-len(found) // 50)

    some = tmp_path / "some.parquet"
    attack(folder, some, stride=8)
    chosen = np.flatnonzero(answered)[np.flatnonzero(answered) % 8 == 0]
    assert Broken.read(some)[0].index.tolist() == counts.index[chosen].tolist()


def test_a_run_killed_midway_gives_the_same_bytes(folder, tmp_path, unbroken, monkeypatch):
    killed, real, calls = tmp_path / "killed.parquet", step.break_group, []

    def dies_second(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(step, "break_group", dies_second)
    with pytest.raises(KeyboardInterrupt):
        attack(folder, killed)
    assert not killed.exists()
    assert list(tmp_path.glob(".killed*.journal"))
    attack(folder, killed)
    assert killed.read_bytes() == unbroken.read_bytes()
    groups = -(-len(Broken.read(killed)[0]) // 50)
    assert groups > 1
    assert len(calls) == groups + 1  # the first group was not attacked again
    assert not list(tmp_path.glob(".killed*"))


def test_the_nearest_image_is_of_another_class(folder, monkeypatch):
    split, (counts, certificates) = digits_split(folder), bound()
    certified = step._Certified.of(split, counts, certificates, 1)
    group = certified.attacked[0]
    balls = certified.balls(group, "l2", torch.device("cpu"))
    images = split.batch(certified.positions).flatten(1).to(torch.float64)
    for row, ball in zip(group, balls.nearest.flatten(1).to(torch.float64), strict=True):
        other = torch.from_numpy(certified.predict != certified.predict[row])
        distances = torch.linalg.vector_norm(images - images[row], dim=1)
        assert torch.linalg.vector_norm(ball - images[row]) == pytest.approx(float(distances[other].min()))
    monkeypatch.setattr(step, "_COLUMNS", 7)
    again = certified.balls(group, "l2", torch.device("cpu"))
    assert torch.equal(again.nearest, balls.nearest)


def digits_split(folder):
    return load_part(about(folder)["choice"], "test", read_record(RECORD))


def test_counts_and_plans_of_something_else_are_refused(folder, tmp_path):
    output = tmp_path / "x.parquet"
    other = BreakPlan(n=100, seed=0, dataset="digits", noise="gaussian", norm="l1")
    with pytest.raises(ConfigError, match="gaussian and l1; must be gaussian and l2"):
        attack(folder, output, plan=other)
    with pytest.raises(CountsError, match="policy"):
        attack(folder, output, settings={"policy": {"name": "fixed"}})
    assert not list(tmp_path.iterdir())


def test_the_cost_of_the_order_is_that_of_the_certificates(folder, tmp_path):
    output = tmp_path / "deep" / "order.json"
    split = digits_split(folder)
    cost_order(
        [COUNTS],
        certificate=cohen.CohenCertificate(),
        alpha=ALPHA,
        expect={"part": "test"},
        record=RECORD,
        memory=Order(3),
        images_at=split.images_at,
        radii=[0, 0.25],
        shuffles=2,
        output=output,
    )
    counts, certificates = bound()
    found = read_order_cost(output)
    correct = certificates.predict == counts.label
    assert found.images == len(counts)
    assert found.without.acr == pytest.approx(np.where(correct, certificates.radius, 0).mean())
    assert found.without.accuracy == (correct.mean(), (correct & (certificates.radius >= 0.25)).mean())
    order = shuffled_order(len(counts), seed=3)
    after = memory_pass(split.images_at(counts.index), certificates.predict, certificates.radius, order=order)
    assert found.conflicts == after.conflicts
    assert found.given.acr == pytest.approx(np.where(after.predict == counts.label, after.radius, 0).mean())
