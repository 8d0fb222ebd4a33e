"""The workflow for real: Snakemake and DVC on a few cut-down tables, at least one of each kind."""

import json
import re
import zipfile
from pathlib import Path

import pytest
import yaml

from certsmooth.artefacts.counts import read_counts
from factories import needs_git, plain_yaml
from workflow_project import TABLES, call, edit, kill_all, make_clone, planned, start

pytestmark = [pytest.mark.workflow, needs_git]


def test_a_training_on_a_start_and_on_pseudo_labels(project):
    folder = project / "results" / "checkpoints" / "digits-half-labelled"
    assert {path.name for path in folder.iterdir()} == {"gaussian", "standard", "smoothadv-both"}
    labels = json.loads(next(folder.glob("standard/*/*/*/pseudo_labels.json")).read_text())
    assert labels["images"] == len(labels["labels"]) == 647
    text = (project / "results" / "tables" / "smoothadv_table2.md").read_text()
    assert "SmoothAdv + both" in text
    assert "SmoothAdv Table 2, CIFAR-10" in text


def test_the_table_states_what_it_is(project):
    text = (project / "results" / "tables" / "table1.md").read_text()
    record = json.loads((project / "results" / "data" / "digits.json").read_text())
    for words in ("360 images", "n0 = 100, n = 200, alpha = 0.001", "published", "global", "memory", "McNemar"):
        assert words in text
    assert record["parts"]["test"]["fingerprint"][:19] in text
    for name in ("table1.csv", "table1.json", "figures/table1.svg", "figures/table1.png"):
        assert (project / "results" / "tables" / name).stat().st_size > 1000
    assert "](figures/table1.svg)" in text


def test_every_kind_of_table_and_figure_is_made(project):
    results = project / "results"
    tables = results / "tables"
    text = (tables / "soundness.md").read_text()
    assert re.search(r"^\| Cohen-DS +\|", text, re.MULTILINE)
    audits = sorted(path.name for path in (results / "audits" / "soundness").rglob("*") if path.is_file())
    assert audits == ["broken.log.json", "broken.parquet", "order.json"]
    for name in ("toy", "idrs/table1", "idrs/imagenet"):
        assert {path.suffix for path in tables.glob(f"{name}.*")} == {".md", ".csv", ".json"}
    figures = {path.name for path in (tables / "figures" / "idrs").glob("*.svg")}
    numbers = (1, 2, 3, 5, 6, 7, 8, 9, 11, 12, 13, 14)
    assert figures == {f"{name}.svg" for name in ("imagenet", *(f"figure{n}" for n in numbers))}
    assert {path.suffix for path in (tables / "figures" / "ddrs").glob("figure6.*")} == {".svg", ".png"}
    accuracy = (tables / "toy.md").read_text()
    assert len(re.findall(r"^\| Border distance +\| global ", accuracy, re.MULTILINE)) == 6
    sigma = re.search(r"^\| Border distance .* \[0\.25, 0\.75\] \|$", accuracy, re.MULTILINE)
    assert sigma, "an infinite rate makes sigma 0.5 or 1.5 times sigma_b"
    for path in results.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_git_holds_no_artefacts(project):
    files = call(project, "git", "ls-files").split()
    assert not [name for name in files if name.startswith(("results/", ".snakemake", "logs/"))]


def test_a_clone_with_pulled_artefacts_has_nothing_to_do(project, tmp_path):
    clone = tmp_path / "clone"
    make_clone(project, clone)
    assert planned(clone) == {}
    assert "up to date" in call(clone, "dvc", "repro")


def test_editing_n_of_one_certification_reruns_that_sampling_its_certificates_and_the_table(clone):
    edit(clone, lambda params: params["methods"]["cohen-ds2"].update(certification={"n": 250}))
    shards = 2
    assert planned(clone, "results/tables/table1.md") == {"sample": shards, "certify": 1, "certified": 1}
    text = call(clone, "dvc", "repro")
    for rule, jobs in {"train": 0, "sample": 2, "certify": 1, "certified": 1}.items():
        assert len(re.findall(rf"^(?:local)?rule {rule}:", text, re.MULTILINE)) == jobs
    assert planned(clone) == {}
    text = (clone / "results" / "tables" / "table1.md").read_text()
    assert "n = 200 (Cohen and Cohen-DS and T-CERTIFY), 250 (Cohen-DS2)" in text


def test_the_page_is_made_of_the_tables_that_are_there(clone):
    pytest.importorskip("vl_convert", reason="the extra `workflow` is not installed")
    page, tables = "results/index.html", clone / "results" / "tables"

    def rules(*targets):
        return re.findall(r"^(?:local)?rule (\w+):", call(clone, "snakemake", "--dry-run", *targets), re.MULTILINE)

    (tables / "empirical.json").unlink()
    assert rules(page) == ["page"]
    call(clone, "snakemake", "--cores", "1", page)
    text = (clone / page).read_text()
    assert 'id="table1"' in text
    assert 'id="empirical"' not in text
    assert "snakemake --cores all results/empirical.md" in text
    assert rules(page) == []
    (tables / "soundness.json").unlink()
    assert rules(page) == ["page"]  # what it showed is not there any more
    assert sorted(rules(page, "results/empirical.md")) == ["empirical", "page", "shown"]
    assert sorted(rules()) == ["all", "empirical", "page", "soundness"]


def test_a_report_of_snakemake_has_the_tables_and_figures_with_captions(clone):
    call(clone, "snakemake", "--report", "report.zip")
    with zipfile.ZipFile(clone / "report.zip") as archive:
        names = {Path(name).name for name in archive.namelist()}
        text = "".join(archive.read(name).decode() for name in archive.namelist() if name.endswith(".html"))
    assert {f"{name}.csv" for each in TABLES.values() for name in each} <= names
    assert {f"{name}.svg" for kind, each in TABLES.items() if kind != "soundness" for name in each} <= names
    for words in ("in long form, with its 95 % interval", "Accuracy against radius, of the table", "Dvoretzky"):
        assert words in text


def more_of_a_list(params):
    params["methods"]["cohen-ds"]["policy"]["options"]["iterations"] = [1, 2]


def one_more_sigma(params):
    params["datasets"]["digits"]["sigmas"] = [0.12, 0.25]


def one_more_seed(params):
    params["training_seeds"] = [1, 0]


@pytest.mark.parametrize(
    ("change", "seeds", "trained"),
    [(more_of_a_list, "0", 0), (one_more_sigma, "0", 1), (one_more_seed, "0+1", 1)],
)
def test_what_was_sampled_before_is_not_sampled_again(clone, change, seeds, trained):
    """Of a larger experiment, the parts that are new are sampled; the others keep their rows and their times."""
    folder = clone / "results" / "counts" / "digits" / "cohen-ds"
    before = sampled(folder / "seed=0")
    assert len(before) == 2 * 2  # shards and splits
    edit(clone, change)
    target = f"results/certificates/digits/cohen-ds/seed={seeds}.parquet"
    jobs = {"sample": 2, "certify": 1} | ({"train": trained} if trained else {})
    assert planned(clone, target) == jobs
    call(clone, "snakemake", "--cores", "2", target)
    after = sampled(folder / f"seed={seeds}")
    assert len(after) == 2 * len(before)
    assert {key: after[key] for key in before} == before
    new = [seconds for key, (_, seconds) in after.items() if key not in before]
    assert all(seconds not in [old for _, old in before.values()] for seconds in new)
    assert planned(clone, target) == {}


def sampled(folder):
    """Return identity -> rows, and seconds of each image, of all parts of all shards."""
    found = {}
    for path in sorted(folder.glob("*.parquet")):
        logs = json.loads(path.with_suffix(".log.json").read_text())["parts"]
        for part, log in zip(read_counts(path), logs, strict=True):
            rows = {name: values.tolist() for name, values in vars(part.counts).items()}
            found[json.dumps(part.identity, sort_keys=True)] = rows, log["seconds"]
    return found


def test_editing_alpha_samples_and_attacks_no_image_again(edited):
    edit(edited, lambda params: params["datasets"]["digits"]["certification"].update(alpha=0.01))
    assert planned(edited, "results/table1.md") == {"certify": 4, "certified": 1, "shown": 1}  # a job for each method
    audits = {"order_cost": 1, "break_certificates": 1, "soundness": 1}  # it is these certificates that are attacked
    figures = {"pictures": 1, "high_dimension": 1}
    # The half-labelled data are like these: one more method and table.
    assert planned(edited) == {"certify": 5, "certified": 2, "empirical": 1, **figures, **audits}


def test_editing_an_option_of_a_certificate_certifies_again_and_no_more(edited):
    edit(edited, lambda params: params["methods"]["t-certify"]["certificate"].update(options={"grid": 5}))
    assert planned(edited) == {"certify": 1, "certified": 1}


def test_another_certificate_costs_no_samples(edited):
    edit(edited, lambda params: params["methods"]["toy-cohen"].update(certificate={"name": "renyi"}))
    assert planned(edited) == {"certify": 1, "accuracy": 1, "toy": 1}


def test_what_a_reader_asks_for_is_the_table_itself(clone):
    call(clone, "snakemake", "--cores", "1", "results/table1.md")
    shown, figure = clone / "results" / "table1.md", clone / "results" / "figures" / "table1.svg"
    assert shown.resolve() == clone / "results" / "tables" / "table1.md"
    assert "](figures/table1.svg)" in shown.read_text()
    assert figure.read_bytes() == (clone / "results" / "tables" / "figures" / "table1.svg").read_bytes()
    assert planned(clone, "results/table1.md") == planned(clone) == {}
    call(clone, "dvc", "repro")
    edit(clone, lambda params: params["tables"]["table1"].update(title="Another"))
    call(clone, "dvc", "repro", "--single-item", "report")
    assert "Another" in shown.read_text()
    shown.resolve().unlink()  # as when its job fails
    assert planned(clone, "results/table1.md") == {"certified": 1, "shown": 1}


def test_the_ledger_is_made_of_the_tables_that_are_there(clone):
    assert planned(clone, "results/ledger.md") == {"ledger": 1, "shown": 1}
    call(clone, "snakemake", "--cores", "1", "results/ledger.md")
    text = (clone / "results" / "ledger.md").read_text()
    assert "833 cells: 11 replicated, 103 derived, 7 differ" in text  # with IDRS Table 1, which needs no data
    assert "| cones, `toy` |" in text
    assert re.search(r"^\| SmoothAdv \+ both .* \| digits, `smoothadv_table2` \|", text, re.MULTILINE)
    assert planned(clone, "results/ledger.md") == planned(clone) == {}
    edit(clone, lambda params: params["methods"]["smoothadv-both"].update(label="Both"))
    assert planned(clone, "results/ledger.md") == {"certified": 1, "ledger": 1, "shown": 1}


def test_params_yaml_and_a_file_of_the_library_rerun_what_each_concerns(edited):
    library = edited / "config" / "methods.yaml"
    before = library.read_text()
    methods = yaml.safe_load(before)
    methods["methods"]["cohen-ds"]["certification"] = {"alpha": 0.01}
    library.write_text(plain_yaml(methods))
    jobs = {"certify": 1, "certified": 1, "order_cost": 1, "break_certificates": 1, "soundness": 1, "pictures": 1}
    assert planned(edited) == jobs
    library.write_text(before)
    params = edited / "params.yaml"
    own = yaml.safe_load(params.read_text())
    params.write_text(plain_yaml(own | {"methods": {"cohen-ds": {"certification": {"alpha": 0.01}}}}))
    assert planned(edited) == jobs
    params.write_text(plain_yaml(own | {"methods": {"t-certify": {"like": "cohen", "label": "Another"}}}))
    assert planned(edited, "results/data/digits.json") == {}
    params.write_text(plain_yaml(own))
    assert planned(edited) == {}


def test_words_for_people_certify_nothing_again(edited):
    edit(edited, lambda params: params["methods"]["t-certify"].update(label="T"))
    assert planned(edited) == {"certified": 1}


def test_editing_the_recipe_of_one_training_reruns_what_follows_from_it(edited):
    edit(
        edited,
        lambda params: params["datasets"]["digits"]["trainings"].update({"gaussian-ds": {"recipe": {"epochs": 3}}}),
    )
    assert planned(edited) == {"train": 1, "sample": 2, "certify": 1, "certified": 1}


def test_editing_another_data_set_reruns_nothing(edited):
    edit(edited, lambda params: params["datasets"]["mnist"]["recipe"].update(epochs=3))
    assert planned(edited) == {}


def test_code_that_a_step_depends_on_reruns_it(edited):
    # The workflow hashes the package that is installed; a stored hash that differs is the same as code that changed.
    rule = edited / "workflow" / "rules" / "certify.smk"
    rule.write_text(rule.read_text().replace("source_digest(", '"0" + source_digest('))
    assert planned(edited, "results/tables/table1.md") == {"certify": 4, "certified": 1}


def test_a_mistake_in_params_stops_before_anything_runs(edited):
    edit(edited, lambda params: params["methods"]["cohen-ds"]["policy"]["options"].update(iteratons=5))
    text = call(edited, "snakemake", "--cores", "1", "results/table1.md", ok=False)
    assert "methods.cohen-ds.policy.options: unknown key 'iteratons'; did you mean 'iterations'" in text
    assert "Traceback" not in text


def test_a_failed_job_shows_its_error_and_keeps_what_was_made(clone):
    next((clone / "results" / "checkpoints" / "digits" / "gaussian").rglob("*.safetensors")).write_bytes(b"foreign")
    counts = sorted((clone / "results" / "counts" / "digits" / "cohen").rglob("*.parquet"))
    counts[0].unlink()
    target = str(counts[0].relative_to(clone))
    text = call(clone, "snakemake", "--cores", "2", "--rerun-triggers", "mtime", "--", target, ok=False)
    assert "certsmooth: " in text
    assert "model.safetensors" in text
    assert "Traceback" not in text
    assert all(path.exists() for path in counts[1:])


def test_cores_alone_say_how_many_jobs_begin_here(clone):
    snakefile = clone / "Snakefile"
    ending = "\n\nonsuccess:\n    print('at most', workflow.scheduler.job_rate_limiter, 'a second')\n"
    snakefile.write_text(snakefile.read_text() + ending)
    assert "at most None a second" in call(clone, "snakemake", "--cores", "1", "--force", "results/data/digits.json")


def test_two_runs_at_once_exclude_each_other(clone):
    lock = clone / ".snakemake" / "locks"
    lock.mkdir(parents=True, exist_ok=True)
    edit(clone, lambda params: params["datasets"]["digits"]["certification"].update(alpha=0.01))
    slow = clone / "workflow" / "rules" / "certify.smk"
    slow.write_text(slow.read_text().replace('"certsmooth certify', '"sleep 20; certsmooth certify'))
    first = start(clone, "snakemake", "--cores", "1", "results/table1.md")
    try:
        while not list(lock.iterdir()):
            assert first.poll() is None
        text = call(clone, "snakemake", "--cores", "1", "results/table1.md", ok=False)
        assert "LockException" in text
    finally:
        kill_all(clone, first)
