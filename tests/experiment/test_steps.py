import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from certsmooth._internal.storage import read_json, write_json
from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.certificates import read_certificates
from certsmooth.artefacts.counts import read_counts, write_counts
from certsmooth.experiment import runs
from certsmooth.experiment.cli import _VERBS, main
from certsmooth.experiment.config import read_params
from certsmooth.experiment.steps.data import DataChoice
from certsmooth.science.sampling.counts import concatenate
from shipped import shipped_content
from workflow_project import plain_yaml

ROOT = Path(__file__).resolve().parents[2]
MODEL = ["--dataset", "digits", "--sigma", "0.25", "--seed", "0", "--data", "digits.json"]


def write_params(folder, **certification):
    """The shipped configuration, cut down: three epochs (the last with a sigma per image), few samples."""
    params = shipped_content()
    digits = params["datasets"]["digits"]
    digits["recipe"] |= {"epochs": 3, "adaptive_from_epoch": 2}
    digits["certification"] |= {"n": 150} | certification
    for method in ("cohen-ds", "cohen-ds2"):
        params["methods"][method]["policy"]["options"]["iterations"] = [2]
    (folder / "params.yaml").write_text(plain_yaml(params))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the record of digits and a checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    write_params(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["data", "--dataset", "digits", "--output", "digits.json"]) == 0
        assert main(["train", *MODEL, "--training", "gaussian", "--output", "m.safetensors", "--log", "log.csv"]) == 0
    return folder


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    """A fresh folder that starts from the trained model."""
    for name in ("params.yaml", "digits.json", "m.safetensors"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sample(output, *extra, method="cohen"):
    variant = ["--variant", "iterations=2"] if method != "cohen" else []
    return ["sample", *MODEL, "--method", method, *variant, "--checkpoint", "m.safetensors", "--output", output, *extra]


def certify(output, *counts, method="cohen", part="test"):
    variant = ["--variant", "iterations=2"] if method != "cohen" else []
    files = ["--checkpoint", "m.safetensors", "--counts", *counts]
    return ["certify", *MODEL, "--method", method, *variant, "--part", part, *files, "--output", output]


def audit(verb, table, *extra):
    files = ["--checkpoint", "m.safetensors", "--counts", "absent.parquet", "--output", "x"]
    return [verb, "--table", table, *MODEL, "--method", "cohen", *files, *extra]


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


@pytest.mark.parametrize("method", ["cohen", "cohen-ds"])
def test_sampling_killed_midway_gives_the_same_bytes(folder, method):
    write_params(folder, n=3000)
    assert main(sample("unbroken.parquet", "--part", "test", method=method)) == 0
    command = sample("killed.parquet", "--part", "test", method=method)
    for images in (3, 120):
        kill_when(
            command,
            lambda images=images: any(p.read_bytes().count(b"\n") > images for p in folder.glob(".killed*.journal")),
        )
    assert not (folder / "killed.parquet").exists()
    assert main(command) == 0
    assert (folder / "killed.parquet").read_bytes() == (folder / "unbroken.parquet").read_bytes()
    assert not list(folder.glob(".killed*"))


@pytest.mark.parametrize("training", ["gaussian", "gaussian-ds"])
def test_training_killed_midway_gives_the_same_bytes(folder, training):
    def command(name):
        return [
            "train",
            *MODEL,
            "--training",
            training,
            "--output",
            f"{name}.safetensors",
            "--log",
            f"{name}.csv",
            "--threads",
            "1",
        ]

    assert main(command("unbroken")) == 0
    kill_when(command("killed"), lambda: (folder / ".killed.safetensors.state").exists())
    assert not (folder / "killed.safetensors").exists()
    assert main(command("killed")) == 0
    assert (folder / "killed.safetensors").read_bytes() == (folder / "unbroken.safetensors").read_bytes()
    assert not (folder / ".killed.safetensors.state").exists()


def test_shards_give_the_rows_of_a_single_run(folder):
    assert main(sample("one.parquet", "--part", "test", method="cohen-ds")) == 0
    one, _ = read_counts(folder / "one.parquet")
    for shard in range(3):
        extra = ("--part", "test", "--shard", str(shard), "--shards", "3")
        assert main(sample(f"{shard}.parquet", *extra, method="cohen-ds")) == 0
    shards = concatenate([read_counts(folder / f"{shard}.parquet")[0] for shard in range(3)])
    for name in ("index", "label", "sigma", "selection", "estimation", "batch_size"):
        np.testing.assert_array_equal(getattr(shards, name), getattr(one, name))
    assert len(np.unique(one.sigma)) > 100  # one per image, or the test says little
    counts = [f"{shard}.parquet" for shard in range(3)]
    assert main(certify("three.tsv", *counts, method="cohen-ds")) == 0
    assert main(certify("one.tsv", "one.parquet", method="cohen-ds")) == 0
    three, alone = (read_certificates(folder / f"{name}.tsv")[0].drop(columns="time") for name in ("three", "one"))
    assert three.equals(alone)


def test_shards_must_be_complete_and_in_order(folder, capsys):
    for shard in range(2):
        assert main(sample(f"{shard}.parquet", "--part", "test", "--shard", str(shard), "--shards", "2")) == 0
    for counts in (["0.parquet"], ["1.parquet", "0.parquet"], ["0.parquet", "0.parquet"]):
        assert main(certify("out.tsv", *counts)) == 2
        assert "shards" in capsys.readouterr().err


def test_certificates_say_what_they_promise(folder):
    for method, promise in (("cohen", "global"), ("cohen-ds", "memory")):
        assert main(sample("c.parquet", "--part", "validation", method=method)) == 0
        assert main(certify("c.tsv", "c.parquet", method=method, part="validation")) == 0
        frame, provenance = read_certificates(folder / "c.tsv")
        assert set(frame["guarantee"]) == {promise}
        assert (provenance["memory"] is None) == (method == "cohen")
        assert provenance["images"] == len(frame) == 144
        assert (frame["radius"] <= frame["radius_before_memory"]).all()
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["methods"]["cohen-ds"]["memory"] = False
    (folder / "params.yaml").write_text(plain_yaml(params))
    assert main(certify("c.tsv", "c.parquet", method="cohen-ds", part="validation")) == 0
    assert set(read_certificates(folder / "c.tsv")[0]["guarantee"]) == {"none"}


def test_counts_of_something_else_are_refused_by_name(folder, capsys):
    assert main(sample("c.parquet", "--part", "test")) == 0

    def refused(*words, command=None):
        assert main(command or certify("out.tsv", "c.parquet")) == 2
        message = capsys.readouterr().err
        assert "Traceback" not in message
        assert not (folder / "out.tsv").exists()
        for word in ("c.parquet", *words):
            assert word in message

    write_params(folder, n=151)
    refused("n is 150; must be 151")
    write_params(folder, n0=50)
    refused("n0 is 100; must be 50")
    write_params(folder)
    refused("part is 'test'", command=certify("out.tsv", "c.parquet", part="validation"))
    refused("policy", command=certify("out.tsv", "c.parquet", method="cohen-ds"))
    record = read_json(folder / "digits.json", remedy="")
    record["parts"]["test"]["fingerprint"] = f"sha256:{0:064}"
    write_json(folder / "digits.json", record)
    refused("sha256:0")
    (folder / "digits.json").unlink()
    main(["data", "--dataset", "digits", "--output", "digits.json"])
    other = ["--sigma", "0.25", "--seed", "1", "--training", "gaussian", "--output", "m.safetensors", "--log", "l.csv"]
    assert main(["train", "--dataset", "digits", "--data", "digits.json", *other]) == 0
    refused("checkpoint is 'sha256:")
    content = bytearray((folder / "c.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "c.parquet").write_bytes(content)
    refused()


def test_counts_that_are_not_n_samples_each_are_refused(folder, capsys):
    assert main(sample("c.parquet", "--part", "test")) == 0
    counts, identity = read_counts(folder / "c.parquet")
    for name, right in (("selection", "100 samples"), ("estimation", "150 samples")):
        changed = getattr(counts, name).copy()
        changed[3, 0] += 1
        write_counts(folder / "c.parquet", dataclasses.replace(counts, **{name: changed}), identity)
        assert main(certify("out.tsv", "c.parquet")) == 2
        message = capsys.readouterr().err
        assert all(word in message for word in ("c.parquet", f"{name} of row 3", right))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data", "--dataset", "digts", "--output", "x"], ["--dataset", "did you mean 'digits'"]),
        (["table", "tabel1"], ["did you mean 'table1'"]),
        (["check", "--params", "absent.yaml"], ["absent.yaml"]),
        (sample("x", "--part", "test", method="cohn"), ["--method", "did you mean 'cohen'"]),
        (sample("x", "--part", "test", "--shard", "1"), ["--shard: 1 of 1", "from 0 to 0"]),
        (["table", "table1"], ["results/data/digits.json", "make it with `certsmooth data`"]),
        (["table", "evaluation"], ["results/certificates", "test.tsv", "cannot be read"]),
        (["table", "soundness"], ["results/certificates", "test.tsv", "cannot be read"]),
        (["toy"], ["results/data/cones-figures.json", "make it with `certsmooth data`"]),
        (["high-dimension"], ["results/certificates", "test.tsv", "cannot be read"]),
        (["theory", "--results", "digits.json"], ["digits.json", "Not a directory"]),
        (audit("order-cost", "soundnes"), ["--table", "did you mean 'soundness'"]),
        (audit("break-certificates", "soundnes"), ["--table", "did you mean 'soundness'"]),
        (audit("order-cost", "soundness"), ["absent.parquet"]),
        (audit("break-certificates", "soundness"), ["absent.parquet"]),
        (audit("break-certificates", "soundness", "--threads", "0"), ["--threads: 0", "at least 1"]),
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
        ("high_dimension", None, "high-dimension", ["high_dimension: missing", "dimension and rates"]),
        ("high_dimension", {"method": "yang"}, "high-dimension", ["high_dimension.method", "'yang' certifies in l1"]),
        ("high_dimension", {"published": [{"file": "x.tsv", "sigma": 1, "label": "x"}]}, "high-dimension", ["x.tsv"]),
    ],
)
def test_mistakes_of_the_figures_and_tables_of_idrs_are_named(folder, capsys, section, value, verb, words):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["high_dimension"]["method"] = None
    params["high_dimension"]["published"] = [{"file": "y.tsv", "sigma": 1, "label": "y"}]
    params[section] = value and params[section] | value
    Path("params.yaml").write_text(plain_yaml(params))
    assert main([verb]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    for word in words:
        assert word in message


def test_a_checkpoint_for_something_else_is_refused(folder, capsys):
    command = sample("x.parquet", "--part", "test")
    command[command.index("0.25")] = "0.5"
    assert main(command) == 2
    assert "sigma" in (message := capsys.readouterr().err)
    assert "m.safetensors" in message
    (folder / "m.safetensors").write_bytes(b"not a checkpoint")
    assert main(sample("x.parquet", "--part", "test")) == 2
    assert "m.safetensors" in capsys.readouterr().err
    assert not (folder / "x.parquet").exists()


def test_data_that_changed_since_the_record_are_refused(folder, capsys):
    record = read_json(folder / "digits.json", remedy="")
    record["parts"]["test"]["fingerprint"] = f"sha256:{0:064}"
    write_json(folder / "digits.json", record)
    assert main(sample("x.parquet", "--part", "test")) == 2
    assert "the files changed" in capsys.readouterr().err


def test_kept_data_are_checked_and_can_be_done_without(folder, trained, capsys):
    def sampled(name):
        assert main(sample(f"{name}.parquet", "--part", "validation")) == 0
        return (folder / f"{name}.parquet").read_bytes()

    loaded = sampled("loaded")
    fingerprint = json.loads((folder / "digits.json").read_text())["parts"]["validation"]["fingerprint"]
    kept = Path("data", "parts", f"{fingerprint.removeprefix('sha256:')}.npz")
    content = (trained / kept).read_bytes()
    kept.parent.mkdir(parents=True)
    kept.write_bytes(content)
    assert sampled("kept") == loaded
    for damaged in (content[:1000], content[:5000] + bytes([content[5000] ^ 1]) + content[5001:], b""):
        kept.write_bytes(damaged)
        assert main(sample("damaged.parquet", "--part", "validation")) == 2
        assert kept.name in capsys.readouterr().err
    assert not (folder / "damaged.parquet").exists()


def test_help_describes_every_verb(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    for verb in _VERBS:
        assert f"\n    {verb}" in text
        with pytest.raises(SystemExit, match="0"):
            main([verb, "--help"])
        assert "--params" in capsys.readouterr().out


HALF = ["--dataset", "digits-half-labelled", "--sigma", "0.25", "--seed", "0", "--data", "half.json"]


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A folder with the record of half-labelled digits, a teacher, a start and pseudo labels."""
    folder = tmp_path_factory.mktemp("taught")
    write_params(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["data", "--dataset", "digits-half-labelled", "--output", "half.json"]) == 0
        for training in ("standard", "gaussian"):
            files = ["--output", f"{training}.safetensors", "--log", "log.csv"]
            assert main(["train", *HALF, "--training", training, *files]) == 0
        label = ["label", *HALF, "--training", "standard", "--checkpoint", "standard.safetensors"]
        assert main([*label, "--output", "labels.json"]) == 0
    return folder


def self_train(*extra, training="smoothadv-both", output="s.safetensors"):
    files = ["--output", output, "--log", "log.csv"]
    return ["train", *HALF, "--training", training, "--variant", "epsilon=0.25", *files, *extra]


def test_half_of_the_labels_are_held_back_in_each_class(taught):
    parts = json.loads((taught / "half.json").read_text())["parts"]
    assert {name: part["images"] for name, part in parts.items()} == {
        "training": 646,
        "validation": 144,
        "unlabelled": 647,
        "test": 360,
    }


def test_pseudo_labels_are_the_predictions_of_the_teacher(taught, monkeypatch):
    monkeypatch.chdir(taught)
    stored = read_json(taught / "labels.json", remedy="")
    params = read_params(taught / "params.yaml")
    choice = DataChoice(**runs.data_slice(params, "digits-half-labelled"))
    split = choice.training_parts(choice.load())["unlabelled"]
    classifier, _ = checkpoint.load(taught / "standard.safetensors")
    expected = classifier(split.batch(np.arange(len(split)))).argmax(1).tolist()
    assert stored["labels"] == expected
    assert stored["agreement"] == pytest.approx(np.mean(np.array(expected) == split.labels))
    assert stored["agreement"] > 0.3  # three epochs: little, but more than chance
    assert stored["fingerprint"] == split.fingerprint


def test_training_builds_on_a_checkpoint_and_on_pseudo_labels(taught, monkeypatch):
    monkeypatch.chdir(taught)
    both = ["--start", "gaussian.safetensors", "--pseudo-labels", "labels.json"]
    assert main(self_train(*both)) == 0
    _, header = checkpoint.load(taught / "s.safetensors")
    assert header.training["images"] == 646 + 647
    assert header.training["start"] == {"training": "gaussian", "checkpoint": None}
    assert header.training["teacher"] == "standard"
    # Other weights to start from, or other labels, are another run.
    first = (taught / "s.safetensors").read_bytes()
    assert main(self_train("--start", "standard.safetensors", *both[2:], output="t.safetensors")) == 0
    assert (taught / "t.safetensors").read_bytes() != first
    stored = read_json(taught / "labels.json", remedy="")
    stored["labels"] = [(label + 1) % 10 for label in stored["labels"]]
    write_json(taught / "wrong.json", stored)
    assert main(self_train(*both[:3], "wrong.json", output="u.safetensors")) == 0
    assert (taught / "u.safetensors").read_bytes() != first


def test_self_training_from_a_file_of_unlabelled_images(taught, monkeypatch, capsys):
    monkeypatch.chdir(taught)
    params = yaml.safe_load((taught / "params.yaml").read_text())
    params["datasets"]["digits-half-labelled"] = params["datasets"]["digits"] | {
        "member": "digits",
        "unlabelled": {"source": "u.npz"},
    }
    (taught / "file.yaml").write_text(plain_yaml(params))
    np.savez(taught / "u.npz", images=np.zeros((7, 1, 8, 9), np.uint8))
    label = ["label", *HALF, "--training", "standard", "--checkpoint", "standard.safetensors", "--output", "l.json"]
    assert main([*label, "--params", "file.yaml"]) == 2
    assert "u.npz: images of shape [1, 8, 9]; the data set has [1, 8, 8]" in capsys.readouterr().err
    np.savez(taught / "u.npz", images=np.zeros((7, 1, 8, 8), np.uint8))
    assert main([*label, "--params", "file.yaml"]) == 0
    stored = json.loads((taught / "l.json").read_text())
    assert (len(set(stored["labels"])), stored["agreement"]) == (1, None)
    # float32 digits and uint8 images are not one set.
    more = ["--params", "file.yaml", "--pseudo-labels", "l.json"]
    assert main(self_train(*more, training="smoothadv-self-trained")) == 2
    assert "must be of one type and shape to be joined" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (self_train(), ["--start: None; must be given for training 'smoothadv-both'"]),
        (self_train("--start", "gaussian.safetensors"), ["--pseudo-labels: None; must be given"]),
        (
            self_train("--start", "absent.safetensors", "--pseudo-labels", "labels.json"),
            ["absent.safetensors"],
        ),
        (
            self_train("--start", "gaussian.safetensors", "--pseudo-labels", "half.json"),
            ["half.json: not pseudo labels"],
        ),
        (self_train("--start", "gaussian.safetensors", training="smoothadv-grid"), ["--start", "must not be given"]),
        (
            ["train", *HALF, "--training", "gaussian", "--output", "x", "--log", "l", "--device", "nonsense"],
            ["--device: 'nonsense' cannot be used"],
        ),
        (
            ["train", *HALF, "--training", "gaussian", "--output", "x", "--log", "l", "--device", "cuda:99"],
            ["--device: 'cuda:99' cannot be used"],
        ),
        (["train", *HALF, "--training", "macer", "--output", "x", "--log", "l", "--variant", "k=1"], ["--variant"]),
    ],
)
def test_mistakes_of_what_a_training_builds_on_are_named(taught, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(taught)
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("certsmooth: ")
    for word in words:
        assert word in message


def test_pseudo_labels_of_other_images_or_classes_are_refused(taught, monkeypatch, capsys):
    monkeypatch.chdir(taught)
    stored = read_json(taught / "labels.json", remedy="")
    for change, words in (
        ({"fingerprint": "sha256:0"}, "sha256:0"),
        ({"labels": stored["labels"][:-1]}, "646 labels"),
        ({"labels": [10] * 647}, "label 10; must be in 0 .. 9"),
    ):
        write_json(taught / "bad.json", stored | change)
        assert main(self_train("--start", "gaussian.safetensors", "--pseudo-labels", "bad.json")) == 2
        assert words in capsys.readouterr().err


def test_a_start_of_another_architecture_is_refused_before_training(taught, monkeypatch, capsys):
    monkeypatch.chdir(taught)
    params = yaml.safe_load((taught / "params.yaml").read_text())
    params["datasets"]["digits-half-labelled"]["architecture"] = "resnet20"
    (taught / "other.yaml").write_text(plain_yaml(params))
    both = ["--start", "gaussian.safetensors", "--pseudo-labels", "labels.json", "--params", "other.yaml"]
    assert main(self_train(*both, output="v.safetensors")) == 2
    assert "gaussian.safetensors: architecture is 'small_cnn'" in capsys.readouterr().err
    assert not (taught / "v.safetensors").exists()
