"""Whatever params.yaml holds, it is refused with a `ConfigError` or it is an experiment inside its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from certsmooth.errors import ConfigError
from certsmooth.experiment.config import EmpiricalTable, Params, SoundnessTable, parse_params, read_params
from certsmooth.experiment.members import check_members
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.specs import audit_path, certificates_path, counts_paths
from factories import SMALL, changed, small_content
from fuzzing import changed_bytes, changed_tree, fuzz

pytestmark = pytest.mark.slow


def _check_and_list(params: Params) -> None:
    """Check all members, and walk over all that there would be to make, as the workflow does."""
    check_members(params)
    experiment = Experiment(params)
    for model in experiment.models():
        _inside(model.path, parts=7)
        json.dumps(model.identity, allow_nan=False)
    for demand in experiment.demands:
        certified, counted = experiment.certificates(demand.run), experiment.counts(demand.run)
        assert experiment.certify(demand.run, demand.split) in certified.parts
        assert experiment.sample(experiment.sampled_by(demand.run), demand.split) in counted.parts
        _inside(certificates_path(certified.name), parts=4)
        for path in counts_paths(counted):
            _inside(path, parts=5)
        json.dumps(certified.identity, allow_nan=False)
    for table in params.of_kind(EmpiricalTable):
        for dataset, method in experiment.audited(table):
            for attack in params.tables[table].attacks:
                _inside(audit_path(table, experiment.attacks(table, attack, dataset, method).name, attack), parts=6)
    for table in params.of_kind(SoundnessTable):
        for dataset, method in experiment.audited(table):
            for made in (experiment.orders, experiment.breakings):
                _inside(audit_path(table, made(table, dataset, method).name, "x"), parts=6)


def _inside(path: Path, *, parts: int) -> None:
    assert not path.is_absolute()
    assert len(path.parts) == parts
    assert ".." not in path.parts
    assert str(path).isprintable()
    assert all(len(part) < 255 for part in path.parts)


def _refused_or_fine(error: ConfigError) -> None:
    assert len(str(error)) < 50_000
    str(error).encode()  # can be printed


def test_the_configuration_without_a_change_is_fine() -> None:
    _check_and_list(parse_params(small_content()))


def test_seeds_whose_files_no_system_could_name_are_refused() -> None:
    few, many = (changed(small_content(), ("training_seeds",), list(range(n))) for n in (60, 100))
    _check_and_list(parse_params(few))
    with pytest.raises(ConfigError, match=r"^training_seeds: 99 of digits/cohen; must be fewer: files are named"):
        _check_and_list(parse_params(many))


@fuzz(250)
@given(content=changed_tree(small_content))
def test_another_tree(content: dict[Any, Any]) -> None:
    try:
        _check_and_list(parse_params(content))
    except ConfigError as error:
        _refused_or_fine(error)


@fuzz(250)
@given(content=changed_bytes(SMALL.encode()))
def test_another_text(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "params.yaml"
    path.write_bytes(content)
    try:
        params = read_params(path)
    except ConfigError as error:
        _refused_or_fine(error)
        assert str(error).startswith(str(path))
        return
    try:
        _check_and_list(params)
    except ConfigError as error:
        _refused_or_fine(error)


@fuzz(100)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"any\.yaml"):
        read_params(path)


@fuzz(100)
@given(content=changed_tree(small_content))
def test_what_the_strict_reader_takes_is_what_the_safe_one_takes(
    tmp_path_factory: pytest.TempPathFactory, content: dict[Any, Any]
) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "same.yaml"
    try:
        text = yaml.safe_dump(content, allow_unicode=True)
        path.write_text(text, encoding="utf-8")
    except (yaml.YAMLError, UnicodeEncodeError):
        return
    try:
        params = read_params(path)
    except ConfigError as error:
        _refused_or_fine(error)
        return
    if "1e400" not in text:  # a number for YAML 1.2 and the strict reader, text for the safe one
        assert repr(params) == repr(parse_params(yaml.safe_load(text)))
