"""Sampling in shards: the gathered result is that of one job, whatever their number."""

import json

import pytest

from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.certificates import read_certificates
from certsmooth.artefacts.counts import write_counts
from certsmooth.artefacts.provenance import made_by
from certsmooth.experiment.cli import main
from certsmooth.experiment.steps.certify import gather_counts
from certsmooth.science.models import ModelSpec, build
from certsmooth.science.sampling.sampler import GROUP
from shipped import shipped_content
from workflow_project import plain_yaml

RUN = ["--dataset", "digits", "--sigma", "0.25", "--seed", "0", "--data", "digits.json", "--part", "validation"]
METHODS = ("cohen", "cohen-ds")  # a constant sigma; one per image, and the memory


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A folder with a classifier (random weights will do) and the validation part of digits sampled as one job."""
    folder = tmp_path_factory.mktemp("sampled")
    params = shipped_content()
    params["datasets"]["digits"]["certification"] |= {"n0": 20, "n": 150}
    params["methods"]["cohen-ds"]["policy"]["options"] |= {"iterations": 2, "step": 0.01, "class_samples": 1}
    (folder / "params.yaml").write_text(plain_yaml(params))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["data", "--dataset", "digits", "--output", "digits.json"]) == 0
        record = json.loads((folder / "digits.json").read_text())
        classifier = build(ModelSpec("small_cnn", (1, 8, 8), 10), seed=0)
        header = checkpoint.CheckpointHeader(
            model=classifier.spec,
            dataset="digits",
            dataset_fingerprint=record["parts"]["training"]["fingerprint"],
            pixel_range=(0.0, 1.0),
            sigma=0.25,
            training={},
            seed=0,
            **vars(made_by()),
        )
        checkpoint.save(folder / "m.safetensors", classifier, header)
        yield folder, {method: result(folder, method, 1) for method in METHODS}


def result(folder, method, shards):
    """The bytes of the gathered counts, and those of the certificates without the time that they took."""
    name, model = f"{method}-{shards}", ["--method", method, "--checkpoint", "m.safetensors"]
    paths = [folder / f"{name}-{shard}.parquet" for shard in range(shards)]
    for shard, path in enumerate(paths):
        which = ["--shard", str(shard), "--shards", str(shards), "--threads", "1"]
        assert main(["sample", *RUN, *model, *which, "--output", str(path)]) == 0
    counts, identity = gather_counts(paths, expect={})
    write_counts(folder / f"{name}.parquet", counts, identity)
    output = folder / f"{name}.tsv"
    assert main(["certify", *RUN, *model, "--counts", *map(str, paths), "--output", str(output)]) == 0
    assert len(read_certificates(output)[0]) == len(counts) == 144
    rows = [line.split("\t") for line in output.read_text().splitlines()]
    time = rows[0].index("time")
    return (folder / f"{name}.parquet").read_bytes(), [[*row[:time], *row[time + 1 :]] for row in rows]


@pytest.mark.parametrize(("method", "shards"), [("cohen", 7), ("cohen-ds", 2), ("cohen-ds", 7)])
def test_any_number_of_shards_gathers_to_the_bytes_of_one_job(sampled, method, shards):
    folder, one = sampled
    assert -(-144 // GROUP) == 3, "7 shards are more than there are groups: some have no image"
    assert result(folder, method, shards) == one[method]


@pytest.mark.parametrize(("shard", "shards"), [(2, 2), (-1, 2), (0, 0)])
def test_a_shard_that_is_none_is_refused(sampled, capsys, shard, shards):
    which = [f"--shard={shard}", f"--shards={shards}"]
    assert main(["sample", *RUN, *which, "--method", "cohen", "--checkpoint", "m.safetensors", "--output", "x"]) == 2
    assert f"shard: {shard} of {shards}" in capsys.readouterr().err
