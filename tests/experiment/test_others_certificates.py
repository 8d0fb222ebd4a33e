"""Files of certificates that others made, as rows of tables."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from certsmooth.errors import ConfigError
from certsmooth.experiment.cli import main
from certsmooth.experiment.config import parse_params, read_params
from certsmooth.experiment.members import check_members
from certsmooth.experiment.runs import published_runs, table_runs, table_slice
from certsmooth.experiment.steps.certified import Certified
from certsmooth.experiment.strict_yaml import load_yaml
from factories import (
    REFERENCE,
    ROOT,
    MadeResults,
    changed,
    needs_reference,
    plain_yaml,
    shipped_content,
    small_content,
    write_params,
)

HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime"
TABLE = {"kind": "certified", "title": "T", "baseline": "both", "settings": {"digits": {"sigmas": [0.25, 0.5]}}}


@pytest.fixture
def content():
    """One of everything, with a method of two files."""
    content = small_content()
    content["methods"]["both"] = content["methods"]["theirs"] | {"label": "Both", "sigma": [0.25, 0.5]}
    content["methods"]["both"]["certificates"] = "both{sigma:.2f}.tsv"
    return content


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("high_dimension.published", ["cohen"], ["high_dimension.published: unknown 'cohen'", "valid: both, theirs"]),
        ("high_dimension.published", ["theirs"] * 2, ["high_dimension.published: 'theirs' is given twice"]),
        ("methods.theirs.sigma", 0, ["methods.theirs.sigma.0: 0", "> 0"]),
        ("methods.theirs.sigma", "0.5", ["methods.theirs.sigma.0: '0.5'; must be a number: 0.5"]),
        ("methods.theirs.sigma", [0.5, 0.5], ["methods.theirs.sigma: [0.5, 0.5]", "that differ"]),
        ("methods.theirs.sigma", [0.5, 1.0], ["methods.theirs.certificates: 'published.tsv'", "one file a sigma"]),
        ("methods.theirs.certificates", "a{sigm}.tsv", ["methods.theirs.certificates: 'a{sigm}.tsv'", "of {sigma}"]),
        ("methods.theirs.dataset", "digit", ["methods.theirs.dataset: unknown 'digit'", "did you mean 'digits'"]),
        ("methods.theirs.norm", "linf", ["methods.theirs.norm: 'linf'; must be 'l2' or 'l1'"]),
        (
            "methods.theirs.training",
            "gaussian",
            ["unknown key methods.theirs.training", "valid: certificates, dataset"],
        ),
        ("methods.cohen.polcy", {}, ["unknown key methods.cohen.polcy", "did you mean 'policy'"]),
        ("datasets.digits.methods", {"theirs": {}}, ["datasets.digits.methods: unknown 'theirs'"]),
        ("tables.empirical.methods", ["theirs"], ["tables.empirical.methods: unknown 'theirs'", "valid: cohen"]),
        ("tables.promises.methods", ["theirs"], ["tables.promises.methods: unknown 'theirs'", "valid: cohen"]),
    ],
)
def test_a_wrong_entry_is_named(content, path, value, words):
    with pytest.raises(ConfigError) as error:
        parse_params(changed(content, path, value))
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_the_file_of_a_sigma_has_its_number_in_its_name(content):
    for form, names in (("{sigma}", "0.25 1.0"), ("{sigma:.2f}", "0.25 1.00"), ("{sigma:g}", "0.25 1")):
        wanted = content["methods"]["both"] | {"sigma": [0.25, 1.0], "certificates": f"a/{form}/s{form}.tsv"}
        method = parse_params(changed(content, "methods.both", wanted)).methods["both"]
        assert method.files == dict(zip((0.25, 1.0), (f"a/{n}/s{n}.tsv" for n in names.split()), strict=True))
    one = parse_params(content).methods["theirs"]  # {certificates: FILE, sigma: 0.5, ...}
    assert one.files == {0.5: "published.tsv"}


def test_a_table_shows_the_files_of_its_noise_levels(content):
    content["tables"]["table1"] = TABLE | {"methods": ["both", "theirs"]}
    params = parse_params(content)
    check_members(params)
    shown = [(run.method, run.sigma, run.file) for run in published_runs(params, "table1")]
    assert shown == [("both", 0.25, "both0.25.tsv"), ("both", 0.5, "both0.50.tsv"), ("theirs", 0.5, "published.tsv")]
    assert table_slice(params, "table1")["published"][2]["file"] == "published.tsv"
    assert table_slice(params, "table1")["labels"]["theirs"] == ("Published", "FS", "FS")
    assert list(table_runs(params, "table1")) == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "methods.theirs.dataset",
            "cifar10",
            "tables.table1.methods: 'theirs' (published.tsv) is about cifar10; must be about digits",
        ),
        (
            "methods.theirs.sigma",
            1.0,
            "tables.table1.methods: 'theirs' (published.tsv) has sigma [1.0]; must be of [0.25, 0.5]",
        ),
        ("methods.theirs.norm", "l1", "tables.table1.methods: radii of both in l2, theirs in l1; must be of one norm"),
    ],
)
def test_rows_that_a_table_cannot_show_are_refused(content, path, value, message):
    content["tables"]["table1"] = TABLE | {"methods": ["both", "theirs"]}
    check_members(parse_params(content))
    with pytest.raises(ConfigError) as error:
        check_members(parse_params(changed(content, path, value)))
    assert str(error.value).startswith(message)


def test_labels_of_others_beside_each_other_must_differ(content):
    content["methods"]["both"]["label"] = "Published"
    content["high_dimension"]["published"] = ["theirs", "both"]
    with pytest.raises(ConfigError, match=r"high_dimension.published: 'theirs' and 'both' have the label 'Published'"):
        parse_params(content)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Our certificates for a table with a row of others, of which sigma 0.25 is written as it should be."""
    monkeypatch.chdir(tmp_path)
    params = (ROOT / "tests" / "golden" / "params.yaml").read_text()
    Path("params.yaml").write_text(params)
    made = MadeResults(read_params(Path("params.yaml")), Path("results"))
    made.table("others")
    run = next(iter(table_runs(made.params, "others")))
    frame = Certified(made.experiment, Path("results")).run(run, "test").frame
    labels = dict(zip(frame["idx"], frame["label"], strict=True))
    write("theirs-0.25.tsv", labels)
    return labels


def write(name, labels, *, radius=0.5):
    lines = [f"{i}\t{label}\t{label}\t{radius}\t1\t0:00:01.5" for i, label in labels.items()]
    Path(name).write_text("\n".join([HEADER, *lines]))


@pytest.mark.slow
def test_the_table_of_ours_and_theirs(made):
    write("theirs-0.50.tsv", made, radius=1.5)
    assert main(["table", "others"]) == 0
    table = json.loads(Path("results/tables/others.json").read_text())
    found = next(v for v in table["values"] if v["method"] == "Theirs" and v["metric"] == "acr")
    assert (found["value"], found["lower"], found["upper"], found["kind"]) == (1.5, 1.5, 1.5, "derived")
    (source,) = [s["provenance"] for s in table["sources"] if s["method"] == "Theirs" and s["sigma"] == 0.5]
    digest = hashlib.sha256(Path("theirs-0.50.tsv").read_bytes()).hexdigest()
    assert (source["file"], source["sha256"]) == ("theirs-0.50.tsv", f"sha256:{digest}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda labels: None,
            "methods.theirs.certificates: theirs-0.50.tsv: cannot be read: No such file or directory",
        ),
        (
            lambda labels: write("theirs-0.50.tsv", labels, radius=3.5),
            "methods.theirs.certificates: theirs-0.50.tsv: line 2, column radius: 3.5; must be at most 3.029: with the "
            "declared sigma 0.5",
        ),
        (
            lambda labels: write("theirs-0.50.tsv", {i: labels[(i + 1) % len(labels)] for i in labels}),
            "theirs, sigma 0.5, theirs-0.50.tsv: idx 0 has label ",
        ),
        (
            lambda labels: Path("theirs-0.50.tsv").write_text(f"{HEADER}\n0\t1\t1"),
            "methods.theirs.certificates: theirs-0.50.tsv: line 2: 3 fields; must be 6, separated by tabs",
        ),
    ],
)
def test_files_that_cannot_be_theirs_are_refused(made, capsys, spoil, message):
    spoil(made)
    assert main(["table", "others"]) == 2
    found = capsys.readouterr().err
    assert found.startswith(f"certsmooth: {message}")
    assert found.count("\n") == 1


SUN = "sun2025_cifar10_resnet110_{}_sigma{{sigma}}.tsv.gz"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """What a user writes in params.yaml for files of Sun et al. and of Cohen et al."""
    monkeypatch.chdir(tmp_path)
    content = shipped_content() | {"dataset": "cifar10", "tables": {}}
    about = {"sigma": [0.25, 0.5, 1.0], "dataset": "cifar10", "train": "FS"}
    for name in ("gaussian", "smoothadv", "macer", "consistency"):
        file = str(REFERENCE / "certificates" / SUN.format(name))
        content["methods"][f"sun-{name}"] = about | {"label": f"{name} (Sun et al. 2025)", "certificates": file}
    file = str(REFERENCE / "certificates" / "cohen2019_cifar10_resnet110_train{sigma:.2f}_certify{sigma:.2f}.tsv")
    content["methods"]["their-cohen"] = about | {"label": "Cohen et al. 2019", "certificates": file}
    names = [name for name in content["methods"] if name.startswith(("sun-", "their-"))]
    table = {"title": "Published certificates", "methods": names, "baseline": "sun-gaussian"}
    settings = {"settings": {"cifar10": {"sigmas": [0.25, 0.5, 1.0]}}}
    content["tables"] = {"published": {"kind": "certified", **table, **settings}}
    content["tables"]["rates"] = {"kind": "accuracy", **table, **settings}
    write_params(tmp_path, content)
    return content


def read_sun(name, sigma):
    with gzip.open(REFERENCE / "certificates" / SUN.format(name).format(sigma=sigma), "rt") as file:
        frame = pd.read_csv(file, sep="\t")
    return frame.set_index("idx")


@needs_reference
@pytest.mark.slow
def test_real_files_through_the_command_line(published, capsys):
    assert main(["table", "published"]) == 0
    values = pd.read_csv("results/tables/published.csv")
    for name in ("gaussian", "smoothadv", "macer", "consistency"):
        mine = values[values["method"] == f"{name} (Sun et al. 2025)"]
        frames = {sigma: read_sun(name, sigma) for sigma in (0.25, 0.5, 1.0)}
        acr = {sigma: float((frame["radius"] * frame["correct"]).mean()) for sigma, frame in frames.items()}
        shown = mine[(mine["metric"] == "acr") & (mine["selected_on"] == "none")]
        assert dict(zip(shown["sigma"].astype(float), shown["value"], strict=True)) == pytest.approx(acr)
        best = mine[(mine["metric"] == "acr") & (mine["selected_on"] == "test")]
        assert best["value"].item() == pytest.approx(max(acr.values()))
        assert set(mine["image_choice"]) == {"0 to 9999"}
        assert set(mine["kind"]) == {"derived"}
    tests = pd.DataFrame(json.loads(Path("results/tables/published.json").read_text())["tests"])
    assert set(tests.loc[tests["method"] == "Cohen et al. 2019", "images"]) == {500}
    assert set(tests.loc[tests["method"] == "macer (Sun et al. 2025)", "images"]) == {10_000}
    text = Path("results/tables/published.md").read_text()
    assert "| 500: 0 to 9980, every 20th |" in text
    assert main(["table", "rates"]) == 0
    rates = pd.read_csv("results/tables/rates.csv")
    accuracy = rates[(rates["metric"] == "clean_accuracy") & (rates["sigma"] == 0.25)].set_index("row")["value"]
    assert accuracy["macer (Sun et al. 2025)"] == pytest.approx(100 * read_sun("macer", 0.25)["correct"].mean())


@needs_reference
def test_the_choice_of_images_alone_moves_acr():
    certified = read_sun("macer", 0.25).eval("radius * correct")
    every_20th, last_500, every = certified[::20].mean(), certified.loc[500:999].mean(), certified.mean()
    assert [round(float(acr), 3) for acr in (every_20th, every, last_500)] == [0.527, 0.529, 0.548]


def test_the_example_of_the_docs_names_real_files(tmp_path):
    page = (ROOT / "docs" / "others_certificates.md").read_text()
    text = page.partition("```yaml\n")[2].partition("```")[0]
    shutil.copytree(ROOT / "config", tmp_path / "config")
    settings = {key: value for key, value in load_yaml((ROOT / "params.yaml").read_text()).items() if value != {}}
    (tmp_path / "params.yaml").write_text(plain_yaml(settings | load_yaml(text)))
    params = read_params(tmp_path / "params.yaml")
    check_members(params)
    shown = published_runs(params, "theirs")
    assert [(run.method, run.sigma) for run in shown] == [
        (method, sigma) for method in ("sun-macer", "sun-gaussian") for sigma in (0.25, 0.5)
    ]
    if REFERENCE.is_dir():
        assert all((REFERENCE / "certificates" / Path(run.file).name).is_file() for run in shown)
