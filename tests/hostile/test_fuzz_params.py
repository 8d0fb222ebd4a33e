"""Whatever params.yaml holds, it is refused with a `ConfigError` or it is an experiment inside its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import small_params
from certsmooth.errors import ConfigError
from certsmooth.experiment import runs
from certsmooth.experiment.config import Params, parse_params, read_params
from certsmooth.experiment.members import check_members
from fuzzing import changed_bytes, changed_tree, fuzz


def _check_and_list(params: Params) -> None:
    """Check all members, and walk over what there would be to do."""
    check_members(params)
    for table in params.tables:
        for run in runs.table_runs(params, table):
            model = runs.model_run(params, run)
            for folder in (run.folder, model.folder, runs.sampling_run(params, run).folder):
                assert not folder.is_absolute()
                assert len(folder.parts) == 5
                assert ".." not in folder.parts
                assert str(folder).isprintable()
                assert all(len(part) < 255 for part in folder.parts)
            runs.train_slice(params, model), runs.sample_slice(params, run), runs.certify_slice(params, run)
            runs.start_run(params, model), runs.teacher_run(params, model)


def _refused_or_fine(error: ConfigError) -> None:
    assert len(str(error)) < 50_000
    str(error).encode()  # can be printed


def test_the_configuration_without_a_change_is_fine() -> None:
    _check_and_list(parse_params(small_params.content()))


@fuzz(250)
@given(content=changed_tree(small_params.content))
def test_another_tree(content: dict[Any, Any]) -> None:
    try:
        _check_and_list(parse_params(content))
    except ConfigError as error:
        _refused_or_fine(error)


@fuzz(250)
@given(content=changed_bytes(small_params.TEXT.encode()))
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
@given(content=changed_tree(small_params.content))
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
