"""What docs/sequential.md shows can be done as it stands there."""

import re

import numpy as np
import pytest
import torch
import yaml

from certsmooth._internal import registry
from certsmooth.errors import ConfigError
from certsmooth.experiment import runs
from certsmooth.experiment.config import parse_params
from certsmooth.science.certify import certify_counts
from factories import ROOT, shipped_content

PAGE = (ROOT / "docs" / "sequential.md").read_text()


def block(language):
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return found


def merged(old, new):
    inside = {key: merged(old.get(key, {}), value) for key, value in new.items() if isinstance(value, dict)}
    return {**old, **new, **inside}


def test_the_python_runs_and_most_images_take_few_samples():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10, bias=False))
    names = {"model": model, "images": torch.rand(4, 1, 8, 8)}
    exec(block("python"), names)
    found = names["found"]
    assert (found["n"] % 100 == 0).all()
    assert found["n"].between(100, 100_000).all()
    assert found["n"].min() < 20_000


def test_counts_of_different_n_need_n_max():
    selection, estimation = np.array([[90, 10], [60, 40]]), np.array([[1_990, 10], [300, 300]])
    with pytest.raises(ConfigError, match="n_max"):
        certify_counts(selection, estimation, 0.5, alpha=0.001)
    found = certify_counts(selection, estimation, 0.5, alpha=0.001, n_max=100_000)
    assert (found["predict"] == [0, -1]).all()


def test_the_yaml_gives_the_rules_that_the_text_says():
    params = parse_params(merged(shipped_content(), yaml.safe_load(block("yaml"))))
    others = runs.stop_of(params, "digits", "cohen-ds")
    assert others.rule.name == "radii"
    assert others.rule.options["radii"] == runs.table_radii(params, "digits", "cohen-ds")
    cohen = runs.stop_of(params, "digits", "cohen").rule
    assert (cohen.name, dict(cohen.options)) == ("precision", {"within": 0.01})
    assert params.certification("digits", "cohen").n == 100_000


def test_the_page_has_every_rule_and_its_default_chance():
    rows = re.findall(r"^\| `(\w+)` \| (?:none|`Stop)", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(registry.names("stopping"))
    chances = {registry.member("stopping", name).chance for name in rows}
    assert f"`chance` ({chances.pop():g})" in PAGE
    assert not chances
