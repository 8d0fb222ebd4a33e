"""Files of other programs hold tensors, numbers and text, or are refused; nothing that they name runs."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch

from certsmooth.artefacts.foreign import read_foreign
from certsmooth.errors import CheckpointError
from certsmooth.science.models import ModelSpec
from factories import save_classifier

STATE = OrderedDict({"a.weight": torch.arange(6.0).view(2, 3), "a.steps": torch.tensor(3)})


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("owned"),)


class Reserve:
    """Memory that the file does not hold."""

    def __reduce__(self):
        return bytearray, (2**40,)


@pytest.fixture(autouse=True)
def _nothing_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not Path("owned").exists()


def equal(found, right):
    return found.keys() == right.keys() and all(torch.equal(found[name], right[name]) for name in right)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("content", "about"),
    [
        (STATE, {}),
        (dict(STATE), {}),
        (
            {"state_dict": STATE, "epoch": 3, "arch": "net", "optimizer": {"state": {0: {"x": torch.zeros(2)}}}},
            {"epoch": 3, "arch": "net"},
        ),
        ({"net": STATE, "best": 0.5}, {"best": 0.5}),
        ({"somebodys": STATE}, {}),
        ({"state_dict": STATE, "ema": STATE}, {}),
    ],
)
def test_the_state_is_found(content, about, legacy):
    torch.save(content, "a.pt", _use_new_zipfile_serialization=not legacy)
    found = read_foreign(Path("a.pt"))
    assert equal(found.tensors, STATE)
    assert found.about == about


def test_safetensors_are_read():
    safetensors.torch.save_file(dict(STATE), "a.safetensors")
    assert equal(read_foreign(Path("a.safetensors")).tensors, STATE)


def test_a_checkpoint_of_ours_needs_no_import(tmp_path):
    path = save_classifier(tmp_path / "ours.safetensors", ModelSpec("mlp", (2,), 3))
    with pytest.raises(CheckpointError, match="is a checkpoint of certsmooth"):
        read_foreign(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"state_dict": STATE, "x": Bomb()},
            r"holds pathlib\S*\.Path|holds builtins\.getattr|holds __builtin__\.getattr",
        ),
        ({"state_dict": STATE, "x": Reserve()}, r"holds \w+\.bytearray, not tensors"),
        ({"state_dict": STATE, "args": SimpleNamespace(lr=1)}, r"holds types\.SimpleNamespace"),
        ({"state_dict": STATE, "best": np.float64(0.5)}, r"holds numpy\S*\.scalar"),
        (torch.nn.Linear(2, 2), r"holds torch\.nn\S*Linear.*torch\.save\(model\.state_dict\(\), FILE\)"),
        ({"epoch": 3}, "holds epoch; must have the state of one network"),
        ({"one": STATE, "other": STATE}, "holds one, other; must have the state of one network"),
        ([1, 2], "holds list; must have"),
        ({}, "holds dict; must have"),
        ({"a": torch.zeros(1).expand(2**40)}, "a: its values are not in the file"),
    ],
)
def test_what_is_no_state_is_refused(content, said, legacy):
    torch.save(content, "a.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=rf"^a\.pt: ({said})"):
        read_foreign(Path("a.pt"))


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_is_refused(protocol):
    Path("a.pt").write_bytes(pickle.dumps(Bomb(), protocol=protocol))
    with pytest.raises(CheckpointError, match=r"a\.pt: "):
        read_foreign(Path("a.pt"))


def test_a_compressed_archive_is_refused():
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile("a.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    with pytest.raises(CheckpointError, match=r"a\.pt: compressed"):
        read_foreign(Path("a.pt"))


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04", b"\x80\x02.", b"\x00" * 8 + b"{", b"\xff" * 8 + b"{}"])
def test_other_bytes_are_refused(content):
    Path("a.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pt: "):
        read_foreign(Path("a.pt"))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_file_is_refused(legacy):
    torch.save({"state_dict": STATE}, "whole.pt", _use_new_zipfile_serialization=not legacy)
    whole = Path("whole.pt").read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        Path("a.pt").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"a\.pt: "):
            read_foreign(Path("a.pt"))
    with pytest.raises(CheckpointError, match=r"b\.pt: cannot be read"):
        read_foreign(Path("b.pt"))
