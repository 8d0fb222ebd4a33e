"""Which artefacts params.yaml asks for."""

import copy
import json
from pathlib import Path

import pytest

from certsmooth.errors import ConfigError
from certsmooth.experiment import runs
from certsmooth.experiment.config import parse_params
from shipped import shipped_content

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shipped():
    return shipped_content()


def edited(content, change):
    content = copy.deepcopy(content)
    change(content)
    return parse_params(content)


def run_of(method, **options):
    return runs.CertificationRun("digits", method, 0.25, 0, tuple(options.items()))


def test_a_method_that_only_certifies_otherwise_needs_no_samples_of_its_own(shipped):
    params = parse_params(shipped)
    for method in ("t-certify", "t-certify-adaptive"):
        assert runs.sampling_run(params, run_of(method)) == run_of("cohen")
    assert runs.sampling_run(params, run_of("cohen")) == run_of("cohen")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training", "gaussian-ds"),
        ("policy", {"name": "fixed", "options": {"factor": 2.0}}),
        ("policy", {"name": "nearest_neighbour", "options": {"rate": 0.01}}),
        ("certificate", {"name": "l1"}),
        ("certification", {"n": 7}),
        ("certification", {"n0": 7}),
        ("certification", {"stride": 7}),
    ],
)
def test_what_changes_the_samples_is_sampled_again(shipped, key, value):
    params = edited(shipped, lambda content: content["methods"]["t-certify"].update({key: value}))
    assert runs.sampling_run(params, run_of("t-certify")) == run_of("t-certify")


@pytest.mark.parametrize(("key", "value"), [("certification", {"alpha": 0.01}), ("memory", True), ("label", "another")])
def test_what_does_not_change_the_samples_shares_them(shipped, key, value):
    params = edited(shipped, lambda content: content["methods"]["t-certify"].update({key: value}))
    assert runs.sampling_run(params, run_of("t-certify")) == run_of("cohen")


def test_slices_are_plain_json_where_an_option_is_infinite(shipped):
    border = {"name": "border_distance", "options": {"rate": [0.5, float("inf")], "lower": 0.5, "upper": 1.5}}

    def change(content):
        content["methods"]["border"]["policy"] = content["trainings"]["gaussian-nn"]["policy"] = border
        content["datasets"]["digits"] |= {"trainings": {}, "methods": {}}

    params = edited(shipped, change)
    run = run_of("border", rate=float("inf"))
    assert str(run.folder).endswith("rate=inf")
    model = runs.ModelRun("digits", "gaussian-nn", 0.25, 0, (("rate", float("inf")),))
    for described in (runs.sample_slice(params, run), runs.train_slice(params, model)["training"]):
        assert described["policy"]["options"] == {"rate": "inf", "lower": 0.5, "upper": 1.5}
        json.dumps(described, allow_nan=False)


def test_a_change_on_one_data_set_counts_there_only(shipped):
    changes = {"certification": {"n": 7}}
    params = edited(shipped, lambda content: content["datasets"]["mnist"]["methods"].update({"t-certify": changes}))
    mnist = runs.CertificationRun("mnist", "t-certify", 0.25, 0, ())
    assert runs.sampling_run(params, run_of("t-certify")) == run_of("cohen")
    assert runs.sampling_run(params, mnist) == mnist


def test_every_run_of_the_shipped_tables_knows_its_counts(shipped):
    params = parse_params(shipped)
    for table in params.tables:
        for run in runs.table_runs(params, table):
            other = runs.sampling_run(params, run)
            assert runs.sample_slice(params, other) == runs.sample_slice(params, run)
            assert runs.model_run(params, other) == runs.model_run(params, run)
            assert runs.sampling_run(params, other) == other


def test_a_table_over_training_seeds_has_its_own(shipped):
    params = parse_params(shipped)
    found = list(runs.table_runs(params, "evaluation"))
    assert {run.seed for run in found} == set(shipped["tables"]["evaluation"]["training_seeds"])
    assert {run.seed for run in runs.table_runs(params, "table1")} == set(shipped["training_seeds"])
    assert (
        len(found)
        == len(set(found))
        == 2 * len(shipped["datasets"]["digits"]["sigmas"]) * len(shipped["tables"]["evaluation"]["training_seeds"])
    )


def test_a_table_over_data_sets_is_about_them_whatever_the_chosen_one_is(shipped):
    here, there = (
        edited(shipped, lambda content, name=name: content.update(dataset=name)) for name in ("digits", "mnist")
    )
    assert list(runs.table_runs(here, "toy")) == list(runs.table_runs(there, "toy"))
    assert [choice.dataset for choice in runs.table_choices(here, "toy")] == shipped["tables"]["toy"]["datasets"]
    assert {run.dataset for run in runs.table_runs(there, "rates")} == {"mnist"}


def test_toy_figures_need_one_variant(shipped):
    constant, dependent = runs.toy_runs(parse_params(shipped))
    assert [run.sigma for run in constant] == shipped["datasets"]["cones-figures"]["sigmas"]
    assert [run.sigma for run in dependent] == [shipped["toy"]["sigma"]]
    options = {"toy-idrs-equal": {"policy": {"rate": [0.1, 0.2]}}}
    params = edited(shipped, lambda content: content["datasets"]["cones-figures"].update(methods=options))
    with pytest.raises(ConfigError, match="toy-idrs-equal' has 2 variants on cones-figures"):
        runs.toy_runs(params)
    without = edited(shipped, lambda content: content.pop("toy"))
    assert runs.toy_runs(without) == ((), ())
