"""Sampling in shards: the gathered result is that of one job, whatever their number."""

import json

import pandas as pd
import pytest

from certsmooth.artefacts.certificates import read_certificates
from certsmooth.artefacts.counts import CountsPart, write_counts
from certsmooth.artefacts.records import read_record
from certsmooth.experiment.cli import main
from certsmooth.experiment.config import read_params
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.specs import certificates_path
from certsmooth.experiment.steps.gathered import Counted
from certsmooth.science.models import ModelSpec
from certsmooth.science.sampling.sampler import GROUP
from factories import save_classifier, shipped_content, write_params
from workflow_project import only_table1

pytestmark = pytest.mark.slow

METHODS = ("cohen", "cohen-ds")  # a constant sigma; one per image, and the memory


def asked(folder, shards):
    """Return the experiment with so many shards, and its folder of results."""
    params = folder / str(shards)
    params.mkdir(exist_ok=True)
    content = shipped_content()
    only_table1(content)
    content["datasets"]["digits"]["certification"] |= {"n0": 20, "n": 150, "shards": shards}
    content["methods"]["cohen-ds"]["policy"]["options"] |= {"iterations": 2, "step": 0.01, "class_samples": 1}
    return Experiment(read_params(write_params(params, content))), folder / "results"


def call(verb, name, folder, shards, *more):
    return main([verb, name, "--params", f"{folder}/{shards}/params.yaml", "--results", f"{folder}/results", *more])


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A folder with a classifier (random weights will do) and digits sampled as one job."""
    folder = tmp_path_factory.mktemp("sampled")
    experiment, results = asked(folder, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert call("data", "digits", folder, 1) == 0
        parts = read_record(results / "data" / "digits.json")["parts"]
        spec, *others = [part.base for name in METHODS for part in experiment.sample_batch("digits", name, (0,)).parts]
        assert others == [spec] * 3
        data = {"dataset_fingerprint": parts["training"]["fingerprint"], "images": parts["training"]["images"]}
        data |= {"images_fingerprint": parts["training"]["fingerprint"], "spec": spec.identity}
        save_classifier(results / spec.path, ModelSpec("small_cnn", (1, 8, 8), 10), **data)
        yield folder, {method: result(folder, method, 1) for method in METHODS}


def result(folder, method, shards):
    """The bytes of the gathered counts, and the certificates without the time that they took."""
    experiment, results = asked(folder, shards)
    name = f"digits/{method}/seed=0"
    for shard in range(shards):
        assert call("sample", name, folder, shards, "--shard", f"{shard}/{shards}", "--threads", "1") == 0
    record, counted, gathered = read_record(results / "data" / "digits.json"), Counted(results), folder / "all.parquet"
    specs = experiment.certify_batch("digits", method, (0,)).parts
    assert [spec.sampled.split for spec in specs] == ["test", "validation"]
    found = [counted.gather(spec.sampled, spec.counts, record) for spec in specs]
    assert [len(part.counts) for part in found] == [360, 144]
    write_counts(gathered, [CountsPart(part.counts, part.identity) for part in found])
    assert call("certify", name, folder, shards) == 0
    parts = read_certificates(results / certificates_path(name))
    assert [len(part.frame) for part in parts] == [360, 144]
    return gathered.read_bytes(), [(part.spec, part.frame.drop(columns="time")) for part in parts]


@pytest.mark.parametrize(("method", "shards"), [("cohen", 7), ("cohen-ds", 2), ("cohen-ds", 7)])
def test_any_number_of_shards_gathers_to_the_bytes_of_one_job(sampled, monkeypatch, method, shards):
    folder, one = sampled
    monkeypatch.chdir(folder)
    assert -(-144 // GROUP) == 3, "7 shards are more than validation has groups: some have no image"
    counts, certificates = result(folder, method, shards)
    assert counts == one[method][0]
    assert len(certificates) == 2
    for (spec, frame), (right, expected) in zip(certificates, one[method][1], strict=True):
        assert json.dumps(spec) == json.dumps(right)
        pd.testing.assert_frame_equal(frame, expected, check_exact=True)


@pytest.mark.parametrize(("shard", "message"), [("2/2", "2 of 2"), ("0/0", "0 of 0"), ("-1/2", "'-1/2'")])
def test_a_shard_that_is_none_is_refused(sampled, capsys, shard, message):
    folder, _ = sampled
    assert call("sample", "digits/cohen/seed=0", folder, 1, f"--shard={shard}") == 2
    assert f"--shard: {message}" in capsys.readouterr().err
