"""The ledger: every published cell once, derived values against exact oracles, and each verdict."""

import csv
import hashlib
import re
from importlib import resources
from pathlib import Path

import pandas as pd
import pytest

from certsmooth.analysis.idrs_theory import threshold_table
from certsmooth.analysis.ledger import _first, _kept, _matches, ledger_table
from certsmooth.analysis.ledger.derive import (
    DERIVED_COLUMNS,
    Known,
    LogFile,
    derived_values,
    known_file,
    parse_derived,
    shipped_derived,
    updated,
)
from certsmooth.analysis.ledger.ours import measured, thresholds
from certsmooth.analysis.published import published_cells
from certsmooth.analysis.result import records, tidy
from certsmooth.errors import CountsError
from certsmooth.experiment.config import AccuracyTable, parse_params
from certsmooth.experiment.runs import table_runs
from certsmooth.report.render import render
from factories import row, rows, shipped_content

REFERENCE = Path(__file__).resolve().parents[2] / ".." / "shared" / "reference"
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the authors' files are not on this machine")

CELL = ("paper", "table", "dataset", "method", "sigma", "metric", "radius")
CELLS = {
    ("ddrs", 1): 72,
    ("ddrs", 2): 72,
    ("ddrs", 3): 36,
    ("ddrs", 4): 32,
    ("adre", 1): 325,
    ("smoothadv", 1): 14,
    ("smoothadv", 2): 45,
    ("smoothadv", 3): 12,
    ("idrs", 1): 12,
    ("idrs", 2): 24,
    ("idrs", 3): 12,
    ("idrs", 4): 12,
    ("idrs", 5): 14,
    ("idrs", 6): 10,
    ("idrs", 7): 9,
    ("idrs", 8): 15,
    ("idrs", 9): 15,
    ("idrs", 10): 12,
    **{("idrs", table): 9 for table in range(11, 21)},
}
NONE = tidy((), DERIVED_COLUMNS)


def text(row):
    """A cell of either file as one text per column, numbers as numbers."""
    return tuple(str(row[name] or 0.0) if name == "radius" else str(row[name]) for name in CELL)


@pytest.fixture(scope="module")
def shipped():
    return ledger_table(published_cells(), shipped_derived(), ())


# --- what is listed


def test_each_published_cell_has_exactly_one_line(shipped):
    with resources.files("certsmooth.analysis").joinpath("published.csv").open(encoding="utf-8") as file:
        published = list(csv.DictReader(file))
    for each in published:
        each["radius"] = float(each["radius"] or 0)
        each["metric"] = each["metric"].removesuffix("_x100")
    lines = sorted(map(text, records(shipped.values)))
    assert lines == sorted(map(text, published))
    assert len(set(lines)) == len(lines) == sum(CELLS.values()) == 833


def test_the_numbers_of_cells_are_stated_by_table(shipped):
    counts = shipped.more["counts"]
    assert {table: int(n) for table, n in counts.groupby(["paper", "table"]).cells.sum().items()} == CELLS
    verdicts = counts[["replicated", "derived", "differs", "published only"]]
    assert (verdicts.sum(axis=1) == counts.cells).all()
    assert verdicts.sum().tolist() == [0, 103, 6, 724]


def test_the_markdown_has_a_line_for_each_cell_and_table(shipped):
    text = render(shipped)
    tables = re.split(r"^## ", text, flags=re.MULTILINE)
    cells = {}
    for part in tables:
        if found := re.match(r"(DDRS|SmoothAdv|ADRE|IDRS) Table (\d+), ", part):
            key = found[1].lower(), int(found[2])
            cells[key] = cells.get(key, 0) + part.count("\n|") - 2
    assert cells == CELLS
    assert "833 cells: 0 replicated, 103 derived, 6 differ, 724 published only" in text
    assert re.search(
        r"\| Cohen +\| best +\| certified accuracy at r = 2.25 \| 4 +\| 7.60 \[\d+\] +\| \*\*differs\*\*", text
    )


def test_the_text_of_a_cell_is_its_value_up_to_percent():
    with resources.files("certsmooth.analysis").joinpath("published.csv").open(encoding="utf-8") as file:
        for each in csv.DictReader(file):
            assert float(each["value"]) in (
                pytest.approx(float(each["printed"]), abs=1e-12),
                pytest.approx(100 * float(each["printed"]), abs=1e-9),
            ), each


@pytest.mark.parametrize(
    ("cell", "printed", "half"),
    [
        ({"paper": "adre", "sigma": "0.12", "method": "Basic", "dataset": "cifar10", "radius": 0.5}, "0.00", 0.5),
        ({"paper": "ddrs", "table": 3, "method": "MACER-DS", "radius": 1.75}, "7.55", 0.005),
        ({"paper": "ddrs", "table": 1, "method": "Cohen", "dataset": "cifar10", "metric": "acr"}, "0.591", 0.0005),
        ({"paper": "idrs", "table": 4, "sigma": "1.0", "metric": "abstention_rate"}, "0.29", 0.5),
        ({"paper": "idrs", "table": 9, "method": "r=0.01", "sigma": "0.5"}, "0.9318", 0.00005),
        ({"paper": "idrs", "table": 16, "method": "r=0 increased", "sigma": "0.12"}, "0.00750", 0.0005),
        ({"paper": "idrs", "table": 6, "method": "r=0.015"}, "0.826", 0.05),
        ({"paper": "idrs", "table": 1, "dataset": "mnist", "sigma": "pA=.9"}, "0.946", 0.0005),
    ],
)
def test_half_a_unit_of_the_last_printed_digit(cell, printed, half):
    (found,) = [each for each in published_cells() if cell.items() <= each.items()]
    assert (found["printed"], found["half"]) == (printed, pytest.approx(half, rel=1e-12))


def test_every_line_kept_by_hand_is_about_some_cell():
    cells = published_cells()
    for name in ("rows", "same", "reasons"):
        for line in _kept(name):
            assert any(_matches(line, cell) for cell in cells), (name, line)
    tables = {(cell["paper"], cell["table"]) for cell in cells}
    assert {(line["paper"], int(line["table"])) for line in _kept("notes")} <= tables


def rows_beside(paper, number, dataset):
    """The rows of our tables that stand beside a published table, with the paper's data set chosen."""
    params = parse_params({**shipped_content(), "dataset": dataset})
    return {
        "; ".join([params.methods[run.method].label, *(f"{key} {value}" for key, value in run.grid)])
        for name, table in params.of_kind(AccuracyTable).items()
        if (paper, number) in [(each.paper, each.table) for each in table.published]
        for run in table_runs(params, name)
    }


def test_every_row_of_idrs_has_a_row_of_ours_beside_it():
    cells = {(c["table"], c["dataset"], c["method"]): c for c in published_cells() if c["paper"] == "idrs"}
    missing = [
        key
        for key, cell in cells.items()
        if key[1] in ("cifar10", "mnist")
        and key[0] != 1  # thresholds, which are computed
        and (_first(_kept("rows"), cell).get("our_method") or key[2]) not in rows_beside("idrs", key[0], key[1])
    ]
    assert not missing


# --- contradictions within a paper


def test_idrs_contradicts_itself_on_mnist(shipped):
    found = shipped.values[shipped.values.contradicted_by != ""]
    assert sorted(set(zip(found.paper, found.table, found.dataset, strict=True))) == [
        ("idrs", table, "mnist") for table in (2, 3, 15, 16, 19, 20)
    ]
    assert set(found.method) == {"r=0.01 sigma_tr increased", "train r=0 increased"}
    cell = {"table": 2, "dataset": "mnist", "metric": "clean_accuracy", "sigma": "0.25"}
    (one,) = rows(found, **cell)
    assert (one["printed"], one["contradicted_by"]) == ("0.9910", "Table 15: 0.9905, Table 19: 0.9905")
    assert row(found, table=16, sigma="0.12")["contradicted_by"] == "Table 3: 0.00775"


def test_numbers_that_agree_as_far_as_printed_are_no_contradiction():
    wide, narrow = (
        {"table": 3, "printed": "0.0093", "value": 0.93, "half": 0.005},
        {"table": 16, "printed": "0.00929"},
    )
    narrow |= {"value": 0.929, "half": 0.0005}
    shared = {"paper": "idrs", "dataset": "mnist", "norm": "l2", "method": "r=0.01 sigma_tr increased", "sigma": "0.5"}
    shared |= {"metric": "classwise_accuracy_std", "radius": None, "unit": "percent"}
    result = ledger_table([shared | wide, shared | narrow], NONE, ())
    assert list(result.values.contradicted_by) == ["", ""]
    result = ledger_table([shared | wide | {"half": 0.0005, "printed": "0.00930"}, shared | narrow], NONE, ())
    assert list(result.values.contradicted_by) == ["Table 16: 0.00929", "Table 3: 0.00930"]


# --- verdicts


def cell(**named):
    shared = {"paper": "ddrs", "table": 1, "dataset": "cifar10", "norm": "l2", "method": "Cohen", "sigma": "best"}
    shared |= {"metric": "certified_accuracy", "radius": 0.5, "printed": "40.1", "value": 40.1, "half": 0.05}
    return shared | {"unit": "percent"} | named


def ours(**named):
    shared = {"paper": "ddrs", "table": 1, "source": "table1", "dataset": "cifar10", "data": "cifar10"}
    shared |= {"method": "Cohen", "sigma": "best", "metric": "certified_accuracy", "radius": 0.5, "value": 42.0}
    return shared | {"lower": 40.0, "upper": 44.0, "images": 500, "seeds": "0"} | named


def derived(value, **named):
    made = {"value": value, "images": 500, "files": 4, "file": "a", "sha256": "0" * 64}
    return tidy([cell() | made | named], DERIVED_COLUMNS)


@pytest.mark.parametrize(
    ("theirs", "mine", "verdict", "reason"),
    [
        (None, None, "published only", ""),
        (40.14, None, "derived", ""),
        (40.15, None, "derived", ""),  # it may have been rounded either way
        (40.16, None, "differs", "the authors' files: unexplained"),
        (None, {}, "replicated", ""),
        (None, {"lower": 40.15}, "replicated", ""),  # the number was up to 40.15 before it was rounded
        (None, {"lower": 40.16}, "differs", "ours: unexplained"),
        (None, {"upper": 40.04}, "differs", "ours: unexplained"),
        (None, {"data": "digits", "dataset": "digits"}, "published only", ""),
        (None, {"data": "data in CIFAR-10's format", "lower": 41.0}, "published only", ""),
        (None, {"lower": None, "upper": None}, "published only", ""),  # without an interval nothing can be said
        (40.1, {"data": "digits"}, "derived", ""),
        (40.1, {}, "replicated", ""),
        (50.0, {}, "differs", "the authors' files: unexplained"),
        (50.0, {"lower": 41.0}, "differs", "the authors' files and ours: unexplained"),
    ],
)
def test_verdicts(theirs, mine, verdict, reason):
    values = ledger_table(
        [cell()], NONE if theirs is None else derived(theirs), [ours(**mine)] if mine is not None else []
    )
    (found,) = records(values.values)
    assert (found["verdict"], found["reason"]) == (verdict, reason)
    assert (found["derived"], found["ours"]) == (theirs, None if mine is None else 42.0)


def test_a_known_reason_is_given():
    known = cell(paper="smoothadv", table=2, printed="61", value=61.0, half=0.5)
    (found,) = records(ledger_table([known], derived(60.0, paper="smoothadv", table=2), ()).values)
    assert found["verdict"] == "differs"
    assert found["reason"].startswith("the authors' files: the row does not come out")


def test_a_number_on_the_papers_own_data_goes_before_others_and_of_settings_the_best():
    others = [
        ours(dataset="digits", data="digits", value=90.0),
        ours(value=41.0),
        ours(value=43.0, source="again"),
        ours(radius=0.75, value=99.0),
        ours(method="Cohen-DS", value=99.0),
        ours(sigma="0.25", value=99.0),
        ours(table=2, value=99.0),
    ]
    (found,) = records(ledger_table([cell()], NONE, others).values)
    assert (found["ours"], found["our_table"], found["our_data"]) == (43.0, "again", "cifar10")
    (found,) = records(ledger_table([cell(sigma="0.25")], NONE, [ours(sigma="0.250")]).values)
    assert found["ours"] == 42.0
    (found,) = records(ledger_table([cell(metric="clean_accuracy", radius=None)], NONE, [ours(radius=0.0)]).values)
    assert found["ours"] == 42.0


def test_rows_of_another_name_and_data_sets_of_another_name():
    adre = cell(paper="adre", method="Basic", sigma="0.25")
    (found,) = records(ledger_table([adre], NONE, [ours(paper="adre", sigma="0.25")]).values)
    assert (found["our_method"], found["verdict"]) == ("Cohen", "replicated")
    toy = {"paper": "idrs", "table": 5, "metric": "clean_accuracy", "radius": None}
    mine = [ours(**toy, dataset=name, data="cones", method="IDRS, smaller sigma_b", sigma="2") for name in TOYS]
    mine = [each | {"value": float(k)} for k, each in enumerate(mine)]
    printed = cell(**toy, dataset="toy-180d", method="r=0.01", sigma="1.9")
    (found,) = records(ledger_table([printed], NONE, mine).values)
    assert (found["ours"], found["our_data"], found["verdict"]) == (1.0, "cones", "published only")


TOYS = ("cones-2", "cones-180", "cones-400")


def test_a_derived_value_of_no_published_cell_is_refused():
    with pytest.raises(CountsError, match=r"derived value of ddrs, 1, cifar10, Cohen, best.*no such published cell"):
        ledger_table([cell(radius=0.25)], derived(40.0), ())


# --- ours


def test_our_numbers_of_a_certified_table_are_those_chosen_as_the_paper_does():
    shared = {"dataset": "digits", "method": "Cohen", "metric": "certified_accuracy", "radius": 0.5, "value": 1.0}
    shared |= {"lower": 0.5, "upper": 2.0, "images": 60, "seeds": "0 1", "kind": "measured"}
    chosen = [("test", "best"), ("validation", "best"), ("none", "0.25"), ("published", "best")]
    frame = pd.DataFrame([shared | {"selected_on": part, "sigma": sigma} for part, sigma in chosen])
    frame.loc[3, "kind"] = "published"
    found = measured(frame, source="table1", published=[("ddrs", 1), ("ddrs", 2)], data={"digits": "digits"})
    assert [(each["table"], each["selected_on"]) for each in found] == [
        (1, "test"),
        (1, "none"),
        (2, "test"),
        (2, "none"),
    ]
    assert {each["source"] for each in found} == {"table1"}


def test_our_numbers_of_an_accuracy_table_have_intervals_and_spreads():
    shared = {"dataset": "mnist", "row": "IDRS; rate 0.01", "sigma": "0.12", "seeds": "0 1", "images": 100}
    shared |= {"kind": "measured", "value": 50.0, "image_error": 2.0, "seed_sd": 0.5}
    frame = pd.DataFrame([shared | {"metric": "clean_accuracy"}, shared | {"metric": "acr", "seed_sd": None}])
    found = measured(frame, source="rates", published=[("idrs", 12)], data={"mnist": "mnist"})
    assert [(each["metric"], each["value"]) for each in found] == [
        ("clean_accuracy", 50.0),
        ("accuracy_std", 0.5),
        ("acr", 50.0),
    ]
    assert found[0]["lower"] == pytest.approx(50 - 1.959964 * 2)
    assert (found[1]["lower"], found[1]["method"]) == (None, "IDRS; rate 0.01")


def test_thresholds_replicate_idrs_table_1_but_for_one():
    found = ledger_table(published_cells(), NONE, thresholds(threshold_table().values, source="idrs/table1")).values
    table = found[(found.paper == "idrs") & (found.table == 1)]
    assert table.verdict.value_counts().to_dict() == {"replicated": 11, "differs": 1}
    other = row(table, verdict="differs")
    assert (other["dataset"], other["sigma"], other["printed"], round(other["ours"], 5)) == (
        *("cifar10", "pA=.99", "0.961"),
        0.96154,
    )
    assert "0.96154" in other["reason"]


# --- files


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("data/certify/cifar10/resnet110/noise_0.25/test/sigma_0.25", ("cohen cifar10", 0.25)),
        ("cifar10__resnet110__noise_0.12__test__sigma_0.12.tsv.gz", ("cohen cifar10", 0.12)),
        ("certificates/cohen2019_cifar10_resnet110_train1.00_certify1.00.tsv", ("cohen cifar10", 1.0)),
        ("imagenet/resnet50/noise_0.50/test/sigma_0.50", ("cohen imagenet", 0.5)),
        ("cohen2019_imagenet_resnet50_train0.50_certify0.50.tsv.gz", ("cohen imagenet", 0.5)),
        ("a/best_models/cifar10/cohen/resnet110/noise_0.50/test/sigma_0.50", ("cohen cifar10 by smoothadv", 0.5)),
        ("imagenet/replication/resnet50/noise_1.00/test/sigma_1.00", ("cohen imagenet by smoothadv", 1.0)),
        (
            "best_models/cifar10/ours/cifar10/PGD_4steps/eps_512/cifar10/resnet110/noise_0.50/test/sigma_0.50",
            ("smoothadv cifar10", 0.5),
        ),
        (
            "logs/cifar10__ours_pretraining_selftraining__cifar10__x__cifar10__resnet110__noise_0.25__test__sigma_0.25.tsv",
            ("smoothadv cifar10 both", 0.25),
        ),
        ("cifar10/ours_pretraining/a/noise_0.25/test/sigma_0.25", ("smoothadv cifar10 pre-trained", 0.25)),
        ("cifar10/ours_selftraining/a/noise_0.25/test/sigma_0.25", ("smoothadv cifar10 self-trained", 0.25)),
        ("imagenet/PGD_1step/imagenet/eps_512/resnet50/noise_0.25/test/sigma_0.25", ("smoothadv imagenet", 0.25)),
        ("imagenet/DDN_2steps/eps_127/resnet50/noise_0.25/test/sigma_0.25", ("smoothadv imagenet", 0.25)),
        # SmoothAdv's files of 500 images, other sigmas than in training, and what is no certificates file.
        ("cifar10/DDN_10steps/eps_127/cifar10/resnet110/noise_0.12/test/sigma_0.12", None),
        ("DDN_10steps/eps_127/cifar10/resnet110/noise_0.12/test/sigma_0.12", None),
        ("imagenet/PGD_1step/imagenet/eps_2048/resnet50/noise_0.25/test/sigma_0.25", None),
        ("cohen2019_cifar10_resnet110_train0.12_certify0.50.tsv", None),
        ("cifar10/resnet110/noise_0.12/test/sigma_0.50", None),
        ("cifar10/resnet110/noise_0.12/train/sigma_0.12", None),
        ("cifar10/cohen/resnet110/noise_0.12/test/stdout.txt", None),
        ("sun2025_cifar10_resnet110_macer_sigma0.5.tsv.gz", None),
        ("README.md", None),
    ],
)
def test_files_are_known_by_their_paths(path, found):
    known = known_file(path)
    assert (known and (known.models, known.sigma)) == found


def test_a_flat_name_and_a_repository_have_the_same_name():
    repository = known_file("smoothing/data/certify/cifar10/resnet110/noise_0.25/test/sigma_0.25")
    assert repository == known_file("cohen2019_cifar10_resnet110_train0.25_certify0.25.tsv.gz")
    assert repository == Known("cohen cifar10", "cifar10/resnet110/noise_0.25/test/sigma_0.25", 0.25)


def log(models, sigma, *images, name=None):
    """A file whose images are (label, predict, radius)."""
    frame = pd.DataFrame(images, columns=["label", "predict", "radius"])
    frame["correct"] = (frame.label == frame.predict).astype(int)
    name = name or f"{models} {sigma}"
    return LogFile(Known(models, name, sigma), hashlib.sha256(name.encode()).hexdigest(), frame)


def cohens(*sigmas):
    return [
        log("cohen cifar10", sigma, (0, 0, sigma), (1, 1, 2 * sigma), (1, 0, 5.0), (2, -1, 0.0)) for sigma in sigmas
    ]


def test_rates_of_one_file():
    cells = [each for each in published_cells() if each["paper"] == "idrs" and each["table"] == 4]
    frame, lacking = derived_values(cells, cohens(0.25))
    assert {each["metric"]: (each["sigma"], each["value"]) for each in records(frame)} == {
        "clean_accuracy": ("0.25", 50.0),
        "abstention_rate": ("0.25", 25.0),
        "misclassification_rate": ("0.25", 25.0),
    }
    assert lacking == [
        f"idrs table 4, cifar10, Cohen: no file of cohen cifar10 at sigma {s}" for s in ("0.12", "0.5", "1")
    ]


def test_the_best_is_over_all_sigmas_and_needs_files_of_each():
    row = [
        each
        for each in published_cells()
        if (each["table"], each["method"]) == (2, "Cohen") and each["paper"] != "ddrs"
    ]
    assert len(row) == 9
    frame, lacking = derived_values(row, cohens(0.12, 0.25, 1.0))
    assert frame.empty
    assert lacking == ["smoothadv table 2, cifar10, Cohen: no file of cohen cifar10 at sigma 0.5"]
    files = cohens(0.12, 0.25, 0.5, 1.0)
    frame, lacking = derived_values(row, files)
    assert not lacking
    # Radii are sigma and 2 sigma: at 0.25 all of 0.25, 0.5 and 1; at 1 both of 1, one of 0.5; at 2 one; at 2.25 none.
    assert dict(zip(frame.radius, frame.value, strict=True)) == {
        **dict.fromkeys((0.25, 0.5, 0.75, 1.0), 50.0),
        **dict.fromkeys((1.25, 1.5, 1.75, 2.0), 25.0),
        2.25: 0.0,
    }
    first = records(frame)[0]
    assert (first["file"], first["sha256"], first["images"], first["files"]) == (
        *("cohen cifar10 0.25", files[1].sha256),
        *(4, 4),
    )


def test_of_several_sources_the_first_with_all_files_counts():
    row = [each for each in published_cells() if (each["table"], each["method"], each["radius"]) == (2, "Cohen", 0.25)]
    row = [each for each in row if each["paper"] == "smoothadv"]
    theirs = [log("cohen cifar10 by smoothadv", sigma, (0, 0, 0.3)) for sigma in (0.12, 0.25, 0.5, 1.0)]
    (found,) = records(derived_values(row, [*cohens(0.12), *theirs])[0])
    assert found["value"] == 100.0
    (found,) = records(derived_values(row, [*theirs, *cohens(0.12, 0.25, 0.5, 1.0)])[0])
    assert found["value"] == 50.0


def test_newer_values_take_the_place_of_those_of_the_same_cell():
    other = derived(10.0, radius=0.75)
    frame = updated(pd.concat([derived(40.0), other]), derived(41.0))
    assert dict(zip(frame.radius, frame.value, strict=True)) == {0.5: 41.0, 0.75: 10.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("sha256", "sha"), r"d\.csv: columns .*must be 'paper table dataset"),
        (lambda text: text.replace(",40.1,", ",x,"), r"d\.csv: line 2, column value: 'x'; must be a number"),
        (lambda text: text.replace(",500,", ",5.5,"), r"d\.csv: line 2, column images: '5.5'; must be a number"),
        (lambda text: text.rstrip() + ",more\n", r"d\.csv: line 2: must have 13 fields"),
        (lambda text: text.rsplit(",", 1)[0] + "\n", r"d\.csv: line 2: must have 13 fields"),
        (lambda text: "", r"d\.csv: columns ''"),
    ],
)
def test_damaged_derived_values_name_line_and_column(change, message):
    content = derived(40.1).to_csv(index=False)
    pd.testing.assert_frame_equal(parse_derived(content, source="d.csv"), derived(40.1))
    with pytest.raises(CountsError, match=message):
        parse_derived(change(content), source="d.csv")


# --- what was found


def test_what_the_shipped_files_give(shipped):
    values = shipped.values
    smoothadv = values[(values.paper == "smoothadv") & (values.table == 2)]
    assert smoothadv[smoothadv.method != "Cohen"].verdict.tolist() == ["derived"] * 36
    assert (smoothadv[smoothadv.method != "Cohen"].derived_images == 10_000).all()
    cohen = smoothadv[smoothadv.method == "Cohen"]
    assert cohen.derived.tolist() == [60.0, 42.8, 32.0, 23.4, 17.4, 14.0, 11.8, 10.0, 7.6]
    assert cohen.printed.tolist() == ["61", "43", "32", "22", "17", "13", "10", "7", "4"]
    assert cohen[cohen.verdict == "differs"].radius.tolist() == [0.25, 1.0, 1.5, 1.75, 2.0, 2.25]
    others = values[values.derived.notna() & (values.paper != "smoothadv")]
    assert others.verdict.tolist() == ["derived"] * (52 + 12)


@needs_reference
def test_the_reference_gives_the_same_36_cells(shipped):
    with (REFERENCE / "logs" / "derived.csv").open() as file:
        theirs = list(csv.DictReader(file))
    names = {
        "smoothadv": "SmoothAdv",
        "pretrained": "SmoothAdv + pre-training",
        "self-trained": "SmoothAdv + semi-supervision",
        "both": "SmoothAdv + both",
    }
    assert len(theirs) == 36
    others = []
    for each in theirs:
        cell = {"paper": "smoothadv", "table": 2, "method": names[each["method"]], "radius": float(each["radius"])}
        found = row(shipped.values, **cell)
        assert (found["printed"], found["derived"]) == (each["printed"], float(each["derived"]))
        if found["derived_file"] != known_file(each["log"]).name:
            others.append((each["method"], each["radius"]))
    assert others == [("self-trained", "1.5")]  # two files give 29.43
