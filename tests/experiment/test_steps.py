"""Steps from the command line, on digits: what they write, what a killed run leaves, and what they refuse."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.certificates import read_certificates
from certsmooth.artefacts.counts import Journal, read_counts, write_counts
from certsmooth.artefacts.records import RECORD, read_logs, write_logs
from certsmooth.errors import CheckpointError
from certsmooth.experiment import runs
from certsmooth.experiment.cli import _VERBS, _parser, main
from certsmooth.experiment.config import read_params
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.steps import label
from certsmooth.experiment.steps.data import load_part
from certsmooth.experiment.steps.pictures import SHOWN
from certsmooth.science.sampling.counts import GROUP
from certsmooth.science.sigma import data_dependent
from certsmooth.science.sigma.data_dependent import radius_gradient
from factories import digits_content, plain_yaml, write_params

pytestmark = pytest.mark.slow

GAUSSIAN = "digits/gaussian/sigma=0.25/seed=0/default"
COHEN, COHEN_DS = "digits/cohen/seed=0", "digits/cohen-ds/seed=0"
SPLITS = ("test", "validation")
IMAGES = {"test": 360, "validation": 144}


def make_params(folder, sigma=0.25, **certification):
    """The shipped configuration, cut down: three epochs (the last with a sigma per image), few samples, one sigma."""
    params = digits_content(epochs=3, sigma=sigma, **{"n": 150} | certification)
    for method in ("cohen-ds", "cohen-ds2"):
        params["methods"][method]["policy"]["options"]["iterations"] = [2]
    write_params(folder, params)


def edit_params(folder, change, name="params.yaml"):
    params = yaml.safe_load((folder / "params.yaml").read_text())
    change(params)
    (folder / name).write_text(plain_yaml(params))


def model_path(name=GAUSSIAN, results="results"):
    return Path(results, "checkpoints", name, "model.safetensors")


def counts_path(name=COHEN, shard="0-of-1", results="results"):
    return Path(results, "counts", name, f"{shard}.parquet")


def certificates_path(name=COHEN):
    return Path("results", "certificates", f"{name}.parquet")


def record_path(dataset="digits", results="results"):
    return Path(results, "data", f"{dataset}.json")


def elsewhere(name, *parts):
    """Start other results from parts of those that there are; return how a verb is told to use them."""
    for part in parts:
        shutil.copytree(Path("results", part), Path(name, part))
    return ["--results", name]


def certified(name=COHEN):
    """The certificates of a file by split."""
    return {part.spec["sampled"]["split"]: part for part in read_certificates(certificates_path(name))}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the record of digits and a checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    make_params(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["data", "digits"]) == 0
        assert main(["train", GAUSSIAN]) == 0
    return folder


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    """A fresh folder that starts from the trained model."""
    shutil.copy(trained / "params.yaml", tmp_path)
    shutil.copytree(trained / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kill_when(command, ready):
    """Start a verb, kill it with SIGKILL as soon as ``ready()`` holds, and make sure that it was not done by then."""
    process = subprocess.Popen([sys.executable, "-m", "certsmooth", *command], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("name", [COHEN, COHEN_DS])
def test_sampling_killed_midway_gives_the_same_bytes(folder, name):
    make_params(folder, n=3000)
    assert main(["sample", name]) == 0
    killed = counts_path(name, results="killed")
    command = ["sample", name, *elsewhere("killed", "data", "checkpoints")]

    def lines():
        return sorted(path.read_bytes().count(b"\n") for path in killed.parent.glob(f".{killed.name}*.journal"))

    for split, images in (("test", 3), ("test", 120), ("validation", 3)):
        kill_when(command, lambda s=split, i=images: len(lines()) == 1 + SPLITS.index(s) and lines()[0] > i)
    assert not killed.exists()
    assert main(command) == 0
    assert killed.read_bytes() == counts_path(name).read_bytes()
    assert not list(killed.parent.glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [GAUSSIAN, GAUSSIAN.replace("gaussian", "gaussian-ds")])
def test_training_killed_midway_gives_the_same_bytes(folder, name):
    def command(results):
        return ["train", name, *elsewhere(results, "data"), "--threads", "1"]

    assert main(command("unbroken")) == 0
    killed, again = model_path(name, "killed"), command("killed")
    state = killed.with_name(f".{killed.name}.state")
    kill_when(again, state.exists)
    assert not killed.exists()
    assert main(again) == 0
    assert killed.read_bytes() == model_path(name, "unbroken").read_bytes()
    assert not state.exists()


def test_shards_give_the_rows_of_a_single_run(folder):
    assert main(["sample", COHEN_DS]) == 0
    assert main(["certify", COHEN_DS]) == 0
    one, alone = read_counts(counts_path(COHEN_DS)), certified(COHEN_DS)
    make_params(folder, shards=3)
    shards = [counts_path(COHEN_DS, f"{shard}-of-3") for shard in range(3)]
    for shard, path in enumerate(shards):
        assert main(["sample", COHEN_DS, "--shard", f"{shard}/3"]) == 0
        assert path.is_file()
    for place, whole in enumerate(one):
        found = [read_counts(path)[place] for path in shards]
        assert [part.identity for part in found] == [{**whole.identity, "shard": [i, 3]} for i in range(3)]
        for name in ("index", "label", "sigma", "selection", "estimation", "batch_size"):
            joined = np.concatenate([getattr(part.counts, name) for part in found])
            np.testing.assert_array_equal(joined, getattr(whole.counts, name))
        assert len(np.unique(whole.counts.sigma)) > 100  # one per image, or the test says little
    for path in (certificates_path(COHEN_DS), counts_path(COHEN_DS)):
        path.unlink()
    assert main(["certify", COHEN_DS]) == 0
    for split, part in certified(COHEN_DS).items():
        assert part.frame.drop(columns="time").equals(alone[split].frame.drop(columns="time"))


def test_the_images_that_papers_chose_can_be_chosen(folder, capsys):
    """As 500 to 999 of CIFAR-10: of our 360 images those from 100 to 119, every third."""
    make_params(folder, first=100, last=119, stride=3)
    assert main(["sample", COHEN]) == 0
    (test,) = (part for part in read_counts(counts_path()) if part.identity["spec"]["split"] == "test")
    data = Experiment(read_params(Path("params.yaml"))).data("digits")
    split = load_part(data, "test", json.loads(record_path().read_text()))
    assert test.counts.index.tolist() == split.index[[100, 103, 106, 109, 112, 115, 118]].tolist()
    for wrong in ({"last": 360}, {"first": 360}):
        make_params(folder, **wrong)
        assert main(["sample", COHEN]) == 2
        (key,) = wrong
        message = f"certification.{key}: 360; must be at most 359: the test split of digits has 360 images"
        assert message in capsys.readouterr().err


def test_shards_must_be_complete_and_in_order(folder, capsys):
    make_params(folder, shards=2)
    first, second = (counts_path(shard=f"{shard}-of-2") for shard in range(2))

    def refused(words):
        assert main(["certify", COHEN]) == 2
        assert words in capsys.readouterr().err
        assert not certificates_path().exists()

    assert main(["sample", COHEN, "--shard", "0/2"]) == 0
    refused(f"{second}: ")
    for path in (first, first.with_suffix(".log.json")):
        shutil.copy(path, str(path).replace("0-of-2", "1-of-2"))
    refused(f"{second}: shard is [0, 2]; must be [1, 2]")
    second.unlink()
    assert main(["sample", COHEN, "--shard", "1/2"]) == 0
    for suffix in (".parquet", ".log.json"):
        aside, here, there = (path.with_suffix(suffix) for path in (first.with_name("aside"), first, second))
        here.rename(aside)
        there.rename(here)
        aside.rename(there)
    refused(f"{first}: shard is [1, 2]; must be [0, 2]")


def test_one_file_holds_both_splits_and_says_what_they_are(folder):
    assert main(["sample", COHEN]) == 0
    experiment = Experiment(read_params(folder / "params.yaml"))
    batch = experiment.sample_batch("digits", "cohen", (0,))
    record = RECORD.read_json(record_path())
    parts = read_counts(counts_path())
    assert [part.identity["spec"] for part in parts] == batch.identity
    for spec, part, log in zip(batch.parts, parts, read_logs(counts_path()), strict=True):
        assert len(part.counts) == len(log.seconds) == IMAGES[spec.split]
        assert part.identity["fingerprint"] == record["parts"][spec.split]["fingerprint"]
        assert part.identity["shard"] == [0, 1]
        assert set(part.counts.selection.sum(axis=1)) == {100}
        assert set(part.counts.estimation.sum(axis=1)) == {150}


def test_what_was_sampled_before_is_not_sampled_again(folder, monkeypatch):
    """One more sigma is one more part: the others are taken from the file as it was."""
    assert main(["sample", COHEN]) == 0
    before, logs = read_counts(counts_path()), read_logs(counts_path())
    other = GAUSSIAN.replace("0.25", "0.5")
    edit_params(folder, lambda params: params["datasets"]["digits"].update(sigmas=[0.25, 0.5]))
    assert main(["train", other]) == 0
    assert main(["sample", COHEN]) == 0
    after, logs_after = read_counts(counts_path()), read_logs(counts_path())
    assert [part.identity["spec"]["base"]["sigma"] for part in after] == [0.25, 0.25, 0.5, 0.5]
    for part, log in zip(before, logs, strict=True):
        place = [each.identity for each in after].index(part.identity)
        assert logs_after[place] == log  # the seconds of the first time
        np.testing.assert_array_equal(after[place].counts.estimation, part.counts.estimation)


def search_for(*iterations):
    def change(params):
        params["methods"]["cohen-ds"]["policy"]["options"]["iterations"] = list(iterations)

    edit_params(Path(), change)


def test_numbers_of_steps_share_one_search_and_have_the_bytes_of_their_own(folder, monkeypatch):
    """A group of images takes the steps of the farthest, also in a shard, and of those that are left to sample."""
    steps = []

    def counted(*arguments):
        steps.append(1)
        return radius_gradient(*arguments)

    monkeypatch.setattr(data_dependent, "radius_gradient", counted)
    alone = {}
    for k in (2, 5, 3):
        search_for(k)
        assert main(["sample", COHEN_DS, *elsewhere(f"alone-{k}", "data", "checkpoints")]) == 0
        for part in read_counts(counts_path(COHEN_DS, results=f"alone-{k}")):
            alone[k, part.identity["spec"]["split"]] = part
    groups = sum(-(-images // GROUP) for images in IMAGES.values())
    assert len(steps) == groups * (2 + 5 + 3)
    search_for(2, 5)
    assert main(["sample", COHEN_DS]) == 0
    assert len(steps) == groups * (10 + 5)
    search_for(2, 5, 3)
    assert main(["sample", COHEN_DS]) == 0
    assert len(steps) == groups * (10 + 5 + 3)
    parts = read_counts(counts_path(COHEN_DS))
    places = [
        (part.identity["spec"]["policy"]["options"]["iterations"], part.identity["spec"]["split"]) for part in parts
    ]
    assert places == list(product((2, 5, 3), SPLITS))
    for place, part in zip(places, parts, strict=True):
        assert part.identity == alone[place].identity
        for name, values in vars(part.counts).items():
            assert values.tobytes() == getattr(alone[place].counts, name).tobytes()
    assert len({part.counts.sigma.tobytes() for part in parts}) == 6
    make_params(folder, shards=2)
    search_for(2, 5, 3)
    assert main(["sample", COHEN_DS, "--shard", "1/2"]) == 0
    assert len(steps) == groups * (10 + 5 + 3) + (4 + 1) * 5
    for whole, part in zip(parts, read_counts(counts_path(COHEN_DS, "1-of-2")), strict=True):
        rows = np.isin(whole.counts.index, part.counts.index)
        for name, values in vars(part.counts).items():
            assert values.tobytes() == getattr(whole.counts, name)[rows].tobytes()


def test_a_shared_search_that_is_interrupted_gives_the_same_bytes(folder, monkeypatch):
    """Between the sigmas of two parts, among the images of the first part, and among those of the others."""
    search_for(2, 5, 3)
    assert main(["sample", COHEN_DS]) == 0
    command = ["sample", COHEN_DS, *elsewhere("killed", "data", "checkpoints")]
    append, left = Journal.append, 0

    def interrupted(journal, entry):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        append(journal, entry)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", interrupted)
        for lines in (1, 1, 1, 60, 900, 400):
            left = lines
            assert main(command) == 130
    killed = counts_path(COHEN_DS, results="killed")
    assert not killed.exists()
    assert main(command) == 0
    assert killed.read_bytes() == counts_path(COHEN_DS).read_bytes()
    assert not list(killed.parent.glob(".*"))


def test_another_certification_seed_is_other_noise_for_the_same_classifier(folder):
    assert main(["sample", COHEN]) == 0
    assert main(["certify", COHEN]) == 0
    before, logs = read_counts(counts_path()), read_logs(counts_path())
    exported = Path("results/certificates/digits/cohen/sigma=0.25/seed=0/default/test.tsv")
    first = exported.read_bytes()
    edit_params(folder, lambda params: params["tables"]["evaluation"].update(certification_seeds=[0, 1]))
    assert main(["sample", COHEN]) == 0
    assert main(["certify", COHEN]) == 0
    *same, other = read_counts(counts_path())
    assert [part.identity for part in same] == [part.identity for part in before]
    assert read_logs(counts_path())[: len(logs)] == logs  # the seconds of the first time: not sampled again
    (test,) = (part for part in same if part.identity["spec"]["split"] == "test")
    assert other.identity == {**test.identity, "spec": test.identity["spec"] | {"seed": 1}}
    for name in ("selection", "estimation"):
        found, repeated = (getattr(part.counts, name) for part in (test, other))
        assert (found != repeated).any(axis=1).mean() > 0.2
        assert np.abs(found / found.sum(1, keepdims=True) - repeated / repeated.sum(1, keepdims=True)).max() < 0.4
    assert exported.read_bytes() == first
    beside = exported.with_name("certification_seed=1") / "test.tsv"
    assert len(beside.read_text().splitlines()) == 1 + IMAGES["test"]
    assert beside.read_bytes() != first


def test_certificates_say_what_they_promise(folder):
    for name, promise in ((COHEN, "global"), (COHEN_DS, "memory")):
        assert main(["sample", name]) == 0
        assert main(["certify", name]) == 0
        found = certified(name)
        assert set(found) == set(SPLITS)
        for split, part in found.items():
            assert set(part.frame["guarantee"]) == {promise}
            assert (part.provenance["memory"] is None) == (name == COHEN)
            assert part.provenance["images"] == len(part.frame) == IMAGES[split]
            assert (part.frame["radius"] <= part.frame["radius_before_memory"]).all()
    edit_params(folder, lambda params: params["methods"]["cohen-ds"].update(memory=None))
    assert main(["certify", COHEN_DS]) == 0
    assert {promise for part in certified(COHEN_DS).values() for promise in part.frame["guarantee"]} == {"none"}


def test_certificates_are_exported_in_the_format_of_the_field(folder):
    assert main(["sample", COHEN]) == 0
    assert main(["certify", COHEN]) == 0
    for split, part in certified().items():
        lines = Path("results/certificates/digits/cohen/sigma=0.25/seed=0/default", f"{split}.tsv").read_text()
        header, *rows = (line.split("\t") for line in lines.splitlines())
        assert header[:6] == ["idx", "label", "predict", "radius", "correct", "time"]
        assert [int(row[0]) for row in rows] == part.frame["idx"].tolist()
        assert [float(row[3]) for row in rows] == part.frame["radius"].tolist()


def test_counts_of_something_else_are_refused_by_name(folder, capsys):
    assert main(["sample", COHEN]) == 0
    counts, record, model = counts_path(), record_path(), model_path()
    content = {path: path.read_bytes() for path in (counts, record, model, counts.with_suffix(".log.json"))}

    def refused(*words, name=COHEN):
        assert main(["certify", name]) == 2
        message = capsys.readouterr().err
        assert "Traceback" not in message
        assert not certificates_path(name).exists()
        for word in (str(counts_path(name)), *words):
            assert word in message
        for path, before in content.items():
            path.write_bytes(before)

    make_params(folder, n=151)
    refused("spec.n is 150; must be 151")
    make_params(folder, n0=50)
    refused("spec.n0 is 100; must be 50")
    make_params(folder)
    parts, logs = read_counts(counts), read_logs(counts)
    write_counts(counts, parts[:1])
    write_logs(counts, logs[:1])
    refused("spec.split is 'test'; must be 'validation'", "fingerprint is ")
    write_logs(counts, logs[::-1])
    refused("the log is about other images")
    other = counts_path(COHEN_DS)
    other.parent.mkdir(parents=True)
    for suffix in (".parquet", ".log.json"):
        shutil.copy(counts.with_suffix(suffix), other.with_suffix(suffix))
    refused("spec.policy.name is 'fixed'; must be 'data_dependent'", name=COHEN_DS)
    changed = RECORD.read_json(record)
    changed["parts"]["test"]["fingerprint"] = f"sha256:{0:064}"
    RECORD.write_json(record, changed)
    refused(f"must be 'sha256:{0:064}'")
    assert main(["train", GAUSSIAN.replace("seed=0", "seed=1")]) == 0
    shutil.copy(model_path(GAUSSIAN.replace("seed=0", "seed=1")), model)
    refused("checkpoint is 'sha256:")
    damaged = bytearray(content[counts])
    damaged[len(damaged) // 2] ^= 1
    counts.write_bytes(damaged)
    refused()
    assert main(["certify", COHEN]) == 0


def test_counts_that_are_not_n_samples_each_are_refused(folder, capsys):
    assert main(["sample", COHEN]) == 0
    parts, logs = read_counts(counts_path()), read_logs(counts_path())
    for name, right in (("selection", "100 samples"), ("estimation", "150 samples")):
        changed = getattr(parts[0].counts, name).copy()
        changed[3, 0] += 1
        wrong = dataclasses.replace(parts[0], counts=dataclasses.replace(parts[0].counts, **{name: changed}))
        write_counts(counts_path(), [wrong, *parts[1:]])
        write_logs(counts_path(), logs)
        assert main(["certify", COHEN]) == 2
        message = capsys.readouterr().err
        assert all(word in message for word in (str(counts_path()), f"{name} of row 3", right))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data", "digts"], ["data set", "did you mean 'digits'"]),
        (["table", "tabel1"], ["did you mean 'table1'"]),
        (["check", "--params", "absent.yaml"], ["absent.yaml"]),
        (["train", "digits/gaussian/seed=0"], ["'digits/gaussian/seed=0': no base classifier", GAUSSIAN]),
        (["train", "digts/gaussian/sigma=0.25/seed=0/default"], ["data set", "did you mean 'digits'"]),
        (["train", "digits/gausian/sigma=0.25/seed=0/default"], ["training", "did you mean 'gaussian'"]),
        (["train", "digits/gaussian/sigma=x/seed=0/default"], ["sigma 'x'", "must be a number"]),
        (["train", "digits/gaussian/sigma=-1/seed=0/default"], ["sigma: -1.0", ">= 0"]),
        (["label", GAUSSIAN], ["datasets.digits.unlabelled: null", "a share or a source"]),
        (["sample", "digits/cohn/seed=0"], ["methods", "did you mean 'cohen'"]),
        (["sample", "digits/cohen"], ["'digits/cohen': no runs of a method", "digits/cohen/seed=0"]),
        (["certify", "digits/cohen/seed=1+1"], ["'digits/cohen/seed=1+1': a seed twice"]),
        (["sample", COHEN, "--shard", "1/1"], ["--shard: 1 of 1", "from 0 to 0"]),
        (["sample", COHEN, "--shard", "1"], ["--shard: '1'", "as 0/4"]),
        (["table", "table1", "--results", "none"], [f"none/certificates/{COHEN}.parquet: not there", "table1.md`"]),
        (["table", "evaluation"], [f"{certificates_path()}: not there", "`snakemake results/evaluation.md`"]),
        (["table", "soundness"], [f"{certificates_path()}: not there", "`snakemake results/soundness.md`"]),
        (["toy"], ["results/data/cones-figures.json", "make it with `certsmooth data`"]),
        (["high-dimension"], [str(certificates_path()), "cannot be read: No such file"]),
        (["theory", "--results", "params.yaml"], ["params.yaml", "Not a directory"]),
        (["order-cost", COHEN, "--table", "soundnes"], ["--table", "did you mean 'soundness'"]),
        (["break-certificates", COHEN, "--table", "soundnes"], ["--table", "did you mean 'soundness'"]),
        (["order-cost", COHEN, "--table", "soundness"], [str(counts_path()), "cannot be read: No such file"]),
        (["break-certificates", COHEN, "--table", "soundness"], [str(counts_path()), "cannot be read: No such file"]),
        (["order-cost", "digits/yang/seed=0", "--table", "soundness"], ["soundness: has no row 'yang' on 'digits'"]),
        (["order-cost", "digits/cohen/seed=5", "--table", "soundness"], [f"seed=5: the table has {COHEN}; must be"]),
        (["break-certificates", COHEN, "--table", "soundness", "--threads", "0"], ["--threads: 0", "at least 1"]),
    ],
)
def test_mistakes_on_the_command_line_are_named(folder, capsys, arguments, words):
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("certsmooth: ")
    assert message.count("\n") == 1
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("section", "value", "verb", "words"),
    [
        ("toy", None, "toy", ["toy: missing", "which data set and methods"]),
        ("toy", {"constant": "toy-idrs"}, "toy", ["toy.constant: 'toy-idrs'", "constant sigma"]),
        ("pictures", None, "pictures", ["pictures.datasets: missing", "'digits'"]),
        ("pictures", {"datasets": ["mnist"]}, "pictures", ["pictures.datasets: ['mnist']", "'digits'"]),
        ("pictures", {"method": "cohen"}, "pictures", ["pictures.method: 'cohen'", "differs between images"]),
        ("high_dimension", None, "high-dimension", ["high_dimension: missing", "dimension and rates"]),
        ("high_dimension", {"method": "yang"}, "high-dimension", ["high_dimension.method", "'yang' certifies in l1"]),
        ("high_dimension", {"published": ["theirs"]}, "high-dimension", ["absent.tsv: cannot be read: No such file"]),
    ],
)
def test_mistakes_of_the_figures_and_tables_of_idrs_are_named(folder, capsys, section, value, verb, words):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["high_dimension"]["method"] = None
    theirs = {"label": "Theirs", "certificates": "absent.tsv", "sigma": 1, "dataset": "digits"}
    params["methods"] |= {"theirs": theirs, "others": theirs | {"label": "Others"}}
    params["high_dimension"]["published"] = ["others"]
    params[section] = value and params[section] | value
    Path("params.yaml").write_text(plain_yaml(params))
    assert main([verb]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    for word in words:
        assert word in message


def test_pictures_are_of_the_smallest_and_largest_sigma(folder):
    for verb in ("sample", "certify"):
        assert main([verb, COHEN_DS]) == 0
    assert main(["pictures"]) == 0
    frame = certified(COHEN_DS)["test"].frame.sort_values(["sigma", "idx"])
    shown = [*frame.itertuples()][:SHOWN] + [*frame.itertuples()][-SHOWN:]
    path = Path("results/tables/figures/ddrs/figure6.svg")
    titles = re.findall(r"<!-- (.*) -->", path.read_text())
    assert [title for title in titles if "no." in title] == [f"{each.label} (no. {each.idx})" for each in shown]
    assert [title for title in titles if "σ*" in title and "=" in title] == [f"σ* = {each.sigma:.3g}" for each in shown]
    assert path.with_suffix(".png").is_file()
    before = path.read_bytes()
    assert main(["pictures"]) == 0
    assert path.read_bytes() == before


def test_points_are_no_pictures(folder, capsys):
    edit_params(folder, lambda params: params.update(dataset="cones") or params["pictures"].update(datasets=["cones"]))
    assert main(["data", "cones"]) == 0
    assert main(["pictures"]) == 2
    assert "pictures.datasets: 'cones' has the shape [2]; must be [1 or 3, h, w]" in capsys.readouterr().err


def test_a_checkpoint_for_something_else_is_refused(folder, capsys):
    make_params(folder, sigma=0.5)
    model = model_path(GAUSSIAN.replace("0.25", "0.5"))
    model.parent.mkdir(parents=True)
    shutil.copy(model_path(), model)
    assert main(["sample", COHEN]) == 2
    assert f"{model}: spec.sigma is 0.25; must be 0.5" in capsys.readouterr().err
    model.write_bytes(b"not a checkpoint")
    assert main(["sample", COHEN]) == 2
    assert str(model) in capsys.readouterr().err
    assert not counts_path().exists()


def test_data_that_changed_since_the_record_are_refused(folder, capsys):
    record = RECORD.read_json(record_path())
    record["parts"]["test"]["fingerprint"] = f"sha256:{0:064}"
    RECORD.write_json(record_path(), record)
    assert main(["sample", COHEN]) == 2
    assert "the files changed" in capsys.readouterr().err
    assert not counts_path().exists()


def test_a_record_of_other_data_is_refused(folder, capsys):
    edit_params(folder, lambda params: params["datasets"]["digits"].update(validation=0.2))
    for command in (["train", GAUSSIAN], ["sample", COHEN], ["certify", COHEN]):
        assert main(command) == 2
        assert f"{record_path()}: spec.validation is 0.1; must be 0.2" in capsys.readouterr().err


def test_kept_data_are_checked_and_can_be_done_without(folder, trained, capsys):
    def sampled(name):
        assert main(["sample", COHEN, *elsewhere(name, "data", "checkpoints")]) == 0
        return counts_path(results=name).read_bytes()

    loaded = sampled("loaded")
    fingerprint = json.loads(record_path().read_text())["parts"]["validation"]["fingerprint"]
    kept = Path("data", "parts", f"{fingerprint.removeprefix('sha256:')}.npz")
    content = (trained / kept).read_bytes()
    kept.parent.mkdir(parents=True)
    kept.write_bytes(content)
    assert sampled("kept") == loaded
    for damaged in (content[:1000], content[:5000] + bytes([content[5000] ^ 1]) + content[5001:], b""):
        kept.write_bytes(damaged)
        assert main(["sample", COHEN]) == 2
        assert kept.name in capsys.readouterr().err
    assert not counts_path().exists()


def test_help_describes_every_verb(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    for verb in (*_VERBS, "certify-images"):
        assert f"\n    {verb}" in text
        with pytest.raises(SystemExit, match="0"):
            main([verb, "--help"])
        told = capsys.readouterr().out
        assert ("--params" in told) == (verb != "certify-images")
        example = " ".join(told.partition("\nexample: certsmooth ")[2].split())
        assert _parser().parse_args(example.split()).run is not None, example
        assert example.split()[0] == verb


def test_a_table_without_its_certificates_says_what_makes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_params(Path(), digits_content())
    assert main(["table", "table1"]) == 2
    message = capsys.readouterr().err
    right = "`snakemake results/table1.md` makes it, and the table"
    assert re.fullmatch(rf"certsmooth: results/certificates/digits/cohen/\S+\.parquet: not there; {right}\n", message)


HALF = "digits-half-labelled"


def of_half(training, grid="default"):
    return f"{HALF}/{training}/sigma=0.25/seed=0/{grid}"


BOTH = of_half("smoothadv-both", "epsilon=0.25")
LABELS = model_path(of_half("standard")).with_name("pseudo_labels.json")


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """A folder with the record of half-labelled digits, a teacher, a start and pseudo labels."""
    folder = tmp_path_factory.mktemp("taught")
    make_params(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["data", HALF]) == 0
        for training in ("standard", "gaussian"):
            assert main(["train", of_half(training)]) == 0
        assert main(["label", of_half("standard")]) == 0
    return folder


@pytest.fixture
def taught(teachers, tmp_path, monkeypatch):
    """A fresh folder that starts from the teacher."""
    shutil.copy(teachers / "params.yaml", tmp_path)
    shutil.copytree(teachers / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_half_of_the_labels_are_held_back_in_each_class(taught):
    parts = json.loads(record_path(HALF).read_text())["parts"]
    assert {name: part["images"] for name, part in parts.items()} == {
        "training": 646,
        "validation": 144,
        "unlabelled": 647,
        "test": 360,
    }


def test_pseudo_labels_are_the_predictions_of_the_teacher(taught):
    stored = label.LABELS.read_json(LABELS)
    data = Experiment(read_params(taught / "params.yaml")).data(HALF)
    split = load_part(data, "unlabelled", RECORD.read_json(record_path(HALF)))
    classifier, _ = checkpoint.load(model_path(of_half("standard")))
    expected = classifier(split.batch(np.arange(len(split)))).argmax(1).tolist()
    assert stored["labels"] == expected
    assert stored["agreement"] == pytest.approx(np.mean(np.array(expected) == split.labels))
    assert stored["agreement"] > 0.3  # three epochs: little, but more than chance
    assert stored["fingerprint"] == split.fingerprint


@pytest.mark.slow
def test_what_the_teacher_labels_has_its_weight(taught, monkeypatch):
    given = []
    monkeypatch.setattr("certsmooth.experiment.steps.train.train", lambda *_, weights, **__: given.extend(weights))
    edit_params(Path(), lambda params: params["trainings"]["smoothadv-both"].update(teacher_weight=0.1))
    assert main(["train", BOTH]) == 0
    assert given == [1.0] * 646 + [0.1] * 647


@pytest.mark.slow
def test_training_builds_on_a_checkpoint_and_on_pseudo_labels(taught):
    assert main(["train", BOTH]) == 0
    first = model_path(BOTH).read_bytes()
    _, header = checkpoint.load(model_path(BOTH))
    assert header.images == 646 + 647
    assert header.images_fingerprint != header.dataset_fingerprint
    assert header.spec["start"]["training"] == "gaussian"
    assert header.spec["labels"]["teacher"]["training"] == "standard"
    # Other weights to start from, or other labels, are another run.
    start = model_path(of_half("gaussian"))
    content = start.read_bytes()
    classifier, about = checkpoint.load(start, trainable=True)
    for parameter in classifier.parameters():
        parameter.data += 0.01
    checkpoint.save(start, classifier, about)
    assert main(["train", BOTH]) == 0
    assert model_path(BOTH).read_bytes() != first
    start.write_bytes(content)
    stored = label.LABELS.read_json(LABELS)
    stored["labels"] = [(label + 1) % 10 for label in stored["labels"]]
    label.LABELS.write_json(LABELS, stored)
    assert main(["train", BOTH]) == 0
    assert model_path(BOTH).read_bytes() != first


@pytest.mark.slow
def test_a_denoiser_is_trained_in_front_of_another_training_whose_weights_stay(taught):
    denoised = of_half("denoised")
    edit_params(
        Path(),
        lambda params: params["trainings"].update(
            denoised=params["trainings"]["gaussian"]
            | {"start": {"training": "standard"}, "denoiser": {"name": "dncnn", "options": {"layers": 3}}}
        ),
    )
    assert main(["train", denoised]) == 0
    classifier, header = checkpoint.load(model_path(denoised))
    behind, _ = checkpoint.load(model_path(of_half("standard")))
    assert header.spec["denoiser"] == {"name": "dncnn", "options": {"layers": 3}}
    held, expected = classifier.network.classifier.state_dict(), behind.network.state_dict()
    assert held.keys() == expected.keys()
    assert all(torch.equal(held[name], expected[name]) for name in held)
    edit_params(Path(), lambda params: params["trainings"]["denoised"]["denoiser"].update(options={"layers": 4}))
    spec = Experiment(read_params(Path("params.yaml"))).train(runs.ModelRun(HALF, "denoised", header.sigma, 0, ()))
    with pytest.raises(CheckpointError, match=r"spec.denoiser.options.layers is 3; must be 4"):
        checkpoint.load(model_path(denoised), expect={"spec": spec.identity})


def test_self_training_from_a_file_of_unlabelled_images(taught, capsys):
    def from_file(params):
        params["datasets"][HALF] = params["datasets"]["digits"] | {
            "member": "digits",
            "unlabelled": {"source": "u.npz"},
        }

    edit_params(taught, from_file)
    shutil.rmtree("results")
    assert main(["data", HALF]) == 0
    assert main(["train", of_half("standard")]) == 0
    np.savez("u.npz", images=np.zeros((7, 1, 8, 9), np.uint8))
    assert main(["label", of_half("standard")]) == 2
    assert "u.npz: images of shape [1, 8, 9]; the data set has [1, 8, 8]" in capsys.readouterr().err
    assert not LABELS.exists()
    np.savez("u.npz", images=np.zeros((7, 1, 8, 8), np.uint8))
    assert main(["label", of_half("standard")]) == 0
    stored = json.loads(LABELS.read_text())
    assert (len(set(stored["labels"])), stored["agreement"]) == (1, None)
    # float32 digits and uint8 images are not one set.
    trained = Experiment(read_params(Path("params.yaml"))).models()
    name = next(model.name for model in trained if model.training == "smoothadv-self-trained")
    assert main(["train", name]) == 2
    assert "must be of one type and shape to be joined" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", of_half("gaussian"), "--device", "nonsense"], ["--device: 'nonsense' cannot be used"]),
        (["train", of_half("gaussian"), "--device", "cuda:99"], ["--device: 'cuda:99' cannot be used"]),
        (["train", of_half("macer", "k=1")], ["macer: grid point", "'k=1'", "valid: default"]),
        (["train", of_half("smoothadv-both", "epsilon=0.2")], ["did you mean 'epsilon=0.25'"]),
    ],
)
def test_mistakes_of_a_training_on_the_command_line_are_named(taught, capsys, arguments, words):
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("certsmooth: ")
    for word in words:
        assert word in message


def test_what_a_training_builds_on_must_be_there_and_be_that(taught, capsys):
    def refused(*words):
        assert main(["train", BOTH]) == 2
        message = capsys.readouterr().err
        assert message.startswith("certsmooth: ")
        assert not model_path(BOTH).exists()
        for word in words:
            assert word in message

    start, teacher, record = model_path(of_half("gaussian")), model_path(of_half("standard")), record_path(HALF)
    content = {path: path.read_bytes() for path in (start, teacher, LABELS)}
    shutil.copy(teacher, start)
    refused(str(start), "spec.training is 'standard'; must be 'gaussian'")
    start.unlink()
    refused(str(start), "No such file")
    start.write_bytes(content[start])
    shutil.copy(start, teacher)
    refused(str(LABELS), "teacher is 'sha256:")
    teacher.write_bytes(content[teacher])
    shutil.copy(record, LABELS)
    refused(f"{LABELS}: holds 'record of data 2'; must be 'pseudo labels 2'", "make them with `certsmooth label`")
    LABELS.unlink()
    refused(str(LABELS), "make them with `certsmooth label`")


def test_pseudo_labels_of_other_images_or_classes_are_refused(taught, capsys):
    stored = label.LABELS.read_json(LABELS)
    for change, words in (
        ({"fingerprint": "sha256:0"}, "fingerprint is 'sha256:0'"),
        ({"labels": stored["labels"][:-1]}, "646 labels"),
        ({"labels": [10] * 647}, "label 10; must be in 0 .. 9"),
        ({"spec": stored["spec"] | {"teacher": {**stored["spec"]["teacher"], "seed": 1}}}, "spec.teacher.seed is 1"),
    ):
        label.LABELS.write_json(LABELS, stored | change)
        assert main(["train", BOTH]) == 2
        message = capsys.readouterr().err
        assert str(LABELS) in message
        assert words in message
        assert not model_path(BOTH).exists()


def test_a_start_of_another_architecture_is_refused_before_training(taught, capsys):
    start, name = model_path(of_half("gaussian")), of_half("smoothadv-pretrained", "epsilon=0.25")

    def change(params):
        params["datasets"]["digits"]["architecture"] = "resnet20"  # HALF is like it
        params["trainings"]["smoothadv-pretrained"]["start"] = {"checkpoint": str(start)}

    edit_params(taught, change)
    assert main(["train", name]) == 2
    assert f"{start}: architecture is 'small_cnn'" in capsys.readouterr().err
    assert not model_path(name).exists()
    assert not list(model_path(name).parent.glob(".*"))
