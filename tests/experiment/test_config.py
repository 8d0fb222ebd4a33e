import re
import shutil
import subprocess
import sys

import pytest

from certsmooth.analysis.published import published_rows
from certsmooth.errors import ConfigError
from certsmooth.experiment import runs
from certsmooth.experiment.config import CertifiedTable, EmpiricalTable, parse_params, read_params
from certsmooth.experiment.members import check_members
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.strict_yaml import load_yaml
from factories import ROOT, changed, shipped_content


@pytest.fixture
def content():
    return shipped_content()


def test_shipped_params_are_valid():
    check_members(read_params(ROOT / "params.yaml"))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("sed", 1, ["unknown key sed", "'seed'"]),
        ("dataset", "digit", ["dataset", "'digit'", "did you mean 'digits'"]),
        ("methods.cohen.labl", "x", ["methods.cohen.labl", "'label'"]),
        ("methods.cohen.policy.name", "fixd", ["methods.cohen.policy.name", "did you mean 'fixed'"]),
        ("methods.cohen.certificate.name", "cohn", ["methods.cohen.certificate", "did you mean 'cohen'"]),
        (
            "methods.cohen.certificate",
            "cohen",
            ["methods.cohen.certificate: 'cohen'", "mapping of the keys name, options"],
        ),
        (
            "methods.cohen.certificate.options",
            {"grid": [1, 2]},
            ["methods.cohen.certificate.options.grid", "one value"],
        ),
        (
            "methods.two-sided.certificate.options",
            {"split": {0.25: 0.5}},
            ["methods.two-sided.certificate.options.split: {0.25: 0.5}", "must be one value"],
        ),
        ("methods.cohen.noise", "uniform", ["unknown key methods.cohen.noise"]),
        ("tables.table1.kind", "certifed", ["tables.table1.kind: unknown 'certifed'", "did you mean 'certified'"]),
        ("tables.soundness.attacks", {}, ["unknown key tables.soundness.attacks", "shuffles"]),
        ("trainings.gaussian.noise", "gausian", ["trainings.gaussian.noise", "did you mean 'gaussian'"]),
        ("methods.cohen.training", "gausian", ["methods.cohen.training", "did you mean 'gaussian'"]),
        ("trainings.gaussian.objective.name", "gausian", ["trainings.gaussian.objective.name", "'gaussian'"]),
        ("tables.table1.methods", ["cohen", "chen-ds"], ["tables.table1", "did you mean 'cohen-ds'"]),
        ("datasets.digits.architecture", "smal_cnn", ["datasets.digits.architecture", "did you mean 'small_cnn'"]),
        ("datasets.digits.sigmas", [0.25, 0.0], ["datasets.digits.sigmas", "0.0", "> 0"]),
        ("datasets.digits.sigmas", [0.25, -1], ["datasets.digits.sigmas", "> 0"]),
        ("datasets.digits.sigmas", [], ["datasets.digits.sigmas"]),
        ("datasets.digits.sigmas", [0.5, 0.5], ["datasets.digits.sigmas", "differ"]),
        ("datasets.digits.certification.alpha", 0, ["datasets.digits.certification", "alpha", "(0, 1)"]),
        ("datasets.digits.certification.alpha", 1.0, ["alpha", "(0, 1)"]),
        ("datasets.digits.certification.n", 0, ["datasets.digits.certification", "n: 0", "at least 1"]),
        ("datasets.digits.certification.n0", -5, ["n0: -5", "at least 1"]),
        ("datasets.digits.certification.n", 10.5, ["datasets.digits.certification.n", "10.5"]),
        ("datasets.digits.certification.n", True, ["datasets.digits.certification.n: True; must be a whole number"]),
        ("datasets.digits.certification.n", " 12 ", ["certification.n: ' 12 '; must be a whole number: 12"]),
        (
            "datasets.digits.certification.n",
            "5,000",
            ["datasets.digits.certification.n: '5,000'; must be a whole number, without separators: 5000"],
        ),
        ("datasets.digits.certification.n", 1e4, ["certification.n: 10000.0; must be a whole number: 10000"]),
        ("datasets.digits.certification.n", "1e4", ["certification.n: '1e4'; must be a whole number: 10000"]),
        ("datasets.digits.certification.n", 2_000_000_000, ["n: 2000000000; must be at most 1000000000"]),
        ("datasets.digits.certification.alpha", "0.001", ["certification.alpha: '0.001'; must be a number: 0.001"]),
        ("datasets.digits.certification.alpha", 1e-120, ["alpha: 1e-120; must be in (0, 1), at least 1e-100"]),
        ("datasets.digits.certification.alpha", True, ["certification.alpha: True; must be a number"]),
        ("datasets.digits.sigmas", [True], ["datasets.digits.sigmas.0: True; must be a number"]),
        ("datasets.digits.sigmas", ["0.25"], ["datasets.digits.sigmas.0: '0.25'; must be a number: 0.25"]),
        ("datasets.digits.channels_last", 1, ["datasets.digits.channels_last: 1; must be true or false"]),
        ("methods.cohen.memory", "yes", ["methods.cohen.memory: 'yes'; must be 'test_order' or 'shuffled'"]),
        ("methods.cohen.certification", {"n": "500"}, ["methods.cohen.certification", "must be a whole number: 500"]),
        ("methods.cohen.certification", {"n": "5,000"}, ["'5,000'; must be a number, without separators: 5000"]),
        ("seed", True, ["seed: True; must be a whole number"]),
        ("seed", 0.0, ["seed: 0.0; must be a whole number: 0"]),
        ("training_seeds", [True], ["training_seeds.0: True; must be a whole number"]),
        ("tables.empirical.predict.n", 2_000_000_000, ["predict.n: 2000000000; must be at most 1000000000"]),
        ("tables.empirical.predict.alpha", 1e-120, ["predict.alpha: 1e-120", "at least 1e-100"]),
        ("datasets.digits.certification.m", 1, ["datasets.digits.certification.m", "valid:"]),
        ("datasets.digits.validation", 1, ["datasets.digits.validation", "(0, 1)"]),
        ("trainings.gaussian.start", {}, ["trainings.gaussian.start", "one of the two"]),
        ("trainings.gaussian.start", {"training": "gausian"}, ["start.training", "did you mean 'gaussian'"]),
        ("trainings.gaussian.denoiser", {"name": "dncnn"}, ["trainings.gaussian", "needs start, the classifier"]),
        (
            "trainings.smoothadv-pretrained.denoiser",
            {"name": "dncnn", "options": {"layers": [4, 8]}},
            ["trainings.smoothadv-pretrained", "denoiser.options.layers", "must be one value"],
        ),
        ("trainings.gaussian.teacher", "standrd", ["trainings.gaussian.teacher", "did you mean 'standard'"]),
        ("trainings.gaussian.teacher", "smoothadv-both", ["trainings.gaussian.teacher", "neither start nor teacher"]),
        ("trainings.gaussian.teacher", "gaussian-self", ["trainings.gaussian.teacher", "valid:"]),
        ("datasets.digits.unlabelled", {"share": 0.5, "source": "x.npz"}, ["unlabelled", "one of the two"]),
        ("datasets.digits.unlabelled", {"share": 1.5}, ["datasets.digits.unlabelled", "share: 1.5", "(0, 1)"]),
        ("datasets.digits.member", "digit", ["datasets.digits.member", "did you mean 'digits'"]),
        ("datasets.digits.trainings", {"gausian": {}}, ["datasets.digits.trainings", "did you mean 'gaussian'"]),
        ("datasets.digits.methods", {"chen": {}}, ["datasets.digits.methods", "did you mean 'cohen'"]),
        ("tables.table1.norm", "l1", ["tables.table1.norm", "'linf'"]),
        ("tables.table1.settings", {"digts": {}}, ["tables.table1.settings", "did you mean 'digits'"]),
        ("tables.table1.settings", {"digits": {"sigmas": [0]}}, ["tables.table1.settings.digits", "> 0"]),
        ("tables.table1.settings", {"mnist": {"methods": ["chen"]}}, ["settings.mnist.methods", "'cohen'"]),
        ("tables.table1.settings", {"mnist": {"methods": []}}, ["settings.mnist.methods: []", "one or more"]),
        (
            "tables.table1.settings",
            {"mnist": {"methods": ["cohen", "toy-cohen"]}},
            ["tables.table1.methods", "have the label 'Cohen'"],
        ),
        (
            "trainings.smoothadv-both.teacher_weight",
            -1,
            ["teacher_weight: -1; must be a finite number >= 0, or a list"],
        ),
        ("trainings.smoothadv-both.teacher_weight", [0.1, "1"], ["teacher_weight: [0.1, '1']; must be", "or a list"]),
        ("methods.cohen.certification", {"nn": 3}, ["methods.cohen.certification", "nn", "valid:"]),
        ("methods.cohen.certification", {"n": 0}, ["methods.cohen.certification", "at least 1"]),
        ("training_seeds", [], ["training_seeds: []", "one or more"]),
        ("training_seeds", [0, 0], ["training_seeds: [0, 0]", "different"]),
        ("methods.idrs.policy.options.rate", {"a": 1}, ["methods.idrs.policy.options.rate: {'a': 1}", "a list of"]),
        ("methods.idrs.policy.options.rate", {0.25: [1]}, ["{0.25: [1]}; must be", "mapping from sigma to one of"]),
        ("methods.idrs.policy.options.rate", {-0.25: 1}, ["{-0.25: 1}; must be", "mapping from sigma"]),
        ("methods.idrs.policy.options.rate", {True: 1}, ["{True: 1}; must be", "mapping from sigma"]),
        ("methods.idrs.policy.options.rate", {0.5: "a b"}, ["{0.5: 'a b'}; text must be at most 100"]),
        ("methods.idrs.policy.options.rate", {0.5: 1, "0.50": 1}, ["'0.50': 1}; must have one entry for each sigma"]),
        (
            "datasets.digits.recipe.epochs",
            {0.25: 40},
            ["datasets.digits.recipe.epochs: {0.25: 40}; must be a number, text, true, false or null, or a list"],
        ),
        (
            "methods.idrs.policy.options.rate",
            [[0.1]],
            ["methods.idrs.policy.options.rate: [[0.1]]", "must be a number"],
        ),
        ("tables.table1.baseline", "chen", ["tables.table1.baseline", "did you mean 'cohen'"]),
        ("tables.table1.methods", ["cohen", "toy-cohen"], ["tables.table1.methods", "have the label 'Cohen'"]),
        ("tables.evaluation.training_seeds", [], ["tables.evaluation.training_seeds: []", "one or more"]),
        ("tables.evaluation.training_seeds", [1, 1], ["tables.evaluation.training_seeds: [1, 1]", "different"]),
        ("tables.evaluation.training_seeds", 3, ["tables.evaluation.training_seeds: 3", "must be a list"]),
        ("tables.evaluation.methods", ["chen"], ["tables.evaluation.methods", "did you mean 'cohen'"]),
        ("tables.evaluation.baseline", "chen", ["tables.evaluation.baseline", "did you mean 'cohen'"]),
        ("tables.toy.datasets", [], ["tables.toy.datasets: []", "one or more"]),
        ("tables.toy.datasets", ["cones-2", "cones-2"], ["tables.toy.datasets", "different"]),
        ("tables.toy.datasets", ["cones-3"], ["tables.toy.datasets", "cones-3", "valid:"]),
        ("tables.toy.published", {"paper": "idrs", "table": 5}, ["tables.toy.published", "must be a list"]),
        ("tables", [], ["tables: []", "must be a mapping"]),
        ("tables.soundness.methods", [], ["tables.soundness.methods", "one or more"]),
        ("tables.soundness.stride", 0, ["tables.soundness.stride: 0", "at least 1"]),
        ("tables.soundness.shuffles", 0, ["tables.soundness.shuffles: 0", "at least 1"]),
        (
            "tables.empirical.predict.fewer",
            [10, 1000],
            ["predict.fewer: [10, 1000]; must be increasing, and below n, 1000"],
        ),
        ("tables.empirical.predict.fewer", [100, 10], ["predict.fewer: [100, 10]; must be increasing"]),
        ("tables.empirical.predict.fewer", [1], ["predict.fewer.0: 1", "at least 2"]),
        (
            "tables.empirical.predict",
            {"n": 10**9, "alpha": 0.1, "fewer": [10]},
            ["predict.n: 1000000000; must be below 1000000000 with fewer"],
        ),
        (
            "tables.soundness.predict",
            {"n": 9, "alpha": 0.1, "fewer": [2]},
            ["unknown key tables.soundness.predict.fewer"],
        ),
        ("tables.soundness.predict", {"n": 1, "alpha": 0.1}, ["tables.soundness.predict.n: 1", "at least 2"]),
        ("tables.soundness.predict", {"n": 9, "alpha": 1}, ["tables.soundness.predict.alpha: 1", "(0, 1)"]),
        ("toy.dataset", "cones-x", ["toy.dataset", "'cones-x'", "valid:"]),
        ("toy.constant", "toy-chen", ["toy.constant", "did you mean 'toy-cohen'"]),
        ("toy.sigma", 0.7, ["toy.sigma: 0.7", "datasets.cones-figures.sigmas", "0.6"]),
        ("pictures.method", "cohen-sd", ["pictures.method", "did you mean 'cohen-ds'"]),
        ("pictures.datasets", [], ["pictures.datasets: []", "one or more"]),
        ("pictures.datasets", ["digit"], ["pictures.datasets", "did you mean 'digits'"]),
        ("tables.evaluation.certification_seeds", [], ["tables.evaluation.certification_seeds: []", "one or more"]),
        ("tables.evaluation.certification_seeds", [-1], ["tables.evaluation.certification_seeds.0: -1", "at least 0"]),
        ("tables.table1.certification_seeds", [0], ["unknown key tables.table1.certification_seeds"]),
        ("high_dimension.method", "chen", ["high_dimension.method", "did you mean 'cohen'"]),
        ("high_dimension.method", None, ["high_dimension.method: null, published: none", "at least one"]),
        ("high_dimension.dimension", 0, ["high_dimension.dimension: 0", "at least 1"]),
        ("high_dimension.rates", [], ["high_dimension.rates: []", "one or more"]),
        ("high_dimension.rates", [0, float("nan")], ["high_dimension.rates", "nan", "finite"]),
        ("high_dimension.rates", [float("inf")], ["high_dimension.rates", "inf", "finite"]),
        ("high_dimension.rates", [-1], ["high_dimension.rates.0: -1", ">= 0"]),
        ("high_dimension.radii", [], ["high_dimension.radii: []", "one or more"]),
        ("high_dimension.published", ["cohen"], ["high_dimension.published: unknown 'cohen'", "valid: (none)"]),
        ("datasets.digits.certification.first", -1, ["datasets.digits.certification.first: -1", "at least 0"]),
        ("datasets.digits.certification.last", 0, ["datasets.digits.certification.last: 0", "greater than first, 0"]),
        ("methods.cohen.certification", {"first": 9, "last": 9}, ["methods.cohen.certification: last: 9", "first, 9"]),
        ("datasets.digts", {}, ["datasets.digts"]),
        ("methods.a b", {}, ["methods.a b"]),
    ],
)
def test_wrong_structure_is_named(content, path, value, words):
    with pytest.raises(ConfigError) as error:
        parse_params(changed(content, path, value))
    assert value == {} or "\n" not in str(error.value)  # a line for each key that {} lacks
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("methods.cohen-ds.policy.options.iteratons", 5, ["methods.cohen-ds.policy.options", "'iterations'"]),
        ("methods.cohen-ds.policy.options.iterations", [100, -1], ["methods.cohen-ds.policy", "iterations", "-1"]),
        ("methods.cohen-ds.policy.options.iterations", True, ["iterations: True; must be a whole number"]),
        ("methods.cohen-ds.policy.options.iterations", [10.0], ["iterations: 10.0; must be a whole number: 10"]),
        ("methods.cohen-ds.policy.options.iterations", "1e2", ["iterations: '1e2'; must be a whole number: 100"]),
        ("methods.cohen-ds.policy.options.step", "0.01", ["step: '0.01'; must be a finite number > 0: 0.01"]),
        ("datasets.digits.recipe.learning_rate", True, ["recipe", "learning_rate: True; must be a finite number"]),
        ("datasets.cones.options.dimension", True, ["cones: dimension: True; must be a whole number"]),
        ("datasets.digits.normalisation", {"mean": [0.5], "std": [0]}, ["normalisation.std: 0.0; must be"]),
        ("datasets.digits.certification.n", 9, ["datasets.digits.certification: ", "n: 9", "must be at least 10"]),
        ("methods.cohen.certification", {"n": 9}, ["methods.cohen.certification: for method 'cohen': n: 9;"]),
        (
            "datasets.digits.methods.cohen-ds",
            {"certification": {"alpha": 1e-99, "n": 300}},
            ["datasets.digits.methods.cohen-ds.certification: for method 'cohen-ds': n: 300;", "at least 329"],
        ),
        # Half of alpha bounds p_A: 0.001 ** (1 / 10) is above 1/2, 0.0005 ** (1 / 10) is not.
        ("methods.two-sided.certification", {"n": 10}, ["for method 'two-sided': n: 10;", "must be at least 11"]),
        ("tables.empirical.predict.fewer", [10, 20], ["tables.empirical.predict: n: 10;", "at least 11"]),
        ("tables.empirical.predict.n", 10, ["tables.empirical.predict: n: 10;", "alpha 0.001", "at least 11"]),
        ("tables.soundness.predict", {"n": 2, "alpha": 0.4}, ["tables.soundness.predict: n: 2;", "at least 3"]),
        ("methods.cohen-ds.policy.options.step", 0, ["step", "0"]),
        ("trainings.gaussian-ds.policy.options.samples", 0, ["trainings.gaussian-ds.policy", "samples"]),
        ("datasets.digits.recipe.epoch", 5, ["datasets.digits.recipe", "did you mean 'epochs'"]),
        ("datasets.digits.recipe.epochs", 0, ["datasets.digits.recipe", "epochs", "0"]),
        ("datasets.digits.recipe.augmentation", ["flop"], ["augmentation", "'flip'"]),
        ("datasets.imagenet.trainings.gaussian-ds.recipe.optimizer", "adam", ["optimizer", "'adamw'"]),
        ("datasets.cones.options.dimensions", 2, ["dimensions", "'dimension'"]),
        ("trainings.smoothadv.objective.options.attacker", "pdg", ["smoothadv.objective", "attacker", "'pgd'"]),
        ("trainings.smoothadv.objective.options.epsilon", -0.1, ["smoothadv.objective", "epsilon", "-0.1"]),
        ("trainings.smoothadv.objective.options.epsilon", [0.1, -1], ["smoothadv.objective", "epsilon", "-1"]),
        (
            "trainings.smoothadv.objective.options.epsilon",
            {0.12: 0.1, 0.25: 0.25},
            ["smoothadv.objective.options.epsilon: {0.12: 0.1, 0.25: 0.25}; must have an entry for sigma 0.5"],
        ),
        (
            "trainings.smoothadv.objective.options.epsilon",
            {sigma: -sigma for sigma in (0.12, 0.25, 0.5, 1.0)},
            ["trainings.smoothadv.objective", "epsilon: -0.12", ">= 0"],
        ),
        (
            "datasets.imagenet.sigmas",
            [0.25, 0.75],
            ["datasets.imagenet.trainings.smoothadv.objective", "0.25: 0.5,", "must have an entry for sigma 0.75"],
        ),
        (
            "datasets.digits.methods.cohen-ds",
            {"policy": {"step": {0.12: 0.1, 0.5: 0.1}}},
            ["datasets.digits.methods.cohen-ds.policy.options.step", "must have an entry for sigma 0.25"],
        ),
        (
            "tables.empirical.attacks.smoothed.attack.options.steps",
            {0.25: 2},
            ["tables.empirical.attacks.smoothed.attack.options", "steps: {0.25: 2}; must be a whole number"],
        ),
        (
            "trainings.smoothadv-both.teacher_weight",
            [],
            ["'teacher_weight' is []; must be one or more different values"],
        ),
        (
            "trainings.smoothadv-both.teacher_weight",
            [1, 1],
            ["smoothadv-both", "'teacher_weight' is [1.0, 1.0]; must be"],
        ),
        ("trainings.smoothadv.objective.options.steps", 0, ["smoothadv.objective", "steps", "at least 1"]),
        ("trainings.macer.objective.options.samples", 1, ["macer.objective", "samples", "at least 2"]),
        ("datasets.cifar10.trainings.macer.objective", {"gama": 1}, ["datasets.cifar10.trainings.macer", "'gamma'"]),
        ("trainings.gaussian.objective.options", {"x": 1}, ["trainings.gaussian.objective.options", "'x'"]),
        ("methods.border.policy.options.sigma", 0.5, ["methods.border.policy.options", "unknown key 'sigma'"]),
        ("methods.border.policy.options.rate", 0, ["methods.border.policy.options", "rate: 0", "> 0"]),
        (
            "methods.border.policy.options.rate",
            float("inf"),
            ["methods.border.policy.options", "rate: inf", "both given"],
        ),
        ("methods.border.policy.options.lower", 2, ["methods.border.policy.options", "lower: 2", "< 1"]),
        ("methods.border.policy.options.offst", 1, ["methods.border.policy.options", "did you mean 'offset'"]),
        ("methods.idrs.policy.options.rate", [], ["methods.idrs", "'rate' is []", "one or more"]),
        ("methods.idrs.policy.options.rate", [0.1, 0.1], ["methods.idrs", "'rate' is [0.1, 0.1]", "different"]),
        ("methods.idrs.policy.options.neighbours", 2.5, ["methods.idrs.policy.options", "neighbours: 2.5"]),
        ("methods.toy-idrs.policy.options.factor", -1, ["methods.toy-idrs.policy.options", "factor: -1", "> 0"]),
        (
            "trainings.smoothadv-pretrained.denoiser",
            {"name": "dncnn", "options": {"layers": 1}},
            ["trainings.smoothadv-pretrained.denoiser.options", "layers: 1; must be a whole number, at least 2"],
        ),
        ("methods.cohen-multi-start.policy.options", {"starts": 0}, ["methods.cohen-multi-start", "starts: 0"]),
        ("methods.two-sided.certificate.options", {"splt": 0.5}, ["methods.two-sided.certificate", "'split'"]),
        ("methods.two-sided.certificate.options", {"split": 1}, ["methods.two-sided.certificate", "split: 1", "< 1"]),
        (
            "methods.cohen-ds.certificate.name",
            "semi_elastic",
            ["methods.cohen-ds", "'data_dependent'", "semi-elasticity"],
        ),
        ("methods.cohen.certificate.name", "l1", ["tables.adre_table1.methods: radii of cohen in l1, adre-0.1 in l2"]),
        (
            "tables.table1.settings",
            {"digits": {"methods": ["cohen", "yang"]}},
            ["tables.table1.methods: radii of cohen in l2, yang in l1; must be of one norm"],
        ),
        (
            "tables.empirical.settings",
            {"digits": {"methods": ["yang"]}},
            ["tables.empirical.methods: 'yang' certifies in l1; must be l2"],
        ),
        ("methods.yang-ds.policy.options.norm", "l2", ["methods.yang-ds.policy.options.norm: 'l2'", "'l1'"]),
        (
            "tables.table4.methods",
            ["yang", "cohen"],
            ["tables.table4.methods", "yang in l1, cohen in l2", "norm: linf"],
        ),
        ("tables.table1.published.table", 44, ["tables.table1.published", "'ddrs 44 cifar10'", "'ddrs 4 cifar10'"]),
        ("tables.toy.published", [{"paper": "idrs", "table": 99}], ["tables.toy.published", "'idrs 99'", "'idrs 9'"]),
        ("tables.evaluation.methods", ["yang"], ["tables.evaluation.methods", "'yang' certifies in l1", "l2"]),
        (
            "tables.rates.baseline",
            "idrs",
            ["baseline: 'idrs' has 2 grid points on digits; must have one"],
        ),
        ("toy.constant", "toy-idrs", ["toy.constant: 'toy-idrs'", "constant sigma"]),
        ("toy.constant", "cohen-ds", ["toy.constant: 'cohen-ds' has 3 grid points on cones-figures"]),
        ("toy.input_dependent", "idrs-increased", ["toy", "'standard' and 'gaussian-increased'", "the same"]),
        ("toy.input_dependent", "cohen-multi-start", ["toy.input_dependent", "function of x alone"]),
        ("datasets.cones-figures.certification.stride", 3, ["toy", "stride 3 on cones-figures", "must be 1"]),
        ("pictures.method", "cohen", ["pictures.method: 'cohen'", "differs between images"]),
        ("datasets.cones-figures.certification.first", 3, ["toy", "first 3 on cones-figures", "must be 0"]),
        ("datasets.cones-figures.certification.last", 3, ["toy", "last 3 on cones-figures", "must be null"]),
        ("high_dimension.method", "idrs", ["high_dimension.method: 'idrs'", "constant sigma"]),
        ("high_dimension.method", "yang", ["high_dimension.method", "'yang' certifies in l1"]),
        ("methods.cohen.memory", "test_order", ["methods.dual: 'cohen' has the guarantee 'memory'", "must be global"]),
    ],
)
def test_wrong_option_of_a_member_is_named(content, path, value, words):
    with pytest.raises(ConfigError) as error:
        check_members(parse_params(changed(content, path, value)))
    for word in words:
        assert word in str(error.value)


def test_certificates_in_high_dimension_start_from_no_memory(content):
    whole = changed(changed(content, "methods.stability.memory", "test_order"), "high_dimension.method", "stability")
    with pytest.raises(ConfigError, match=r"high_dimension\.method: 'stability'; must have no memory"):
        check_members(parse_params(whole))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: on", ["seed: True; must be a whole number"]),
        ("seed: 010", ["seed: '010'; must be a whole number: 10"]),
        ("seed: 1:30", ["seed: '1:30'; must be a whole number"]),
        ("seed: 0x10", ["seed: '0x10'; must be a whole number"]),
        ("seed: 1e3", ["seed: 1000.0; must be a whole number: 1000"]),
        ("seed: 5,000", ["seed: '5,000'; must be a whole number, without separators: 5000"]),
        ("a: {n: 5,000}", ["n: 5,000; must be a whole number, without separators: 5000", "column 8"]),
        ("a: {n: 1,000,000, alpha: 0.1}", ["n: 1,000,000; must be a whole number, without separators: 1000000"]),
    ],
)
def test_numbers_are_read_as_they_stand(tmp_path, text, words):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        read_params(tmp_path / "params.yaml")
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("value", [0.001, 1e-05, 1.5e-07, 1e22, -0.0, 3.0, 7, -7, 0, 10**15])
def test_numbers_as_programs_write_them_are_numbers(value):
    """Python's repr is how JSON, and the YAML 1.2 of DVC, write a number: 1e-05 has no decimal point."""
    found = load_yaml(f"a: {value!r}")["a"]
    assert type(found) is type(value)
    assert repr(found) == repr(value)


def test_whole_numbers_are_numbers(content):
    content = changed(content, "methods.border.policy.options.offset", 1)
    params = parse_params(changed(content, "datasets.digits.sigmas", [1]))
    assert repr(params.datasets["digits"].sigmas) == "(1.0,)"
    check_members(params)


@pytest.mark.parametrize("name", ["../x", "a/b", "; touch x", "$(x)", "a b", "-x", ""])
def test_names_that_would_reach_a_path_or_a_shell_are_refused(content, name):
    method = content["methods"]["cohen"]
    with pytest.raises(ConfigError, match="bad name"):
        parse_params(changed(content, "methods", content["methods"] | {name: method}))


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        read_params(tmp_path / "absent.yaml")
    for text in ("a: [", "- 1", "", "\x00"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"bad\.yaml"):
            read_params(tmp_path / "bad.yaml")


@pytest.mark.slow
def test_the_workflow_reads_the_configuration_without_torch():
    code = (
        "import sys; from pathlib import Path; from certsmooth.experiment.resolve import Experiment;"
        "from certsmooth.experiment.config import read_params;"
        f"e = Experiment(read_params(Path({str(ROOT / 'params.yaml')!r}))); e.all_certificates(); e.all_counts();"
        "assert not {'torch', 'sklearn', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_grid_points_are_the_product_of_the_lists(content):
    params = parse_params(changed(content, "methods.cohen-ds.policy.options.samples", [1, 4]))
    known = runs.grid_points(params, "digits", "cohen-ds")
    found = [dict(v) for v in known]
    assert found == [{"iterations": k, "samples": n} for k in (100, 300, 900) for n in (1, 4)]
    assert runs.grid_name(known[0]) == "iterations=100+samples=1"
    assert runs.grid_points(params, "digits", "cohen") == ((),)
    with pytest.raises(ConfigError, match=r"did you mean 'iterations=900\+samples=4'"):
        runs.find_grid_point(known, "iterations=90+samples=4", key="grid")


def test_places_of_different_runs_differ(content):
    experiment = Experiment(parse_params(changed(content, "training_seeds", [0, 1])))
    found = list(runs.table_runs(experiment.params, "table1"))
    places = {(run.dataset, run.method, experiment.certify(run, "test").place) for run in found}
    assert len(places) == len(found) == 2 * 3 * (1 + 2 + 2)
    models = {runs.model_run(experiment.params, run) for run in found}
    assert len({experiment.train(model).path for model in models}) == len(models) == 2 * 3 * 2


def test_a_list_of_a_training_makes_one_training_and_one_certification_per_value(content):
    content = changed(content, "datasets.digits.methods.smoothadv-ds.policy.iterations", [1, 2])
    params = parse_params(changed(content, "trainings.smoothadv.objective.options.epsilon", [0.1, 0.2, 0.3]))
    found = [run for run in runs.table_runs(params, "table2") if run.sigma == 0.25]
    models = {runs.model_run(params, run) for run in found if run.method == "smoothadv-ds"}
    assert {dict(model.grid)["epsilon"] for model in models} == {0.1, 0.2, 0.3}
    assert len([run for run in found if run.method == "smoothadv-ds"]) == 3 * 2
    for model in models:
        spec = Experiment(params).train(model)
        assert spec.objective.options["epsilon"] == model.grid[0][1]
        assert spec.path.parent.name == f"epsilon={model.grid[0][1]}"


def test_an_option_has_the_value_of_its_sigma(content):
    """DDRS, Section 4.2: epsilon is 0.5 at sigma 0.25, and 1.0 at 0.5 and 1.0."""
    experiment = Experiment(parse_params(content))
    for sigma, epsilon in ((0.25, 0.5), (0.5, 1.0), (1.0, 1.0)):
        for training in ("smoothadv", "smoothadv-ds"):
            run = runs.ModelRun("imagenet", training, sigma, 0, ())
            assert experiment.train(run).identity["objective"]["options"]["epsilon"] == epsilon
            assert experiment.train(run).path.parent.name == "default"
    with pytest.raises(ConfigError, match=r"^datasets.imagenet.*options.epsilon: .* must have an entry for sigma 0.75"):
        experiment.train(runs.ModelRun("imagenet", "smoothadv", 0.75, 0, ()))


def test_a_value_for_each_sigma_goes_with_lists(content):
    steps = {0.12: 0.1, 0.25: 0.2, 0.5: 0.3, 1.0: 0.4}
    params = parse_params(changed(content, "methods.cohen-ds.policy.options.step", steps))
    assert len(runs.grid_points(params, "digits", "cohen-ds")) == 3
    for run in runs.table_runs(params, "table1"):
        if run.method == "cohen-ds":
            options = Experiment(params).sample(run, "test").policy.options
            assert (options["step"], options["iterations"]) == (steps[run.sigma], dict(run.grid)["iterations"])


def test_a_table_at_another_sigma_needs_a_value_for_it_as_well(content):
    values = dict.fromkeys((0.12, 0.25, 0.5, 0.6, 1.0, 2.0), 0.1)
    whole = changed(content, "trainings.smoothadv.objective.options.epsilon", values)
    at_its_own = {sigma: {"digits": {"sigmas": [0.25, sigma]}} for sigma in (2.0, 1.5)}
    check_members(parse_params(changed(whole, "tables.table1.settings", at_its_own[1.5])))  # without SmoothAdv
    check_members(parse_params(changed(whole, "tables.table2.settings", at_its_own[2.0])))
    with pytest.raises(ConfigError, match=r"^trainings.smoothadv.objective.options.epsilon: .* for sigma 1.5$"):
        check_members(parse_params(changed(whole, "tables.table2.settings", at_its_own[1.5])))


def test_a_value_for_one_sigma_is_merged_into_the_others(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    change = "{imagenet: {trainings: {smoothadv: {objective: {epsilon: {0.50: 2.0}}}}}}"
    (tmp_path / "params.yaml").write_text(f"dataset: imagenet\nseed: 0\ntraining_seeds: [0]\ndatasets: {change}\n")
    objective = read_params(tmp_path / "params.yaml").datasets["imagenet"].trainings["smoothadv"].objective
    assert objective["epsilon"] == {0.25: 0.5, 0.5: 2.0, 1.0: 1.0}


def test_a_list_of_weights_of_the_teacher_makes_one_training_per_value(content):
    """SmoothAdv, Table 2: the best of 0.1, 0.5 and 1.0, on CIFAR-10; on digits the weight is 1."""
    params = parse_params(changed(content, "dataset", "cifar10"))
    found = [run for run in runs.table_runs(params, "smoothadv_table2") if run.method == "smoothadv-self-trained"]
    assert len(found) == 4 * 4 * 3  # sigmas, epsilons, weights
    models = [Experiment(params).train(runs.model_run(params, run)) for run in found]
    for weight in (0.1, 0.5, 1.0):
        same = [model for model in models if model.label_weight == weight]
        assert len(same) == 4 * 4
        for model in same:
            epsilon = model.objective.options["epsilon"]
            assert model.path.parent.name == f"epsilon={epsilon}+teacher_weight={weight}"
    assert len({model.path for model in models}) == len({model.key for model in models}) == len(models)
    digits = parse_params(content)
    shown = [run for run in runs.table_runs(digits, "smoothadv_table2") if run.method == "smoothadv-self-trained"]
    assert {Experiment(digits).train(runs.model_run(digits, run)).label_weight for run in shown} == {1.0}


def test_too_many_combinations_are_refused_before_they_are_listed(content):
    content["methods"]["cohen-ds"]["policy"]["options"] |= {
        key: list(range(1, 102)) for key in ("iterations", "samples")
    }
    params = parse_params(content)
    with pytest.raises(ConfigError, match=r"methods.cohen-ds: 10201 combinations .* at most 10000"):
        runs.grid_points(params, "digits", "cohen-ds")


def test_an_option_that_is_a_list_twice_is_refused(content):
    content = changed(content, "trainings.gaussian-ds.policy.options.iterations", [1, 2])
    with pytest.raises(ConfigError, match=r"methods.cohen-ds2: option 'iterations' is a list twice"):
        check_members(parse_params(content))


def test_a_training_starts_from_another_on_one_data_set_alone(content):
    content = changed(content, "datasets.digits.trainings", {"stability": {"start": {"training": "gaussian"}}})
    params = parse_params(content)
    for dataset, start in (("digits", "gaussian"), ("mnist", None)):
        spec = Experiment(params).train(runs.ModelRun(dataset, "stability", 0.25, 0, ()))
        assert (spec.start and spec.start.training) == start
    key = "datasets.digits.trainings.stability.start.training"
    with pytest.raises(ConfigError, match=f"{key}: unknown 'gausian'; did you mean 'gaussian'"):
        parse_params(changed(content, key, "gausian"))
    with pytest.raises(ConfigError, match=f"{key}: 'smoothadv-pretrained'; must be a training with neither start"):
        parse_params(changed(content, key, "smoothadv-pretrained"))


def test_what_differs_on_a_data_set_differs_there_alone(content):
    content["datasets"]["digits"]["methods"] = {}
    change = {"recipe": {"epochs": 7}, "objective": {"epsilon": 0.5}, "policy": {}}
    content = changed(content, "datasets.digits.trainings", {"smoothadv": change})
    content = changed(content, "datasets.digits.methods", {"cohen-ds": {"policy": {"iterations": 3}}})
    params = parse_params(content)
    check_members(params)
    for dataset, epochs, epsilon in (("digits", 7, 0.5), ("mnist", 10, 0.25)):
        spec = Experiment(params).train(runs.ModelRun(dataset, "smoothadv", 0.25, 0, ()))
        assert spec.recipe["epochs"] == epochs
        assert spec.objective.options["epsilon"] == epsilon
    assert runs.grid_points(params, "digits", "cohen-ds") == ((),)
    assert len(runs.grid_points(params, "digits", "cohen-ds2")) == 3


def test_a_table_is_about_what_its_settings_say(content):
    params = parse_params(content)
    assert runs.table_choice(params, "smoothadv_table2").dataset == "digits-half-labelled"
    assert runs.table_choice(params, "smoothadv_table3").radii[0] == 0
    params = parse_params(changed(content, "dataset", "cifar10"))
    assert {run.dataset for run in runs.table_runs(params, "table1")} == {"cifar10"}
    assert {run.sigma for run in runs.table_runs(params, "adre_table1")} == {0.12, 0.25, 0.5, 1.0}
    assert {run.dataset for run in runs.table_runs(params, "adre_table1")} == {"cifar10-resnet110"}


def test_a_table_has_the_rows_of_the_chosen_data_set(content):
    """ADRE, Table 1: lambda is 0.1, 0.2 and 0.3 on CIFAR-10, 0.05 and 0.1 on ImageNet, where the rows end there."""
    weights = {"digits": [0.1, 0.2, 0.3], "cifar10": [0.1, 0.2, 0.3], "imagenet": [0.05, 0.1]}
    for dataset, expected in weights.items():
        params = parse_params(changed(content, "dataset", dataset))
        found = list(dict.fromkeys(run.method for run in runs.table_runs(params, "adre_table1")))
        assert found[0] == "cohen"
        assert [f"adre-{weight}" for weight in expected] == found[1 : 1 + len(expected)]
        assert (len(found) == 3) == (dataset == "imagenet")
        assert list(runs.table_slice(params, "adre_table1")["labels"]) == found
        for run in runs.table_runs(params, "adre_table1"):
            spec = Experiment(params).train(runs.model_run(params, run))
            if run.method in found[1 : 1 + len(expected)]:
                assert f"adre-{spec.objective.options['weight']}" == run.method
                assert spec.objective.options["samples"] == {"digits": 4, "cifar10": 8, "imagenet": 1}[dataset]
    published = {row["method"] for row in published_rows("adre", 1, "imagenet")}
    assert published == {"Basic", *(params.methods[method].label for method in found[1:])}  # of ImageNet


def test_what_a_training_builds_on(content):
    params = parse_params(content)
    run = runs.ModelRun("digits-half-labelled", "smoothadv-both", 0.25, 0, (("epsilon", 0.25),))
    assert runs.start_run(params, run) == runs.ModelRun("digits-half-labelled", "gaussian", 0.25, 0, ())
    assert runs.teacher_run(params, run) == runs.ModelRun("digits-half-labelled", "standard", 0.25, 0, ())
    assert runs.start_run(params, runs.ModelRun("digits", "gaussian", 0.25, 0, ())) is None
    with pytest.raises(ConfigError, match=r"datasets.digits.unlabelled: null; training 'smoothadv-both'"):
        runs.teacher_run(params, runs.ModelRun("digits", "smoothadv-both", 0.25, 0, ()))
    several = changed(
        content, "trainings.gaussian.policy", {"name": "data_dependent", "options": {"iterations": [1, 2]}}
    )
    with pytest.raises(ConfigError, match=r"start.training: 'gaussian' has 2 grid points"):
        runs.start_run(parse_params(several), run)


@pytest.mark.parametrize("dataset", ["digits", "mnist", "cifar10", "imagenet", "cones"])
def test_every_table_can_be_planned_on_every_data_set(content, dataset):
    params = parse_params(changed(content, "dataset", dataset))
    for table in (*params.of_kind(CertifiedTable), *params.of_kind(EmpiricalTable)):
        found = list(runs.table_runs(params, table))
        assert {params.datasets[run.dataset].member or run.dataset for run in found} == {dataset}
        for model in {runs.model_run(params, run) for run in found}:
            for earlier in (runs.start_run(params, model), runs.teacher_run(params, model)):
                assert earlier is None or (earlier.dataset, earlier.sigma) == (model.dataset, model.sigma)


def test_the_page_on_networks_says_what_params_yaml_takes():
    page = (ROOT / "docs" / "networks.md").read_text()
    found = []
    for given in re.findall(r"(?:architecture:|# or) ({.*})$", page, re.MULTILINE):
        content = shipped_content() | {"trusted": ["models"]}
        content["datasets"]["cifar10"]["architecture"] = load_yaml(given)
        found.append(parse_params(content).datasets["cifar10"].architecture.library)
    assert found == ["import", "timm", "torchvision"]
