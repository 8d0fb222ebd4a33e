"""What made each artefact: in a container image, every one says which, and no number depends on it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from certsmooth._internal.storage import file_digest
from certsmooth.analysis.idrs_theory import threshold_table
from certsmooth.artefacts import checkpoint, provenance
from certsmooth.artefacts.certificates import read_certificates
from certsmooth.artefacts.counts import CountsPart, read_counts, write_counts
from certsmooth.artefacts.provenance import IMAGE_VARIABLE, Image, MadeBy, made_by
from certsmooth.artefacts.records import LOG, log_path, read_logs, write_logs
from certsmooth.errors import ConfigError, CountsError
from certsmooth.experiment.cli import main
from certsmooth.report.render import write_table
from factories import digits_content, write_params

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
        ({"commit": ""}, "commit: String should have at least 1 character; found ''"),
        ({"commit": None}, "commit: "),
        (
            {"definition": "sha256:12"},
            r"definition: String should match pattern '\^sha256:\[0-9a-f\]\{64\}\$'; found 'sha256:12'",
        ),
        ({"packages": {}}, "packages: Dictionary should have at least 1 item"),
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

RUN = "digits/cohen/seed=0"
COUNTS = f"results/counts/{RUN}/0-of-1.parquet"
TRAINED = "digits/gaussian/sigma=0.25/seed=0/default"
TEACHER = TRAINED.replace("digits/", "digits-half-labelled/")
MODEL = f"results/checkpoints/{TRAINED}/model.safetensors"
LABELS = f"results/checkpoints/{TEACHER}/pseudo_labels.json"
CERTIFICATES = f"results/certificates/{RUN}.parquet"
ORDER, BROKEN = (f"results/audits/soundness/{RUN}/{name}" for name in ("order.json", "broken.parquet"))
ATTACKED = f"results/audits/empirical/{RUN}/base.parquet"
TABLES = ("soundness", "empirical", "evaluation", "idrs/table1", "idrs/imagenet")


def make_params(folder):
    params = digits_content(n0=20, n=100)
    predict = {"n": 50, "alpha": 0.01}
    tables = params["tables"]
    tables["soundness"] |= {"methods": ["cohen"], "predict": predict, "stride": 90, "shuffles": 1}
    tables["empirical"] |= {"methods": ["cohen"], "predict": predict, "stride": 90}
    tables["empirical"]["settings"]["digits"] = {"radii": [0, 0.2]}
    del tables["empirical"]["attacks"]["smoothed"]
    tables["evaluation"] |= {"methods": ["cohen"], "training_seeds": [0]}
    params["high_dimension"] |= {"rates": [0]}
    write_params(folder, params)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with an artefact of each kind, made in the image; its current directory."""
    folder = tmp_path_factory.mktemp("made")
    make_params(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv(IMAGE_VARIABLE, str(write_image(folder)))
        for verb in (
            *(["data", "digits"], ["data", "digits-half-labelled"], ["train", TRAINED], ["train", TEACHER]),
            *(["label", TEACHER], ["sample", RUN], ["certify", RUN]),
            ["attack", RUN, "--table", "empirical", "--attack", "base"],
            *(["order-cost", RUN, "--table", "soundness"], ["break-certificates", RUN, "--table", "soundness"]),
        ):
            assert main(verb) == 0
        for name in ("soundness", "empirical", "evaluation"):
            assert main(["table", name]) == 0
        assert main(["high-dimension"]) == 0
        write_table(threshold_table(), Path("results/tables/idrs"))
        yield folder


def content(path):
    """What a JSON file says, without the format and the checksum that files have that steps read."""
    found = json.loads(Path(path).read_text())
    return {key: value for key, value in found.items() if key not in ("format", "sha256")}


@pytest.mark.slow
def test_every_artefact_says_in_which_image_it_was_made(made):
    _, header = checkpoint.load(Path(MODEL))
    assert header.made_by.image == IMAGE
    for counts in (COUNTS, ATTACKED, BROKEN):
        assert all(log.made_by.image == IMAGE for log in read_logs(Path(counts)))
    logs = ("results/data/digits.log.json", "results/data/digits-half-labelled.log.json")
    certified = [part.provenance for part in read_certificates(Path(CERTIFICATES))]
    for about in certified:
        assert about["sampled_by"] == [content(logs[0])["made_by"]]
    for found in (*(content(path)["made_by"] for path in (ORDER, LABELS, *logs)), *certified):
        assert found["image"] == asdict(IMAGE)
        assert found["versions"] == provenance.versions()
        assert "git_commit" in found


@pytest.mark.slow
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
    *_, path = write_table(replace(threshold_table(), **made), tmp_path)
    found = content(path)
    assert len(found["images"]) == 2
    assert [found["images"].get(each["image"]) for each in found["sources"]] == [
        image and asdict(image) for image in images
    ]


@pytest.mark.slow
def test_numbers_and_records_are_the_same_outside_the_image(made, monkeypatch):
    paths = [made / "results" / name for name in ("tables/soundness.csv", "tables/soundness.md", "data/digits.json")]
    before = [path.read_bytes() for path in paths]
    monkeypatch.delenv(IMAGE_VARIABLE)
    assert main(["table", "soundness"]) == 0
    assert main(["data", "digits"]) == 0
    assert [path.read_bytes() for path in paths] == before
    assert content("results/tables/soundness.json")["image"] is None
    assert content("results/data/digits.log.json")["made_by"]["image"] is None


@pytest.mark.slow
def test_shards_of_several_images_name_all(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    shutil.rmtree(Path(COUNTS).parent)
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["datasets"]["digits"]["certification"]["shards"] = 3
    write_params(Path(), params)
    for shard in range(3):
        if shard == 1:
            monkeypatch.delenv(IMAGE_VARIABLE)
        assert main(["sample", RUN, "--shard", f"{shard}/3"]) == 0
    assert main(["certify", RUN]) == 0
    for part in read_certificates(Path(CERTIFICATES)):
        assert part.provenance["image"] is None
        assert [each["image"] for each in part.provenance["sampled_by"]] == [asdict(IMAGE), None]


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"seconds": "1"}, {"threads": None}, {"more": 1}, {"made_by": {}}])
def test_a_damaged_log_is_refused_by_its_name(change, made, tmp_path):
    path = tmp_path / "a.log.json"
    shutil.copy(COUNTS, tmp_path / "a.parquet")
    good = content(Path(COUNTS).with_suffix(".log.json"))
    LOG.write_json(path, good)
    assert [log.seconds for log in read_logs(tmp_path / "a.parquet")] == [part["seconds"] for part in good["parts"]]
    *others, last = good["parts"]
    LOG.write_json(path, good | {"parts": [*others, last | change]})
    (key,) = change
    with pytest.raises(CountsError, match=rf"^{path}: parts\.{len(others)}\.{key}"):
        read_logs(tmp_path / "a.parquet")
    path.unlink()
    with pytest.raises(CountsError, match=rf"^{path}: cannot be read"):
        read_logs(tmp_path / "a.parquet")


@pytest.mark.slow
def test_the_log_of_another_file_is_refused(made, tmp_path):
    """The same parts, images and seconds: only the counts are others."""
    first, second = (tmp_path / f"{name}.parquet" for name in "ab")
    shutil.copy(COUNTS, first)
    write_counts(second, [CountsPart(part.counts, {**part.identity, "seed": 1}) for part in read_counts(first)])
    for path in (first, second):
        write_logs(path, read_logs(Path(COUNTS)))
        assert read_logs(path) == read_logs(Path(COUNTS))
    log_path(second).replace(log_path(first))
    right, found = file_digest(first), file_digest(second)
    with pytest.raises(CountsError, match=f"^{log_path(first)}: made is '{found}'; must be '{right}'; make "):
        read_logs(first)
