"""Attacks as a step: what noise, sigma and images they see, and that a killed run changes nothing."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, kstest, norm

from certsmooth._internal.registry import member
from certsmooth.artefacts import records
from certsmooth.artefacts.attacks import AttackCounts
from certsmooth.artefacts.counts import read_counts
from certsmooth.artefacts.records import read_logs, read_record
from certsmooth.errors import ConfigError, CountsError
from certsmooth.experiment import runs
from certsmooth.experiment.cli import main
from certsmooth.experiment.config import parse_params
from certsmooth.experiment.members import check_members
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.steps import attack as step
from certsmooth.experiment.steps.attack import AttackPlan, attack_group
from certsmooth.science.noise import NoiseStreams
from certsmooth.science.sigma.fixed import FixedSigma
from factories import LAWS, digits_content, half_space, write_params

MODEL = half_space([3.0, 4.0], 0.2)


@dataclasses.dataclass(frozen=True)
class Spy:
    """Moves every image by epsilon along the first pixel, and keeps what it was given."""

    epsilon: float
    seen: list = dataclasses.field(default_factory=list)

    def __call__(self, model, images, labels, noise, *, loss=None):
        self.seen.append((images, labels, noise))
        moved = images.clone()
        moved[:, 0] += self.epsilon
        return moved


class SigmaOfPixel(FixedSigma):
    """sigma(x) grows with the first pixel."""

    def __call__(self, model, images, sigma, draw):
        return 0.1 + images[:, 0].to(torch.float64).abs()


def make_plan(attacks, **changes):
    values = {"name": "spy", "clean": True, "samples": (1, 3), "n": 250, "seed": 5, "dataset": "toy"}
    return AttackPlan(**values | {"attacks": {attack.epsilon: attack for attack in attacks}} | changes)


def group(images=7):
    points = torch.from_numpy(np.random.default_rng(0).random((images, 2))).to(torch.float32)
    return points, torch.arange(images) % 2, torch.linspace(0.2, 0.4, images, dtype=torch.float64)


def attack(plan, *, policy=FixedSigma(0.3), rows=slice(None), model=MODEL):  # noqa: B008
    images, labels, sigma = (column[rows] for column in group())
    identities = list(range(100, 107))[rows]
    options = {"num_classes": 2, "policy": policy, "plan": plan}
    return AttackCounts.from_lists(
        [c.lists() for c in attack_group(model, images, labels, sigma, identities, **options)]
    )


def at(counts, samples, epsilon):
    rows = (counts.samples == samples) & (counts.epsilon == epsilon)
    return AttackCounts(**{name: values[rows] for name, values in vars(counts).items()})


def test_noise_is_a_function_of_the_image_and_few_samples_are_the_first_of_many():
    plan, like = make_plan([]), torch.zeros(3, 1, 3, 3)
    noise = plan.standard_noise([4, 5, 6], 8, like)
    assert noise.shape == (8, 3, 1, 3, 3)
    assert torch.equal(plan.standard_noise([4, 5, 6], 1, like), noise[:1])
    assert torch.equal(plan.standard_noise([6], 8, like[:1]), noise[:, 2:])
    assert torch.equal(plan.standard_noise([4], 0, like[:1]), torch.zeros(1, 1, 1, 3, 3))
    assert abs(float(plan.standard_noise([1], 20_000, like[:1]).std()) - 1) < 0.01
    for change in ({"seed": 6}, {"dataset": "other"}):
        assert not torch.equal(make_plan([], **change).standard_noise([4, 5, 6], 8, like), noise)


def test_the_plan_says_which_noise_attack_and_predict_draw():
    like = torch.zeros(2, 1, 3, 3)
    for name, law in LAWS.items():
        plan = make_plan([], noise=name)
        noise = plan.standard_noise([4, 5], 2000, like)
        assert kstest(noise.numpy().ravel(), law.cdf).pvalue > 1e-3
        assert plan.predict_plan(1, 0.5).noise == plan.predict_plan(0, 0.0).noise == name
    assert make_plan([]).noise == "gaussian"


def test_no_two_results_share_noise_with_each_other_or_with_certification():
    plans = [make_plan([], name=name) for name in ("a", "b")]
    names = [plan.predict_plan(m, r).dataset for plan in plans for m in (0, 1, 8) for r in (0.2, 0.4)]
    names += [plans[0].predict_plan(0, 0.0).dataset, "toy/test", "toy/validation", "toy"]
    assert len(set(names)) == len(names)
    noise = member("noise", "gaussian")()
    stages = ("selection", "estimation", "sigma", "attack")
    keys = {NoiseStreams(noise, 5, name).key((stage, 1)) for name in names for stage in stages}
    assert len(keys) == len(names) * len(stages)


@pytest.mark.parametrize("n", [2, 99, 100, 101, 1000])
def test_predict_draws_n_samples(n):
    plan = make_plan([], n=n).predict_plan(1, 0.5)
    assert plan.n0 >= 1
    assert plan.n >= 1
    assert plan.n0 + plan.n == n


def test_the_attack_sees_the_images_sigma_and_predict_that_of_the_attacked_image():
    spies = [Spy(0.25), Spy(0.5)]
    plan = make_plan(spies, samples=(0, 1, 3))
    counts = attack(plan, policy=SigmaOfPixel(0.3))
    images, labels, sigma = group()
    assert len(counts) == 7 * plan.results == 7 * (1 + 2 * 3)
    for spy in spies:
        for samples, (seen, truth, noise) in zip((0, 1, 3), spy.seen, strict=True):
            assert torch.equal(seen, images)
            assert torch.equal(truth, labels)
            standard = plan.standard_noise(list(range(100, 107)), samples, images)
            torch.testing.assert_close(noise, standard * sigma.to(torch.float32)[None, :, None])
            found = at(counts, samples, spy.epsilon)
            assert found.index.tolist() == list(range(100, 107))
            assert found.label.tolist() == labels.tolist()
            np.testing.assert_allclose(found.distance, spy.epsilon, rtol=1e-6)
            np.testing.assert_allclose(found.sigma, 0.1 + images[:, 0].numpy() + spy.epsilon, rtol=1e-6)
    clean = at(counts, 0, 0.0)
    assert not clean.distance.any()
    np.testing.assert_allclose(clean.sigma, 0.1 + images[:, 0].numpy(), rtol=1e-6)
    assert set(counts.counts.sum(axis=1)) == {250}


def test_counts_are_those_of_a_classifier_whose_smoothed_version_is_known():
    counts = attack(make_plan([Spy(0.25)], n=20_000, samples=(1,)))
    images, _, _ = group()
    for moved in (0.0, 0.25):
        found = at(counts, 1 if moved else 0, moved)
        points = images.numpy() + np.array([moved, 0])
        probability = norm.cdf((points @ [3, 4] - 0.2) / (5 * 0.3))
        for row, p in zip(found.counts, probability, strict=True):
            assert binomtest(int(row[1]), 20_000, p).pvalue > 1e-4


def test_results_do_not_depend_on_the_group_or_on_the_batch(monkeypatch):
    attacks = [member("attacks", "pgd")(epsilon=0.3, steps=3, clamp=False)]
    together = attack(make_plan(attacks))
    monkeypatch.setattr(step, "_CPU_BATCH_ELEMENTS", 1)
    for name in ("distance", "counts", "sigma"):
        np.testing.assert_array_equal(getattr(attack(make_plan(attacks)), name), getattr(together, name))
    for image in range(7):
        alone = attack(make_plan(attacks), rows=slice(image, image + 1))
        of_it = together.index == 100 + image
        for name in ("samples", "epsilon", "distance", "counts"):
            np.testing.assert_array_equal(getattr(alone, name), getattr(together, name)[of_it])


def test_more_samples_and_radii_leave_the_other_results_as_they_are():
    few, many = (
        attack(make_plan([member("attacks", "pgd")(epsilon=r, steps=2, clamp=False) for r in radii], samples=m))
        for radii, m in (((0.3,), (4,)), ((0.1, 0.3), (1, 4, 5)))
    )
    for name in vars(few):
        np.testing.assert_array_equal(getattr(at(many, 4, 0.3), name), getattr(at(few, 4, 0.3), name))


def test_files_hold_every_number(tmp_path):
    counts, path = attack(make_plan([Spy(1 / 3)])), tmp_path / "a.parquet"
    AttackCounts.write(path, [(at(counts, 1, 1 / 3), {"seed": 4}), (counts, {"seed": 5})])
    found, identity, place = AttackCounts.read(path, expect={"seed": 5})
    assert (identity, place) == ({"seed": 5}, 1)
    for name, values in vars(counts).items():
        assert getattr(found, name).dtype == values.dtype
        np.testing.assert_array_equal(getattr(found, name), values)
    with pytest.raises(CountsError, match=rf"{path}: seed is [45]; must be 6"):
        AttackCounts.read(path, expect={"seed": 6})


# --- the command, on digits


def make_params(folder, **changes):
    """The shipped configuration, cut down: a method, a sigma, few samples; two attacks of two radii."""
    params = digits_content(n=300, shards=2)
    empirical = params["tables"]["empirical"]
    empirical |= {"methods": ["cohen"], "predict": {"n": 100, "alpha": 0.01}, "stride": 2}
    empirical["settings"]["digits"] = {"radii": [0, 0.3]}
    for choice in empirical["attacks"].values():
        choice["attack"]["options"]["steps"] = 2
    empirical["attacks"]["smoothed"]["samples"] = [1, 4]
    empirical |= changes
    write_params(folder, params)
    return parse_params(params)


COHEN = "digits/cohen/seed=0"
COUNTS = [Path(f"results/counts/{COHEN}/{shard}-of-2.parquet") for shard in range(2)]
RECORD = Path("results/data/digits.json")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A folder with a checkpoint, its counts in two shards, and their certificates."""
    folder = tmp_path_factory.mktemp("sampled")
    make_params(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["data", "digits"]) == 0
        assert main(["train", "digits/gaussian/sigma=0.25/seed=0/default"]) == 0
        for shard, path in enumerate(COUNTS):
            assert main(["sample", COHEN, "--shard", f"{shard}/2"]) == 0
            assert path.is_file()
        assert main(["certify", COHEN]) == 0
    return folder


@pytest.fixture
def folder(sampled, tmp_path, monkeypatch):
    """A fresh folder that starts from what is sampled."""
    shutil.copytree(sampled / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    make_params(tmp_path)
    return tmp_path


def command(*extra, name="smoothed"):
    return ["attack", COHEN, "--table", "empirical", "--attack", name, *extra]


def attacked_path(name="smoothed", results="results"):
    return Path(results, "audits", "empirical", COHEN, f"{name}.parquet")


@pytest.mark.slow
def test_attacks_and_their_table_from_the_command_line(folder):
    experiment = Experiment(make_params(folder))
    parts = [next(p for p in read_counts(path) if p.identity["spec"]["split"] == "test") for path in COUNTS]
    sampled_index = np.concatenate([part.counts.index for part in parts])
    assert len(sampled_index) == 360
    for name in ("smoothed", "base"):
        path = attacked_path(name)
        assert main(command(name=name)) == 0
        assert not list(path.parent.glob(".*"))
        (spec,) = experiment.attacks("empirical", name, "digits", "cohen").parts
        counts, identity, _ = AttackCounts.read(path, expect={"spec": spec.identity})
        assert counts.index[counts.epsilon == 0].tolist() == sampled_index[::2].tolist()
        assert (counts.distance <= counts.epsilon * (1 + 1e-6)).all()
        assert counts.distance[counts.epsilon > 0].max() > 0.29
        assert identity["spec"]["radii"] == [0, 0.3]
        same = ("fingerprint", "checkpoint", "model", "device", "torch")
        assert [identity[key] for key in same] == [parts[0].identity[key] for key in same]
    assert main(["table", "empirical"]) == 0
    text = (folder / "results" / "tables" / "empirical.md").read_text()
    for words in ("180 test images", "PGD on the base classifier", "m = 4", "1 in 2 of", "n = 100, alpha = 0.01"):
        assert words in text
    assert "certified images contradicted" in text
    for name in ("empirical.csv", "empirical.json", "figures/empirical.svg", "figures/empirical.png"):
        assert (folder / "results" / "tables" / name).stat().st_size > 1000


@pytest.mark.slow
def test_a_table_refuses_attacks_with_other_settings(folder, capsys):
    for name in ("smoothed", "base"):
        assert main(command(name=name)) == 0
    make_params(folder, predict={"n": 101, "alpha": 0.01})
    assert main(["table", "empirical"]) == 2
    assert f"{attacked_path()}: spec.n is 100; must be 101" in capsys.readouterr().err
    assert not (folder / "results" / "tables" / "empirical.md").exists()


@pytest.mark.slow
def test_an_attack_killed_midway_gives_the_same_bytes(folder):
    make_params(folder, predict={"n": 400, "alpha": 0.01}, stride=1)
    assert main(command()) == 0
    for part in ("data", "checkpoints", "counts"):
        shutil.copytree(Path("results", part), Path("killed", part))
    killed = attacked_path(results="killed")
    process = subprocess.Popen(
        [sys.executable, "-m", "certsmooth", *command("--results", "killed")],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not any(path.read_bytes().count(b"\n") >= 2 for path in killed.parent.glob(".smoothed*.journal")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not killed.exists()
    assert main(command("--results", "killed")) == 0
    assert killed.read_bytes() == attacked_path().read_bytes()
    assert not list(killed.parent.glob(".*"))
    (log,) = read_logs(killed)
    assert len(log.seconds) == 8


@pytest.mark.slow
def test_counts_of_something_else_are_refused(folder, capsys):
    def refused(*words):
        assert main(command()) == 2
        message = capsys.readouterr().err
        assert message.startswith("certsmooth: ")
        assert not attacked_path().exists()
        assert not list(attacked_path().parent.glob(".*"))
        for word in words:
            assert word in message

    logs = [path.with_suffix(".log.json") for path in COUNTS]
    content = {path: path.read_bytes() for path in (*COUNTS, *logs, RECORD)}
    for (first, second), words in (
        ((0, 0), f"{COUNTS[1]}: shard is [0, 2]; must be [1, 2]"),
        ((1, 0), f"{COUNTS[0]}: shard is [1, 2]; must be [0, 2]"),
    ):
        for files in (COUNTS, logs):
            for path, other in zip(files, (first, second), strict=True):
                path.write_bytes(content[files[other]])
        refused(words)
    for path, before in content.items():
        path.write_bytes(before)
    COUNTS[1].unlink()
    refused(str(COUNTS[1]))
    COUNTS[1].write_bytes(content[COUNTS[1]])
    changed = read_record(RECORD)
    changed["parts"]["test"]["fingerprint"] = f"sha256:{0:064}"
    records.RECORD.write_json(RECORD, changed)
    refused("fingerprint", f"sha256:{0:064}")
    RECORD.write_bytes(content[RECORD])
    assert main(command(name="bse")) == 2
    assert "did you mean 'base'" in capsys.readouterr().err


def test_help_describes_the_verb(capsys):
    for arguments, words in ((["--help"], "  attack "), (["attack", "--help"], "a key of that table's attacks")):
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
        assert words in capsys.readouterr().out


# --- the configuration


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methods": ["chen"]}, ["tables.empirical.methods", "did you mean 'cohen'"]),
        ({"methods": []}, ["tables.empirical.methods", "one or more"]),
        ({"predict": {"n": 1, "alpha": 0.1}}, ["tables.empirical.predict", "at least 2"]),
        ({"predict": {"n": 9, "alpha": 1}}, ["tables.empirical.predict", "(0, 1)"]),
        ({"predict": {"n": 9, "alpa": 0.1}}, ["alpa", "'alpha'"]),
        ({"stride": 0}, ["tables.empirical", "stride: 0", "at least 1"]),
        ({"settings": {"digts": {}}}, ["tables.empirical.settings", "did you mean 'digits'"]),
        ({"settings": {"digits": {"radii": [-1]}}}, ["tables.empirical.settings.digits", ">= 0"]),
        ({"attacks": {}}, ["tables.empirical.attacks", "one or more"]),
        ({"attacks": {"a b": {"label": "x", "attack": {"name": "pgd"}}}}, ["attacks: bad name 'a b'"]),
        ({"attacks": {"a": {"label": "x", "attack": {"name": "pdg"}}}}, ["attacks.a.attack.name", "'pgd'"]),
        ({"attacks": {"a": {"label": "x", "attack": {"name": "pgd"}, "samples": []}}}, ["samples: []"]),
        ({"attacks": {"a": {"label": "x", "attack": {"name": "pgd"}, "samples": [2, 2]}}}, ["samples: [2, 2]"]),
        (
            {"attacks": {"a": {"label": "x", "attack": {"name": "pgd"}, "samples": [-1]}}},
            ["samples.0: -1", "at least 0"],
        ),
        (
            {"attacks": {"a": {"label": "x", "attack": {"name": "pgd", "options": {"epsilon": 1}}}}},
            ["attacks.a", "epsilon: 1", "each radius"],
        ),
        (
            {"attacks": {"a": {"label": "x", "attack": {"name": "pgd", "options": {"step": 1}}}}},
            ["tables.empirical.attacks.a.attack.options", "'steps'"],
        ),
        (
            {"attacks": {"a": {"label": "x", "attack": {"name": "ddn", "options": {"steps": 0}}}}},
            ["tables.empirical.attacks.a.attack", "steps: 0", "at least 1"],
        ),
    ],
)
def test_mistakes_are_named(tmp_path, change, words):
    with pytest.raises(ConfigError) as caught:
        check_members(make_params(tmp_path, **change))
    for word in words:
        assert word in str(caught.value)


def test_epsilon_is_each_radius_of_the_chosen_data_set(tmp_path):
    params = make_params(tmp_path)
    assert runs.table_choice(params, "empirical").radii == (0, 0.3)
    assert {run.method for run in runs.table_runs(params, "empirical")} == {"cohen"}
    elsewhere = dataclasses.replace(params, dataset="mnist")
    choice = runs.table_choice(elsewhere, "empirical")
    assert (choice.dataset, choice.radii) == ("mnist", params.datasets["mnist"].radii)
    assert runs.table_choice(dataclasses.replace(params, dataset="cifar10"), "empirical").dataset == "cifar10-resnet110"
