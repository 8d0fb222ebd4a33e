"""Columns Train and Certify of tables, and their legend: they follow from the sigma policies."""

from __future__ import annotations

import subprocess
import sys

import pytest

from certsmooth._internal import registry
from certsmooth._internal.labels import legend, policy_label, uses_noise
from certsmooth.errors import ConfigError
from certsmooth.experiment.config import parse_params
from certsmooth.experiment.labels import labels_of
from certsmooth.science import certificates
from factories import shipped_content

CONTENT = shipped_content()
SHOWN = {
    ("FS", "DS"): {
        "cohen-ds",
        "cohen-ds-algorithm-1",
        "cohen-ds-held",
        "smoothadv-ds",
        "macer-ds",
        "macer-ds-n1",
        "cohen-multi-start",
        "yang-ds",
    },
    ("DS", "DS"): {"cohen-ds2", "smoothadv-ds2", "macer-ds2"},
    ("FS", "NN"): {
        "idrs",
        "idrs-one-rate",
        "idrs-thresholds-cifar10",
        "idrs-thresholds-mnist",
        "idrs-increased",
        "idrs-average",
    },
    ("NN", "NN"): {"idrs-training", "idrs-training-4", "idrs-training-10"},
    ("NN", "FS"): {"gaussian-nn"},
    ("FS", "BD"): {"border"},
    ("FS", "router"): {"dual"},
    ("none", "FS"): {"standard", "toy-cohen"},
    ("none", "NN"): {"toy-idrs", "toy-idrs-equal"},
}
"""As the tables showed them when every method said them itself; all others were FS, FS."""


def test_every_method_is_shown_as_it_always_was():
    params = parse_params(CONTENT)
    different = {name: shown for shown, methods in SHOWN.items() for name in methods}
    assert {name: labels_of(params, name) for name in params.methods} == {
        name: different.get(name, ("FS", "FS")) for name in params.methods
    }


@pytest.mark.parametrize("name", registry.names("sigma"))
def test_what_the_file_says_is_what_the_class_has(name):
    policy = registry.member("sigma", name)
    assert policy_label(name) == policy.label
    assert legend([policy.label]) == f"{policy.label}: {policy.legend}."


@pytest.mark.parametrize("name", registry.names("objectives"))
def test_an_objective_without_noise_is_known_from_its_file(name):
    assert uses_noise(name) == registry.member("objectives", name).uses_noise == (name != "standard")


def test_a_new_policy_under_an_old_method_is_shown_as_itself():
    content = {**CONTENT, "methods": {**CONTENT["methods"]}}
    policy = {"name": "border_distance", "options": {"rate": 0.01}}
    content["methods"]["new"] = {"like": "cohen", "label": "New", "policy": policy}
    assert labels_of(parse_params(content), "new") == ("FS", "BD")


def test_the_legend_names_what_is_shown_once_and_nothing_else():
    assert legend(["none", "FS", "FS", "NN", "of a paper"]) == (
        "none: training without noise. FS: one fixed sigma. "
        "NN: sigma grows with the distance to the nearest training images."
    )
    assert legend([]) == ""


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("legend = 'said without a type'", r"no label; must be a class attribute, label: ClassVar"),
        ("label = 'SI'", r"no label; must be a class attribute, label: ClassVar"),
        ("label: ClassVar[str] = 'S' + letter", r"label: 'S' \+ letter; must be a literal$"),
    ],
)
def test_a_file_without_a_label_is_named(said, message, tmp_path, monkeypatch):
    (tmp_path / "sigma").mkdir()
    (tmp_path / "sigma" / "silent.py").write_text(f"class Silent:\n    {said}\n")
    monkeypatch.setattr(registry, "_FOLDER", tmp_path)
    monkeypatch.setattr(registry, "names", registry.names.__wrapped__)  # which remembers the real ones
    with pytest.raises(ConfigError, match=rf"sigma/silent\.py: {message}"):
        policy_label("silent")


def test_a_member_is_what_its_file_is_read_as(tmp_path, monkeypatch):
    """Counts are sampled with the noise that the file says: the noise of a class that it inherits from is not seen."""
    code = """
from dataclasses import dataclass
from certsmooth.science.certificates.l1 import L1Certificate

@dataclass(frozen=True)
class Inherits(L1Certificate):
    pass
"""
    (tmp_path / "certificates").mkdir()
    (tmp_path / "certificates" / "inherits.py").write_text(code)
    monkeypatch.setattr(certificates, "__path__", [*certificates.__path__, str(tmp_path / "certificates")])
    monkeypatch.setattr(registry, "_FOLDER", tmp_path)
    monkeypatch.setattr(registry, "names", registry.names.__wrapped__)
    message = r"inherits\.py: Inherits: noise reads 'gaussian'; must be .*, noise: ClassVar\[\.\.\.\] = 'uniform'$"
    with pytest.raises(ConfigError, match=message):
        registry.member("certificates", "inherits")


def test_a_method_cannot_say_a_label_itself():
    content = {**CONTENT, "methods": {**CONTENT["methods"], "new": {"like": "cohen", "train": "FS"}}}
    with pytest.raises(ConfigError, match=r"unknown key methods\.new\.train; "):
        parse_params(content)


@pytest.mark.slow
def test_labels_need_no_torch():
    code = "import sys; from certsmooth.experiment import labels; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
