"""Which artefacts params.yaml asks for, what each is, and which job makes it."""

import copy
import json
from pathlib import Path

import pytest

from certsmooth.errors import ConfigError
from certsmooth.experiment import runs
from certsmooth.experiment.config import parse_params
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.specs import SPLITS, certificates_path, counts_paths
from factories import changed, shipped_content, small_content


@pytest.fixture(scope="module")
def shipped():
    return shipped_content()


def edited(content, change):
    content = copy.deepcopy(content)
    change(content)
    return Experiment(parse_params(content))


def run_of(method, *, dataset="digits", seed=0, **options):
    return runs.CertificationRun(dataset, method, 0.25, seed, tuple(options.items()), 0)


def counts_of(experiment, run):
    """The files that a run is certified from; on both splits the same."""
    (files,) = {experiment.certify(run, split).counts for split in SPLITS}
    return files


def test_a_method_that_only_certifies_otherwise_needs_no_samples_of_its_own(shipped):
    experiment = Experiment(parse_params(shipped))
    for method in ("t-certify", "two-sided-adaptive"):
        assert experiment.sampled_by(run_of(method)) == run_of("cohen")
        assert counts_of(experiment, run_of(method)) == (Path("counts/digits/cohen/seed=0/0-of-1.parquet"),)
    assert experiment.sampled_by(run_of("cohen")) == run_of("cohen")


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
        ("certification", {"first": 500, "last": 999}),
    ],
)
def test_what_changes_the_samples_is_sampled_again(shipped, key, value):
    experiment = edited(shipped, lambda content: content["methods"]["t-certify"].update({key: value}))
    assert experiment.sampled_by(run_of("t-certify")) == run_of("t-certify")
    first, second = (experiment.sample(run_of(method), "test") for method in ("cohen", "t-certify"))
    assert first.identity != second.identity
    assert counts_of(experiment, run_of("t-certify")) == (Path("counts/digits/t-certify/seed=0/0-of-1.parquet"),)


@pytest.mark.parametrize(
    ("key", "value"), [("certification", {"alpha": 0.01}), ("memory", "test_order"), ("label", "another")]
)
def test_what_does_not_change_the_samples_shares_them(shipped, key, value):
    experiment = edited(shipped, lambda content: content["methods"]["t-certify"].update({key: value}))
    assert experiment.sampled_by(run_of("t-certify")) == run_of("cohen")
    for split in SPLITS:
        first, second = (experiment.sample(run_of(method), split) for method in ("cohen", "t-certify"))
        assert first.identity == second.identity


def test_specs_are_plain_json_where_an_option_is_infinite(shipped):
    border = {"name": "border_distance", "options": {"rate": [0.5, float("inf")], "lower": 0.5, "upper": 1.5}}

    def change(content):
        content["methods"]["border"]["policy"] = content["trainings"]["gaussian-nn"]["policy"] = border
        content["datasets"]["digits"] |= {"trainings": {}, "methods": {}}

    experiment = edited(shipped, change)
    run = run_of("border", rate=float("inf"))
    assert experiment.certify(run, "test").place == "sigma=0.25/seed=0/rate=inf"
    model = experiment.train(runs.ModelRun("digits", "gaussian-nn", 0.25, 0, (("rate", float("inf")),)))
    assert model.path == Path("checkpoints/digits/gaussian-nn/sigma=0.25/seed=0/rate=inf/model.safetensors")
    for identity in (experiment.sample(run, "test").identity, model.identity):
        assert identity["policy"]["options"] == {"rate": "inf", "lower": 0.5, "upper": 1.5}
        assert json.loads(json.dumps(identity, allow_nan=False)) == identity


def test_a_change_on_one_data_set_counts_there_only(shipped):
    changes = {"certification": {"n": 7}}
    experiment = edited(shipped, lambda content: content["datasets"]["mnist"]["methods"].update({"t-certify": changes}))
    mnist = run_of("t-certify", dataset="mnist")
    assert experiment.sampled_by(run_of("t-certify")) == run_of("cohen")
    assert experiment.sampled_by(mnist) == mnist
    assert (experiment.sample(mnist, "test").n, experiment.sample(run_of("t-certify"), "test").n) == (7, 5000)


def test_the_stride_is_of_the_test_split(shipped):
    """Settings are chosen on all validation images."""
    experiment = edited(shipped, lambda content: content["datasets"]["digits"]["certification"].update(stride=9))
    assert [experiment.sample(run_of("cohen"), split).stride for split in ("test", "validation")] == [9, 1]


def test_the_first_and_the_last_image_are_in_an_identity_only_if_they_are_chosen(shipped):
    """So what was certified before they could be chosen is what it was."""
    chosen = {"first": 500, "last": 999}
    experiment = edited(shipped, lambda content: content["datasets"]["digits"]["certification"].update(chosen))
    test, validation = (experiment.sample(run_of("cohen"), split).identity for split in ("test", "validation"))
    assert {key: test[key] for key in ("first", "last", "stride")} == chosen | {"stride": 1}
    assert not {"first", "last"} & set(validation)
    whole = Experiment(parse_params(shipped)).sample(run_of("cohen"), "test").identity
    assert not {"first", "last"} & set(whole)


def test_every_run_of_the_shipped_tables_knows_its_counts(shipped):
    experiment = Experiment(parse_params(shipped))
    params = experiment.params
    for table in params.tables:
        for run in runs.table_runs(params, table):
            other = experiment.sampled_by(run)
            for split in SPLITS:
                assert experiment.sample(other, split).identity == experiment.sample(run, split).identity
            assert runs.model_run(params, other) == runs.model_run(params, run)
            assert experiment.sampled_by(other) == other


# --- what each artefact is


def names_and_keys(experiment):
    """What every spec says, by the kind of artefact, data set, and training or method."""
    found: dict[str, list[str]] = {}

    def add(kind: str, name: str, spec) -> None:
        found.setdefault(f"{kind} {name}", []).append(spec.key)

    for model in experiment.models():
        add("train", f"{model.data.dataset}/{model.training}", model)
        add("data", model.data.dataset, model.data)
        if model.labels:
            add("labels", f"{model.data.dataset}/{model.training}", model.labels)
    batches = {"sample": experiment.all_counts(), "certify": experiment.all_certificates()}
    attacked, audited = (experiment.audited(table) for table in ("empirical", "promises"))
    batches["attack"] = [experiment.attacks("empirical", "smoothed", *row) for row in attacked]
    batches["order"] = [experiment.orders("promises", *row) for row in audited]
    batches["break"] = [experiment.breakings("promises", *row) for row in audited]
    for kind, several in batches.items():
        for batch in several:
            for part in batch.parts:
                add(kind, f"{batch.dataset}/{batch.method}", part)
    return found


@pytest.fixture
def small():
    """One of everything, and a method whose training starts from another one and learns from it."""
    content = small_content()
    content["methods"]["taught"] = content["methods"]["cohen"] | {"training": "continued", "label": "Taught"}
    content["tables"]["table1"]["methods"] = ["cohen", "cohen-ds", "taught"]
    return content


COHEN = {f"{kind} digits/cohen" for kind in ("sample", "certify", "attack", "order", "break")}
COHEN_DS = {f"{kind} digits/cohen-ds" for kind in ("sample", "certify")}
TAUGHT = {f"{kind} digits/taught" for kind in ("sample", "certify")}
CONTINUED = {"train digits/continued"}
LABELS = {"labels digits/continued"}
TRAININGS = {"train digits/gaussian"} | CONTINUED | LABELS
CONES = {f"{kind} cones/cohen" for kind in ("sample", "certify")}
DIGITS = {"data digits"} | TRAININGS | COHEN | COHEN_DS | TAUGHT
DERIVED = {"certify digits/cohen", "order digits/cohen", "break digits/cohen"}  # from counts alone
ON_CONES = {"data cones", "train cones/gaussian"} | CONES


@pytest.mark.parametrize(
    ("path", "value", "names"),
    [
        (("seed",), 1, DIGITS | ON_CONES),
        (("datasets", "digits", "validation"), 0.2, DIGITS),
        (("datasets", "digits", "unlabelled", "share"), 0.25, DIGITS),
        (("datasets", "digits", "source"), "elsewhere", set()),
        (("datasets", "digits", "architecture"), "small_cnn", DIGITS - {"data digits"}),
        (("datasets", "digits", "numeric_type"), "bfloat16", DIGITS - {"data digits"}),
        (("datasets", "digits", "recipe", "epochs"), 3, DIGITS - {"data digits"}),
        (("datasets", "digits", "trainings"), {"continued": {"recipe": {"epochs": 3}}}, CONTINUED | TAUGHT),
        (("trainings", "gaussian", "noise"), "uniform", (DIGITS | ON_CONES) - {"data digits", "data cones"}),
        (("trainings", "continued", "start"), None, CONTINUED | TAUGHT),
        (("trainings", "continued", "teacher"), None, CONTINUED | TAUGHT | LABELS),
        (("trainings", "continued", "teacher_weight"), 0.5, CONTINUED | TAUGHT),
        (("trainings", "smoothadv", "objective", "options", "steps"), 3, set()),
        (("methods", "cohen-ds", "policy", "options", "step"), 0.5, COHEN_DS),
        (("methods", "cohen-ds", "certificate", "name"), "l1", COHEN_DS),
        (("methods", "cohen-ds", "certification"), {"n0": 30}, COHEN_DS),
        (("methods", "cohen-ds", "certification"), {"n0": 20, "alpha": 0.01}, {"certify digits/cohen-ds"}),
        (("methods", "cohen-ds", "memory"), None, {"certify digits/cohen-ds"}),
        (("methods", "cohen", "memory"), "shuffled", DERIVED | {"certify cones/cohen"}),
        (("methods", "cohen", "certificate"), {"name": "two_sided"}, DERIVED | {"certify cones/cohen"}),
        (("methods", "cohen", "label"), "Cohen et al.", set()),
        (("datasets", "digits", "certification", "n"), 99, COHEN | TAUGHT),  # Cohen-DS has its own there
        (("datasets", "digits", "certification", "stride"), 30, COHEN | COHEN_DS | TAUGHT),
        (("datasets", "digits", "certification", "shards"), 3, set()),
        (("datasets", "digits", "step"), "1/16", COHEN | COHEN_DS | TAUGHT),
        (("datasets", "digits", "radii"), [0, 0.25], {"attack digits/cohen", "order digits/cohen"}),
        (("datasets", "cones", "options", "dimension"), 3, ON_CONES),
        (("datasets", "mnist", "recipe", "epochs"), 3, set()),
        (("tables", "empirical", "predict", "n"), 99, {"attack digits/cohen"}),
        (("tables", "empirical", "stride"), 2, {"attack digits/cohen"}),
        (("tables", "empirical", "attacks", "smoothed", "samples"), [1, 2], {"attack digits/cohen"}),
        (("tables", "empirical", "attacks", "smoothed", "label"), "another", set()),
        (("tables", "empirical", "predict", "alpha"), 0.02, set()),
        (("tables", "empirical", "predict", "fewer"), [20, 50], set()),
        (("tables", "promises", "predict", "n"), 99, {"break digits/cohen"}),
        (("tables", "promises", "stride"), 2, {"break digits/cohen"}),
        (("tables", "promises", "shuffles"), 3, {"order digits/cohen"}),
        (("tables", "promises", "predict", "alpha"), 0.02, set()),
        (("tables", "table1", "title"), "Another", set()),
    ],
)
def test_an_edit_changes_the_specs_of_what_depends_on_it_alone(small, path, value, names):
    before, after = (
        names_and_keys(Experiment(parse_params(content))) for content in (small, changed(small, path, value))
    )
    different = {name for name in before | after if before.get(name) != after.get(name)}
    assert different == names


def test_an_identity_holds_all_fields_but_those_that_say_where_things_lie(small):
    experiment = Experiment(parse_params(small))
    certified = experiment.certify(run_of("taught"), "validation").identity
    assert set(certified) == {"sampled", "certificate", "alpha", "memory", "seed"}
    sampled = certified["sampled"]
    assert set(sampled) == {"base", "split", "policy", "noise", "step", "n0", "n", "stride", "seed"}
    base = sampled["base"]
    assert base["start"]["training"] == base["labels"]["teacher"]["training"] == "gaussian"
    assert not {"grid"} & (set(base) | set(base["start"]))
    assert not {"source"} & (set(base["data"]) | set(base["labels"]))
    attacked = experiment.attack("empirical", "smoothed", run_of("cohen")).identity
    assert attacked["radii"] == [0, 0.25, 0.5]
    assert attacked["attack"] == {"name": "pgd", "options": {"steps": 2}}


def test_labels_need_unlabelled_images(small):
    experiment = Experiment(parse_params(changed(small, ("datasets", "digits", "unlabelled"), None)))
    with pytest.raises(ConfigError, match=r"datasets.digits.unlabelled: null; must give a share or a source"):
        experiment.labels(runs.ModelRun("digits", "gaussian", 0.25, 0, ()))


# --- which job makes it


def parts(batches):
    return [part.key for batch in batches for part in batch.parts]


def test_every_needed_run_is_in_one_file_with_its_counts(shipped):
    experiment = Experiment(parse_params(shipped))
    counts = {path: batch for batch in experiment.all_counts() for path in counts_paths(batch)}
    for batch in experiment.all_certificates():
        for spec in batch.parts:
            (path,) = spec.counts
            assert spec.sampled.key in {part.key for part in counts[path].parts}
    needed = {experiment.certify(demand.run, demand.split).key for demand in experiment.demands if demand.shown}
    sampled = {experiment.sample(demand.run, demand.split).key for demand in experiment.demands}
    assert set(parts(experiment.all_certificates())) == needed
    assert set(parts(experiment.all_counts())) == sampled
    for batches in (experiment.all_certificates(), experiment.all_counts()):
        names = [batch.name for batch in batches]
        assert len(set(names)) == len(names)
        assert all(len(set(parts([batch]))) == len(batch.parts) for batch in batches)


def test_a_job_makes_the_seeds_that_the_same_tables_need(shipped):
    experiment = Experiment(parse_params(shipped))
    names = {batch.name for batch in experiment.all_certificates()}
    assert {name for name in names if name.startswith("digits/cohen/")} == {
        "digits/cohen/seed=0",  # Table 1 and others need this one alone
        "digits/cohen/seed=1+2+3",
    }
    assert "digits/idrs/seed=0+1+2+3" in names
    for table in experiment.params.tables:
        asked = list(runs.table_runs(experiment.params, table))
        seeds = {(run.dataset, run.method): set() for run in asked}
        for run in asked:
            seeds[run.dataset, run.method].add(run.seed)
        for run in asked:
            assert set(experiment.certificates(run).seeds) <= seeds[run.dataset, run.method]


def test_counts_that_methods_share_are_made_for_the_seeds_that_all_of_them_need(small):
    """Cohen is needed with seeds 0 and 1, and what certifies its counts otherwise with seed 0."""
    small["methods"]["t-certify"] = small["methods"]["cohen"] | {"label": "T", "certificate": {"name": "two_sided"}}
    small["tables"]["rates"] |= {"datasets": ["digits"], "methods": ["cohen"]}
    small["tables"]["table1"]["methods"] = ["t-certify", "cohen-ds"]
    small["tables"]["table1"]["baseline"] = "t-certify"
    small["tables"]["table1"]["settings"] = {}
    for name in ("empirical", "promises"):
        del small["tables"][name]
    small["high_dimension"] = None
    experiment = Experiment(parse_params(small))
    certificates = {batch.name: batch for batch in experiment.all_certificates()}
    assert set(certificates) == {"digits/t-certify/seed=0", "digits/cohen-ds/seed=0", "digits/cohen/seed=0+1"}
    counts = {batch.name: batch for batch in experiment.all_counts()}
    assert set(counts) == {"digits/cohen/seed=0", "digits/cohen/seed=1", "digits/cohen-ds/seed=0"}
    splits = {name: [(part.base.seed, part.split) for part in batch.parts] for name, batch in counts.items()}
    assert splits["digits/cohen/seed=0"] == [(0, "test"), (0, "validation")]
    assert splits["digits/cohen/seed=1"] == [(1, "test")]
    assert [spec.counts for spec in certificates["digits/cohen/seed=0+1"].parts] == [
        (Path(f"counts/digits/cohen/seed={seed}/0-of-1.parquet"),) for seed in (0, 1)
    ]


@pytest.mark.parametrize("dataset", ["digits", "cones-2", "mnist"])
@pytest.mark.parametrize("seeds", [(0,), (1,), (7,), (0, 7), (7, 0, 8)])
def test_what_no_table_needs_can_be_made_as_well(shipped, dataset, seeds):
    """Every method with any seeds: all of them are made, and of counts that their own job makes."""
    experiment = Experiment(parse_params(shipped))
    counts = {path: batch for batch in experiment.all_counts() for path in counts_paths(batch)}
    known = [
        name
        for name in experiment.params.methods
        if runs.resolved_training(experiment.params, dataset, experiment.params.methods[name].training).teacher is None
    ]
    for method in known:
        batch = experiment.certify_batch(dataset, method, seeds)
        assert list(dict.fromkeys(spec.sampled.base.seed for spec in batch.parts)) == list(seeds)
        for spec in batch.parts:
            (path,) = spec.counts
            _, name, other, folder, _ = path.parts
            asked = tuple(map(int, folder.removeprefix("seed=").split("+")))
            made = counts.get(path) or experiment.sample_batch(name, other, asked)
            assert spec.sampled.key in {part.key for part in made.parts}


def test_shards_are_files_of_the_counts_alone(shipped):
    experiment = edited(shipped, lambda content: content["datasets"]["digits"]["certification"].update(shards=3))
    files = tuple(Path(f"counts/digits/cohen/seed=0/{shard}-of-3.parquet") for shard in range(3))
    assert counts_paths(experiment.counts(run_of("cohen"))) == files
    assert counts_of(experiment, run_of("t-certify")) == files
    assert experiment.attack("empirical", "base", run_of("cohen")).counts == files
    assert certificates_path(experiment.certificates(run_of("cohen")).name) == Path(
        "certificates/digits/cohen/seed=0.parquet"
    )


def test_an_unknown_data_set_or_method_is_named(shipped):
    experiment = Experiment(parse_params(shipped))
    for make in (experiment.certify_batch, experiment.sample_batch):
        with pytest.raises(ConfigError, match=r"methods: unknown 'cohn'; did you mean 'cohen'"):
            make("digits", "cohn", (0,))
        with pytest.raises(ConfigError, match=r"datasets: unknown 'digts'; did you mean 'digits'"):
            make("digts", "cohen", (0,))
    with pytest.raises(ConfigError, match=r"empirical: has no row 'yang' on 'digits'"):
        experiment.attacks("empirical", "base", "digits", "yang")


# --- tables


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


def test_a_table_over_certification_seeds_has_every_pair_of_seeds(small):
    small["seed"] = 5
    small["tables"]["rates"] |= {"datasets": ["digits"], "certification_seeds": [5, 6]}
    params = parse_params(small)
    found = [(run.seed, run.certification_seed) for run in runs.table_runs(params, "rates")]
    assert found == [(0, 5), (0, 6), (1, 5), (1, 6)]
    assert {run.certification_seed for run in runs.table_runs(params, "table1")} == {5}


def test_certification_seeds_lie_beside_what_was_sampled_before(small):
    """Another seed is other noise and nothing else; with the experiment's own, all is as it was without a list."""
    small["tables"]["rates"] |= {"datasets": ["digits"]}
    before = Experiment(parse_params(small))
    small["tables"]["rates"]["certification_seeds"] = [0, 1]
    after = Experiment(parse_params(small))
    for batches in (Experiment.all_counts, Experiment.all_certificates):
        old, new = ({batch.name: batch for batch in batches(experiment)} for experiment in (before, after))
        assert old.keys() == new.keys()  # no file is moved
        added = {name: set(parts([new[name]])) - set(parts([old[name]])) for name in old}
        assert all(set(parts([old[name]])) <= set(parts([new[name]])) for name in old)
        assert {name: len(keys) for name, keys in added.items() if keys} == {
            "digits/cohen/seed=0": 1,
            "digits/cohen/seed=1": 1,
        }
    first, other = (runs.CertificationRun("digits", "cohen", 0.25, 1, (), seed) for seed in (0, 1))
    assert after.sample(other, "test").identity == after.sample(first, "test").identity | {"seed": 1}
    assert after.certify(other, "test").seed == 0  # of the memory's order
    places = [after.certify(run, "test").place for run in (first, other)]
    assert places == ["sigma=0.25/seed=1/default", "sigma=0.25/seed=1/default/certification_seed=1"]
    assert after.certify(other, "test").counts == after.certify(first, "test").counts


def test_a_table_over_data_sets_is_about_them_whatever_the_chosen_one_is(shipped):
    here, there = (
        edited(shipped, lambda content, name=name: content.update(dataset=name)).params for name in ("digits", "mnist")
    )
    assert list(runs.table_runs(here, "toy")) == list(runs.table_runs(there, "toy"))
    assert [choice.dataset for choice in runs.table_choices(here, "toy")] == shipped["tables"]["toy"]["datasets"]
    assert {run.dataset for run in runs.table_runs(there, "rates")} == {"mnist"}


def test_toy_figures_need_one_grid_point(shipped):
    constant, dependent = runs.toy_runs(parse_params(shipped))
    assert [run.sigma for run in constant] == shipped["datasets"]["cones-figures"]["sigmas"]
    assert [run.sigma for run in dependent] == [shipped["toy"]["sigma"]]
    options = {"toy-idrs-equal": {"policy": {"rate": [0.1, 0.2]}}}
    params = edited(shipped, lambda content: content["datasets"]["cones-figures"].update(methods=options)).params
    with pytest.raises(ConfigError, match="toy-idrs-equal' has 2 grid points on cones-figures"):
        runs.toy_runs(params)
    without = edited(shipped, lambda content: content.pop("toy")).params
    assert runs.toy_runs(without) == ((), ())
