"""Dual smoothing from params.yaml: who trains the router and on what, what is certified, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from certsmooth import CohenCertificate, certify_counts, dual_certificates
from certsmooth.artefacts.certificates import read_certificates
from certsmooth.artefacts.checkpoint import load, save
from certsmooth.artefacts.counts import read_counts
from certsmooth.errors import ConfigError
from certsmooth.experiment.cli import main
from certsmooth.experiment.config import parse_params
from certsmooth.experiment.members import check_members
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import CertificationRun, table_runs
from factories import changed, small_content, write_params

SIGMAS, FOLDS, ALPHA, ROUTER, OTHERS = [0.25, 0.5], 3, 0.05, 0.3, 0.2
ROUTES = Path("results/checkpoints/digits/router/seed=0/routes.json")
POLICY = {"name": "fixed"}


def content():
    """Digits at two sigmas, with a router of them."""
    whole = small_content()
    digits = whole["datasets"]["digits"] | {"unlabelled": None, "trainings": {}, "methods": {}, "sigmas": SIGMAS}
    digits["certification"] = {"n0": 20, "n": 200, "alpha": ALPHA, "stride": 6}
    digits["recipe"] = {"epochs": 4, "batch_size": 64, "optimizer": "adamw", "learning_rate": 0.01}
    cohen = whole["methods"]["cohen"]
    table = {"kind": "certified", "title": "A table", "methods": ["cohen", "dual"], "baseline": "cohen"}
    return whole | {
        "datasets": {"digits": digits},
        "trainings": {
            "gaussian": whole["trainings"]["gaussian"],
            "router": whole["trainings"]["gaussian"] | {"routes": {"methods": ["held-out"]}},
        },
        "methods": {
            "cohen": cohen,
            "held-out": cohen
            | {"label": "Held out", "folds": FOLDS, "certification": {"n0": 20, "n": 50, "alpha": 0.5}},
            "standard": cohen | {"label": "Other"},
            "dual": cohen
            | {
                "label": "Dual",
                "training": "router",
                "experts": {"methods": ["cohen"], "router_share": ROUTER, "others_share": OTHERS},
            },
        },
        "tables": {"dual": table},
        "pictures": None,
        "high_dimension": None,
    }


def experiment(whole=None):
    return Experiment(parse_params(content() if whole is None else whole))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with everything that the table is made of."""
    folder = tmp_path_factory.mktemp("dual")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_params(folder, content())
        assert main(["check"]) == 0
        assert main(["data", "digits"]) == 0
        for grid in ("default", *(f"fold={fold}-of-{FOLDS}" for fold in range(FOLDS))):
            for sigma in SIGMAS:
                assert main(["train", f"digits/gaussian/sigma={sigma}/seed=0/{grid}"]) == 0
        for method in ("cohen", "held-out"):
            assert main(["sample", f"digits/{method}/seed=0"]) == 0
        assert main(["route", "digits/router/seed=0"]) == 0
        for sigma in SIGMAS:
            assert main(["train", f"digits/router/sigma={sigma}/seed=0/default"]) == 0
        assert main(["sample", "digits/dual/seed=0"]) == 0
        for method in ("cohen", "dual"):
            assert main(["certify", f"digits/{method}/seed=0"]) == 0
        assert main(["table", "dual"]) == 0
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of it, where tests run."""
    shutil.copytree(made, tmp_path / "made")
    monkeypatch.chdir(tmp_path / "made")
    return tmp_path / "made"


def header_of(name):
    path = Path("results/checkpoints/digits/gaussian", name, "model.safetensors")
    return load(path, expect={}, device=torch.device("cpu"))[1]


def counts_of(method):
    return read_counts(Path(f"results/counts/digits/{method}/seed=0/0-of-1.parquet"))


def training_images():
    return json.loads(Path("results/data/digits.json").read_text())["parts"]["training"]["images"]


@pytest.mark.slow
def test_each_training_image_is_asked_of_classifiers_that_were_not_trained_on_it(folder):
    images, parts = training_images(), counts_of("held-out")
    assert len(parts) == FOLDS * len(SIGMAS)
    for sigma in SIGMAS:
        asked = [part.counts for part in parts if part.identity["spec"]["base"]["sigma"] == sigma]
        index = np.concatenate([counts.index for counts in asked])
        assert len(index) == len(set(index.tolist())) == images
        for fold, counts in enumerate(asked):
            header = header_of(f"sigma={sigma}/seed=0/fold={fold}-of-{FOLDS}")
            assert header.images == images - len(counts)
            assert header.spec["fold"] == {"number": fold, "folds": FOLDS}


@pytest.mark.slow
def test_a_router_can_start_from_a_classifier_of_the_data(folder):
    """It has the weights of that one but for the last layer, whose classes are experts."""
    still = {"router": {"recipe": {"learning_rate": 1e-12}}}
    started = changed(content(), "trainings.router.start", {"training": "gaussian"})
    write_params(folder, changed(started, "datasets.digits.trainings", still))
    shutil.rmtree(Path("results/checkpoints/digits/router/sigma=0.5"))
    assert main(["train", "digits/router/sigma=0.5/seed=0/default"]) == 0
    first, router = (
        load(Path(f"results/checkpoints/digits/{name}/sigma=0.5/seed=0/default/model.safetensors"))[0]
        for name in ("gaussian", "router")
    )
    theirs, own = first.state_dict(), router.state_dict()
    differing = {name for name in own if own[name].shape != theirs[name].shape}
    assert {name.rpartition(".")[2] for name in differing} == {"weight", "bias"}
    for name in own.keys() - differing:
        torch.testing.assert_close(own[name], theirs[name], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_the_folds_of_a_classifier_are_trained_on_different_images(folder):
    seen = set()
    for grid in ("default", *(f"fold={fold}-of-{FOLDS}" for fold in range(FOLDS))):
        seen.add(header_of(f"sigma=0.25/seed=0/{grid}").images_fingerprint)
    assert len(seen) == FOLDS + 1


@pytest.mark.slow
def test_labels_are_the_experts_with_the_largest_radius_and_stakes_what_the_second_best_loses(folder):
    radius = np.zeros((training_images(), len(SIGMAS)))
    for part in counts_of("held-out"):
        base, counts = part.identity["spec"]["base"], part.counts
        said = certify_counts(
            counts.selection, counts.estimation, certificate=CohenCertificate(), sigma=base["sigma"], alpha=0.5
        )
        right = said["predict"].to_numpy() == counts.label
        for row, (is_right, found) in enumerate(zip(right, said["radius"], strict=True)):
            place = base["fold"]["number"] + row * FOLDS
            radius[place, SIGMAS.index(base["sigma"])] = found if is_right else 0.0
    stored = json.loads(ROUTES.read_text())
    assert stored["labels"] == radius.argmax(1).tolist()
    np.testing.assert_allclose(stored["stakes"], abs(radius[:, 0] - radius[:, 1]), atol=1e-5)
    assert set(stored["labels"]) == {0, 1}  # or nothing is tested


def by_hand(split):
    """Certificates of the dual classifier from all counts, by the public functions."""

    def certified(part, alpha):
        counts, sigma = part.counts, part.identity["spec"]["base"]["sigma"]
        said = certify_counts(
            counts.selection, counts.estimation, certificate=CohenCertificate(), sigma=sigma, alpha=alpha
        )
        return said["predict"].to_numpy(), said["radius"].to_numpy()

    def parts(method):
        return [part for part in counts_of(method) if part.identity["spec"]["split"] == split]

    sure, unsure = (
        [np.stack(each, axis=1) for each in zip(*(certified(part, alpha) for part in parts("cohen")), strict=True)]
        for alpha in (ALPHA * (1 - ROUTER - OTHERS), ALPHA * OTHERS / 2)
    )
    for part in parts("dual"):
        route, route_radius = certified(part, ALPHA * ROUTER)
        predict, radius = unsure[0].copy(), unsure[1].copy()
        for row in np.flatnonzero(route >= 0):
            for mine, found in zip((predict, radius), sure, strict=True):
                mine[row, route[row]] = found[row, route[row]]
        yield part, route, route_radius, *dual_certificates(route, route_radius, predict, radius), radius


@pytest.mark.slow
@pytest.mark.parametrize("split", ["test", "validation"])
def test_certificates_are_those_of_router_and_experts_at_their_shares_of_alpha(folder, split):
    found = {
        part.spec["sampled"]["base"]["sigma"]: part.frame
        for part in read_certificates(Path("results/certificates/digits/dual/seed=0.parquet"))
        if part.spec["sampled"]["split"] == split
    }
    assert list(found) == SIGMAS
    for part, route, route_radius, predict, radius, of_experts in by_hand(split):
        frame = found[part.identity["spec"]["base"]["sigma"]]
        np.testing.assert_array_equal(frame["predict"], predict)
        np.testing.assert_allclose(frame["radius"], radius, rtol=0, atol=1e-12)
        assert (frame["guarantee"] == "global (real arithmetic)").all()
        assert (frame["alpha"] == ALPHA).all()
        chosen = np.where(route < 0, 0, route)
        np.testing.assert_array_equal(frame["sigma"], np.float32(SIGMAS)[chosen])
        own = of_experts[np.arange(len(chosen)), chosen]
        others = (route < 0) | (route_radius < own)
        experts = np.where(others, 2, 1)
        np.testing.assert_array_equal(frame["n"], 200 * (1 + experts))
        assert 0 < others.mean() < 1  # or nothing is tested


@pytest.mark.slow
def test_the_table_has_a_row_that_says_that_a_router_chooses(folder):
    table = json.loads(Path("results/tables/dual.json").read_text())
    values = pd.DataFrame(table["values"])
    rows = values[values["method"] == "Dual"]
    assert set(rows["certify"]) == {"router"}
    assert set(rows["guarantee"]) == {"global (real arithmetic)"}
    text = " ".join(Path("results/tables/dual.md").read_text().split())
    experts = "gaussian, sigma 0.25; gaussian, sigma 0.5"
    assert f"- Dual: sigma is the router's, which chooses between {experts}. Of alpha, 0.3 is the router's, 0.2" in text
    assert "router: a router, itself certified, chooses the expert of each image" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed_file", "verb"),
    [
        ("gaussian/sigma=0.25/seed=0/fold=1-of-3", ["train", "digits/router/sigma=0.5/seed=0/default"]),
        ("gaussian/sigma=0.25/seed=0/fold=1-of-3", ["route", "digits/router/seed=0"]),
        ("gaussian/sigma=0.25/seed=0/default", ["certify", "digits/dual/seed=0"]),
        ("router/sigma=0.5/seed=0/default", ["certify", "digits/dual/seed=0"]),
    ],
)
def test_what_was_made_of_another_checkpoint_is_refused(folder, capsys, changed_file, verb):
    """Router, experts and held-out experts: any of them may have been trained anew since."""
    path = Path("results/checkpoints/digits", changed_file, "model.safetensors")
    other = path.parent.parent / ("default" if "fold" in changed_file else "fold=0-of-3") / path.name
    if not other.exists():
        other = Path("results/checkpoints/digits/router/sigma=0.25/seed=0/default", path.name)
    shutil.copy(other, path)
    assert main(verb) == 2
    assert "must be" in capsys.readouterr().err


@pytest.mark.slow
def test_a_table_refuses_a_row_of_whose_experts_one_was_trained_anew(folder, capsys):
    write_params(folder, changed(changed(content(), "tables.dual.methods", ["dual"]), "tables.dual.baseline", "dual"))
    assert main(["table", "dual"]) == 0
    expert = Path("results/checkpoints/digits/gaussian/sigma=0.5/seed=0/default/model.safetensors")
    shutil.copy(expert.parent.with_name("fold=0-of-3") / expert.name, expert)
    assert main(["table", "dual"]) == 2
    assert f"that of {expert}; sample and certify again" in capsys.readouterr().err


@pytest.mark.slow
def test_routes_of_another_seed_are_refused(folder, capsys):
    write_params(folder, content() | {"training_seeds": [0, 1]})
    target = Path("results/checkpoints/digits/router/seed=1/routes.json")
    target.parent.mkdir()
    shutil.copy(ROUTES, target)
    for sigma in SIGMAS:
        for fold in range(FOLDS):
            assert main(["train", f"digits/gaussian/sigma={sigma}/seed=1/fold={fold}-of-{FOLDS}"]) == 0
    assert main(["train", "digits/router/sigma=0.5/seed=1/default"]) == 2
    assert "seed is 0; must be 1" in capsys.readouterr().err


def test_a_table_asks_for_the_counts_of_experts_and_folds_and_for_no_certificates_of_theirs():
    whole = changed(changed(content(), "tables.dual.methods", ["dual"]), "tables.dual.baseline", "dual")
    found = experiment(whole)
    assert [batch.method for batch in found.all_certificates("dual")] == ["dual"]
    assert {batch.method for batch in found.all_counts("dual")} == {"dual", "cohen", "held-out"}
    folds = [spec.fold for spec in found.models("dual") if spec.fold is not None]
    assert len(folds) == FOLDS * len(SIGMAS)
    router = CertificationRun("digits", "dual", 0.5, 0, (), 0)
    spec = found.certify(router, "test")
    assert [part.alpha for part in spec.parts] == [ALPHA] * 3
    assert [part.sampled.base.sigma for part in spec.parts] == [0.5, *SIGMAS]
    assert (spec.router.router_share, spec.router.others_share) == (ROUTER, OTHERS)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("methods.dual.experts.methods", ["held-out"], r"unknown 'held-out'"),
        ("methods.dual.experts", None, r"methods\.dual\.training: 'router'; must be no router's, or"),
        ("methods.dual.training", "gaussian", r"methods\.dual\.training: 'gaussian'; must be a router's"),
        ("methods.dual.memory", "shuffled", r"memory: 'shuffled'; must be null with experts"),
        ("methods.dual.experts.router_share", 1.0, r"methods\.dual\.experts\.router_share: 1\.0; must be in \(0, 1\)"),
        ("methods.dual.experts.router_share", 0.9, r"router_share \+ others_share: 1\.1; must be below 1"),
        ("methods.held-out.folds", 1, r"methods\.held-out\.folds: 1; must be"),
        ("methods.held-out.folds", None, r"trainings\.router\.routes\.methods: unknown 'held-out'"),
        ("methods.cohen.memory", "shuffled", r"'cohen' has the guarantee 'memory'; must be global"),
        ("tables.dual.methods", ["cohen", "held-out"], r"'held-out' certifies training images"),
        ("trainings.router.teacher", "gaussian", r"teacher: 'gaussian'; must be null for a router"),
        ("methods.dual.experts.methods", ["cohen", "standard"], r"'standard'\]; must be as many as label"),
    ],
)  # fmt: skip
def test_what_cannot_be_routed_is_refused_before_anything_runs(key, value, message):
    with pytest.raises(ConfigError, match=message):
        check_members(parse_params(changed(content(), key, value)))


def with_audits(**changes):
    audits = {"kind": "soundness", "title": "Audits", "methods": ["cohen", "dual"], "stride": 5, "shuffles": 2}
    whole = content()
    return whole | {"tables": whole["tables"] | {"audits": audits | {"predict": {"n": 100, "alpha": 0.01}} | changes}}


@pytest.mark.slow
def test_its_certificates_are_attacked_and_a_memory_for_them_is_priced(folder):
    write_params(folder, with_audits())
    for method in ("cohen", "dual"):
        for verb in ("order-cost", "break-certificates"):
            assert main([verb, f"digits/{method}/seed=0", "--table", "audits"]) == 0
    assert main(["table", "audits"]) == 0
    found = json.loads(Path("results/tables/audits.json").read_text())
    rows = {(row["method"], row["sigma"]): row for row in found["runs"]}
    certificates = pd.read_csv("results/certificates/digits/dual/sigma=0.5/seed=0/default/test.tsv", sep="\t")
    attacked = np.flatnonzero((certificates["predict"] >= 0) & (certificates["radius"] > 0))
    dual = rows["Dual", 0.5]
    assert dual["before"] == dual["after"] == rows["Cohen", 0.5]["before"]
    assert dual["images"] == len(certificates)
    assert dual["certificates"] == (attacked % 5 == 0).sum() > 5
    assert dual["broken"] == 0
    assert dual["candidates"] == 2 * (1 + 2 + 2 + 2)


def test_predict_of_the_router_has_its_share_of_alpha():
    found = experiment(with_audits())
    router, expert = (found.breaking("audits", CertificationRun("digits", m, 0.5, 0, (), 0)) for m in ("dual", "cohen"))
    assert router.router_alpha == 0.01 * ROUTER
    assert expert.router_alpha is None
    assert "router_alpha" not in expert.identity  # what was attacked before there were routers is still what is asked


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["order-cost", "break-certificates"])
def test_audits_of_other_experts_are_refused(folder, capsys, verb):
    """An expert has other weights, and all but one of the audits were made again."""
    write_params(folder, with_audits(methods=["dual"]))
    verbs = ("order-cost", "break-certificates")
    for each in verbs:
        assert main([each, "digits/dual/seed=0", "--table", "audits"]) == 0
    path = Path("results/checkpoints/digits/gaussian/sigma=0.25/seed=0/default/model.safetensors")
    expert, header = load(path, trainable=True)
    with torch.no_grad():
        next(iter(expert.parameters())).mul_(1 + 1e-6)
    save(path, expert, header)
    assert main(["sample", "digits/cohen/seed=0"]) == 0
    for method in ("cohen", "dual"):
        assert main(["certify", f"digits/{method}/seed=0"]) == 0
    for each in verbs:
        assert each == verb or main([each, "digits/dual/seed=0", "--table", "audits"]) == 0
    capsys.readouterr()
    assert main(["table", "audits"]) == 2
    assert "experts is ['sha256:" in capsys.readouterr().err


def test_an_attack_that_sees_one_network_is_refused():
    whole = content()
    empirical = small_content()["tables"]["empirical"] | {"methods": ["dual"]}
    with pytest.raises(ConfigError, match=r"tables\.empirical\.methods: 'dual' has experts; must be one"):
        check_members(parse_params(whole | {"tables": whole["tables"] | {"empirical": empirical}}))


def test_with_one_expert_there_is_no_router_to_show():
    whole = changed(content(), "datasets.digits.sigmas", [0.25])
    params = parse_params(whole)
    check_members(params)
    assert {run.method for run in table_runs(params, "dual")} == {"cohen"}
    assert {batch.method for batch in Experiment(params).all_counts()} == {"cohen"}
    with pytest.raises(ConfigError, match=r"tables\.dual\.baseline: 'dual' has fewer than two experts on digits"):
        check_members(parse_params(changed(whole, "tables.dual.baseline", "dual")))
