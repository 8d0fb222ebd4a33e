"""What made each artefact: in a container image, every one says which, and no number depends on it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from certsmooth._internal.storage import write_json
from certsmooth.analysis.idrs_theory import threshold_table
from certsmooth.artefacts import checkpoint, provenance
from certsmooth.artefacts.provenance import IMAGE_VARIABLE, Image, MadeBy, made_by
from certsmooth.artefacts.records import read_log
from certsmooth.errors import ConfigError, CountsError
from certsmooth.experiment import runs
from certsmooth.experiment.cli import main
from certsmooth.experiment.config import parse_params
from certsmooth.report.render import write_files, write_table
from shipped import shipped_content
from workflow_project import plain_yaml

ROOT = Path(__file__).resolve().parents[2]
IMAGE = Image(commit="0" * 40, definition="sha256:" + "ab" * 32, packages={"debian:libc6": "2.36-9", "numpy": "2.4.0"})


def write_image(folder, **changes):
    path = folder / "image.json"
    path.write_text(json.dumps(asdict(IMAGE) | changes))
    return path


def test_outside_an_image_there_is_none(monkeypatch):
    monkeypatch.delenv(IMAGE_VARIABLE, raising=False)
    assert made_by() == MadeBy(versions=provenance.versions(), git_commit=provenance.git_commit(), image=None)


def test_the_commit_of_an_image_is_that_of_its_source_alone(tmp_path, monkeypatch):
    monkeypatch.setenv(IMAGE_VARIABLE, str(write_image(tmp_path)))
    monkeypatch.setattr(provenance, "git_commit", lambda: "1" * 40)
    assert made_by() == MadeBy(versions=provenance.versions(), git_commit="1" * 40, image=IMAGE)
    monkeypatch.setattr(provenance, "git_commit", lambda: None)
    monkeypatch.setattr(provenance, "_HERE", tmp_path / "site-packages" / "certsmooth" / "provenance.py")
    assert made_by().git_commit == IMAGE.commit
    (tmp_path / ".git").mkdir()  # a checkout, but git is not there to tell its commit
    assert made_by().git_commit is None
    assert made_by().image == IMAGE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"commit": ""}, "commit: ''; must be the commit"),
        ({"commit": None}, "commit: "),
        ({"definition": "sha256:12"}, "definition: 'sha256:12'; must be sha256: and 64 digits"),
        ({"packages": {}}, "packages: none"),
        ({"packages": {"numpy": 2}}, r"packages\.numpy: "),
        ({"packages": ["numpy"]}, "packages: "),
        ({"name": "cpu"}, "name: "),
    ],
)
def test_an_image_that_is_not_described_as_it_must_be_is_refused(changes, message, tmp_path, monkeypatch):
    path = write_image(tmp_path, **changes)
    monkeypatch.setenv(IMAGE_VARIABLE, str(path))
    with pytest.raises(ConfigError, match=rf"^{path} \({IMAGE_VARIABLE}\): .*{message}"):
        made_by()


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b"\xff"])
def test_a_file_that_is_no_image_is_refused(content, tmp_path, monkeypatch):
    path = tmp_path / "image.json"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv(IMAGE_VARIABLE, str(path))
    with pytest.raises(ConfigError, match=rf"^{path} \({IMAGE_VARIABLE}\): "):
        made_by()


# --- every verb, on digits

RUN = ["--dataset", "digits", "--sigma", "0.25", "--seed", "0", "--data", "results/data/digits.json"]
PLACE = "digits/cohen/sigma=0.25/seed=0/default"
COUNTS = f"results/counts/{PLACE}/test-0-of-1.parquet"
MODEL = "results/checkpoints/digits/gaussian/sigma=0.25/seed=0/default/model.safetensors"
ON_COUNTS = [*RUN, "--method", "cohen", "--checkpoint", MODEL, "--counts", COUNTS]
CERTIFICATES = f"results/certificates/{PLACE}/test.json"
LABELS, HALF = "labels.json", "results/data/digits-half-labelled.json"
ORDER, BROKEN = (f"results/audit/soundness/{PLACE}/{name}" for name in ("order.json", "broken.parquet"))
ATTACKED = f"results/attacks/empirical/{PLACE}/base.parquet"
TABLES = ("soundness", "empirical", "evaluation", "idrs/table1", "idrs/imagenet")


def write_params(folder):
    params = shipped_content()
    params["datasets"]["digits"]["recipe"] |= {"epochs": 2}
    params["datasets"]["digits"] |= {"sigmas": [0.25]}
    params["datasets"]["digits"]["certification"] |= {"n0": 20, "n": 100}
    predict = {"n": 50, "alpha": 0.01}
    tables = params["tables"]
    tables["soundness"] |= {"methods": ["cohen"], "predict": predict, "stride": 90, "shuffles": 1}
    tables["empirical"] |= {"methods": ["cohen"], "predict": predict, "stride": 90}
    tables["empirical"]["settings"]["digits"] = {"radii": [0, 0.2]}
    del tables["empirical"]["attacks"]["smoothed"]
    tables["evaluation"] |= {"methods": ["cohen"], "training_seeds": [0]}
    params["high_dimension"] |= {"rates": [0]}
    (folder / "params.yaml").write_text(plain_yaml(params))
    (run,) = runs.table_runs(parse_params(params), "soundness")
    assert str(run.folder) == PLACE


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with an artefact of each kind, made in the image; its current directory."""
    folder = tmp_path_factory.mktemp("made")
    write_params(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv(IMAGE_VARIABLE, str(write_image(folder)))
        for output in (RUN[-1], HALF):
            Path(output).parent.mkdir(parents=True, exist_ok=True)
            assert main(["data", "--dataset", Path(output).stem, "--output", output]) == 0
        assert main(["train", *RUN, "--training", "gaussian", "--output", MODEL, "--log", "log.csv"]) == 0
        sampled = ["--method", "cohen", "--part", "test", "--checkpoint", MODEL, "--output", COUNTS]
        assert main(["sample", *RUN, *sampled]) == 0
        certified = str(Path(CERTIFICATES).with_suffix(".tsv"))
        assert main(["certify", *ON_COUNTS, "--part", "test", "--output", certified]) == 0
        assert main(["attack", *ON_COUNTS, "--table", "empirical", "--attack", "base", "--output", ATTACKED]) == 0
        assert main(["order-cost", *ON_COUNTS, "--table", "soundness", "--output", ORDER]) == 0
        assert main(["break-certificates", *ON_COUNTS, "--table", "soundness", "--output", BROKEN]) == 0
        half = ["--dataset", "digits-half-labelled", "--sigma", "0.25", "--seed", "0", "--data", HALF]
        files = ["--output", "half.safetensors", "--log", "log.csv"]
        assert main(["train", *half, "--training", "gaussian", *files]) == 0
        label = ["--training", "gaussian", "--checkpoint", "half.safetensors", "--output", LABELS]
        assert main(["label", *half, *label]) == 0
        for name in ("soundness", "empirical", "evaluation"):
            assert main(["table", name]) == 0
        assert main(["high-dimension"]) == 0
        write_table(threshold_table(), Path("results/tables/idrs"))
        yield folder


def content(path):
    """What a JSON file says, without the checksum that files have that steps read."""
    found = json.loads(Path(path).read_text())
    found.pop("sha256", None)
    return found


def test_every_artefact_says_in_which_image_it_was_made(made):
    _, header = checkpoint.load(Path(MODEL))
    assert header.image == IMAGE
    for counts in (COUNTS, ATTACKED, BROKEN):
        assert read_log(Path(counts)).image == IMAGE
    logs = ("results/data/digits.log.json", "results/data/digits-half-labelled.log.json")
    assert content(CERTIFICATES)["provenance"]["sampled_by"] == [content(logs[0])]
    for found in (*map(content, (ORDER, LABELS, *logs)), content(CERTIFICATES)["provenance"]):
        assert found["image"] == asdict(IMAGE)
        assert found["versions"] == provenance.versions()
        assert "git_commit" in found


@pytest.mark.parametrize("name", TABLES)
def test_a_table_holds_each_image_once(made, name):
    text = (made / "results" / "tables" / f"{name}.json").read_text()
    found = json.loads(text)
    assert list(found["images"].values()) == [asdict(IMAGE)]
    (key,) = found["images"]
    assert found["image"] == key
    assert text.count("debian:libc6") == 1
    sources = found["sources"]
    for source in sources:
        assert source["provenance"]["image"] == source["provenance"]["sampled_by"][0]["image"] == key
    for source in found["attack_sources"]:
        assert source["provenance"]["image"] == key
    if sources:
        assert (
            "container image of the definition sha256:abababababab."
            in (made / "results" / "tables" / f"{name}.md").read_text()
        )


def test_a_table_from_two_images_holds_both(tmp_path):
    images = (IMAGE, Image(commit=IMAGE.commit, definition=IMAGE.definition, packages={"numpy": "2.4.1"}), None, IMAGE)
    made = {"sources": [asdict(MadeBy(versions={}, git_commit=None, image=image)) for image in images]}
    *_, path = write_files(tmp_path / "x", made, markdown="", values="")
    found = content(path)
    assert len(found["images"]) == 2
    assert [found["images"].get(each["image"]) for each in found["sources"]] == [
        image and asdict(image) for image in images
    ]


def test_numbers_and_records_are_the_same_outside_the_image(made, monkeypatch):
    paths = [made / "results" / name for name in ("tables/soundness.csv", "tables/soundness.md", "data/digits.json")]
    before = [path.read_bytes() for path in paths]
    monkeypatch.delenv(IMAGE_VARIABLE)
    assert main(["table", "soundness"]) == 0
    assert main(["data", "--dataset", "digits", "--output", RUN[-1]]) == 0
    assert [path.read_bytes() for path in paths] == before
    assert content("results/tables/soundness.json")["image"] is None
    assert content("results/data/digits.log.json")["image"] is None


def test_shards_of_several_images_name_all(made, tmp_path, monkeypatch):
    counts = [tmp_path / f"{shard}.parquet" for shard in range(3)]
    for shard, path in enumerate(counts):
        place = ["--part", "test", "--shard", str(shard), "--shards", "3", "--checkpoint", MODEL]
        if shard == 1:
            monkeypatch.delenv(IMAGE_VARIABLE)
        assert main(["sample", *RUN, "--method", "cohen", *place, "--output", str(path)]) == 0
    output = tmp_path / "test.tsv"
    files = ["--checkpoint", MODEL, "--counts", *map(str, counts), "--output", str(output)]
    assert main(["certify", *RUN, "--method", "cohen", "--part", "test", *files]) == 0
    found = content(output.with_suffix(".json"))["provenance"]
    assert found["image"] is None
    assert [each["image"] for each in found["sampled_by"]] == [asdict(IMAGE), None]


@pytest.mark.parametrize("change", [{"seconds": "1"}, {"threads": None}, {"more": 1}, {"image": {}}])
def test_a_damaged_log_is_refused_by_its_name(change, made, tmp_path):
    path = tmp_path / "a.log.json"
    good = content(Path(COUNTS).with_suffix(".log.json"))
    write_json(path, good)
    assert read_log(tmp_path / "a.parquet").seconds == good["seconds"]
    write_json(path, good | change)
    (key,) = change
    with pytest.raises(CountsError, match=rf"^{path}: {key}"):
        read_log(tmp_path / "a.parquet")
    path.unlink()
    with pytest.raises(CountsError, match=rf"^{path}: cannot be read"):
        read_log(tmp_path / "a.parquet")
