"""Whatever happens to a file, it is read as what it was, or refused with an error that names it.

Files with a checksum inside: after any change, the error or the old content. Files without one (published certificates,
copies of data sets): the error, or content that is valid.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torchvision.datasets import CIFAR10

from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.attacks import AttackCounts
from certsmooth.artefacts.audits import Broken, OrderPart, read_order_cost, write_order_costs
from certsmooth.artefacts.certificates import (
    CERTIFICATES,
    TYPES,
    CertificatesPart,
    export_certificates,
    read_certificates,
    read_published_certificates,
    write_certificates,
)
from certsmooth.artefacts.counts import CountsJournal, CountsPart, read_counts, write_counts
from certsmooth.artefacts.envelope import Form
from certsmooth.artefacts.parts import Part, read_parts, write_parts
from certsmooth.artefacts.records import log_path, read_logs, read_record, write_logs
from certsmooth.artefacts.tensors import read_tensors, write_tensors
from certsmooth.artefacts.training_state import EpochLog, load_state, save_state
from certsmooth.errors import CertsmoothError
from certsmooth.experiment.specs import DataSpec
from certsmooth.experiment.steps import data as data_step
from certsmooth.science import datasets
from certsmooth.science.audit.order import OrderCost, Score
from certsmooth.science.datasets import cifar10
from certsmooth.science.datasets._unlabelled import read_unlabelled
from certsmooth.science.models import ModelSpec
from factories import (
    IDENTITY,
    Sample,
    certificates_frame,
    certificates_provenance,
    class_files,
    image_bytes,
    log,
    make_sample,
    numbered_files,
    random_counts,
    save_classifier,
    write_binary,
    write_folder,
    write_idx,
    write_npz,
    write_own_npz,
    write_own_parquet,
    write_tar,
)
from fuzzing import changed_bytes, changed_tree, fuzz

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        write: writes one in a folder, and returns the file that is changed.
        read: reads it, as plain values that can be compared.
        exact: whether any other content than the old one must be refused.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], object]
    exact: bool = True


def _plain(value: Any) -> Any:
    """Return a value that equals another one exactly if their types, shapes and bits do."""
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, pd.DataFrame):
        return value.to_csv(sep="\t")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        # Without the order: safetensors gives a file's tensors in one that differs from reading to reading.
        return sorted(((key, _plain(each)) for key, each in value.items()), key=repr)
    return [_plain(each) for each in value] if isinstance(value, tuple | list) else value


OTHER = {**IDENTITY, "dataset": "mnist"}
ROWS = np.arange(6, dtype=np.int64)
REALS = np.linspace(0.1, 0.9, 6)
CLASSES = np.arange(18, dtype=np.int64).reshape(6, 3)
SPEC = ModelSpec("mlp", (2,), 3)


def _write_counts(folder: Path) -> Path:
    write_counts(folder / "0-of-1.parquet", _count_parts(IDENTITY))
    return folder / "0-of-1.parquet"


def _count_parts(identity: dict[str, Any]) -> list[CountsPart]:
    return [CountsPart(random_counts(6), identity), CountsPart(random_counts(6), OTHER)]


def _write_logs(folder: Path) -> Path:
    _write_counts(folder)
    write_logs(folder / "0-of-1.parquet", [log([0.5, 0.25], threads=threads) for threads in (1, 2)])
    return log_path(folder / "0-of-1.parquet")


def _write_attack(folder: Path) -> Path:
    table = AttackCounts(ROWS, ROWS, ROWS, REALS, REALS, REALS, CLASSES, ROWS)
    AttackCounts.write(folder / "pgd.parquet", [(table, IDENTITY), (table, OTHER)])
    return folder / "pgd.parquet"


def _write_broken(folder: Path) -> Path:
    columns = (ROWS, ROWS, REALS, REALS, ROWS, ROWS, REALS, REALS, CLASSES, ROWS)
    Broken.write(folder / "broken.parquet", [(Broken(*columns), OTHER), (Broken(*columns), IDENTITY)])
    return folder / "broken.parquet"


def _write_order(folder: Path) -> Path:
    score = Score((0.5, 0.25), 0.3)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(OrderCost):
        kind = str(field.type)
        values[field.name] = score if kind == "Score" else (0.0, 0.5) if "tuple" in kind else 3
    parts = [OrderPart(OrderCost(**values), identity) for identity in (OTHER, IDENTITY)]
    write_order_costs(folder / "order.json", parts)
    return folder / "order.json"


def _write_checkpoint(folder: Path) -> Path:
    return save_classifier(folder / "model.safetensors", SPEC, pixel_range=None)


def _read_checkpoint(path: Path) -> object:
    classifier, header = checkpoint.load(path)
    return dict(classifier.network.state_dict()), header


LOG = [EpochLog(0, 0.1, 1.0, 0.5, 0.25, 0.2, 0.3, 1.5)]


def _fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return model, optimizer


def _write_state(folder: Path) -> Path:
    model, optimizer = _fresh()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    path = folder / "state.safetensors"
    save_state(path, "0" * 64, SimpleNamespace(model=model, optimizer=optimizer, sigma=torch.ones(4)), LOG)
    return path


def _read_state(path: Path) -> object:
    model, optimizer = _fresh()
    sigma = torch.zeros(4)
    log = load_state(path, "0" * 64, SimpleNamespace(model=model, optimizer=optimizer, sigma=sigma))
    return dict(model.state_dict()), optimizer.state_dict()["state"], sigma, log


def _write_certificates(folder: Path) -> Path:
    parts = [CertificatesPart(certificates_frame(), spec, certificates_provenance()) for spec in (IDENTITY, OTHER)]
    write_certificates(folder / "seed=0.parquet", parts)
    return folder / "seed=0.parquet"


def _write_exported(folder: Path) -> Path:
    export_certificates(folder / "test.tsv", certificates_frame())
    return folder / "test.tsv"


def _write_published(folder: Path) -> Path:
    columns = ["idx", "label", "predict", "radius", "correct", "time"]
    certificates_frame()[columns].to_csv(folder / "published.tsv", sep="\t", index=False)
    return folder / "published.tsv"


def _read_published(path: Path) -> object:
    frame = read_published_certificates(path)
    assert np.isfinite(frame["radius"]).all()
    assert (frame["radius"] >= 0).all()
    return frame


DATA = DataSpec(
    dataset="cones", member="cones", options={"train_per_class": 10, "test_per_class": 4}, validation=0.5,
    unlabelled=None, seed=0, source=None,
)  # fmt: skip


def _write_record(folder: Path) -> Path:
    data_step.record_data(DATA, results=folder)
    return folder / DATA.path


def _read_record(path: Path) -> object:
    record = read_record(path, spec=DATA.identity)
    return record, data_step.load_part(DATA, "test", record)


def _write_kept(folder: Path) -> Path:
    record = json.loads(_write_record(folder).read_text())
    return Path("data", "parts", record["parts"]["test"]["fingerprint"].removeprefix("sha256:") + ".npz").absolute()


def _read_kept(path: Path) -> object:
    assert path.is_file()
    return data_step.load_part(DATA, "test", read_record(path.parents[2] / DATA.path))


def _write_unlabelled(folder: Path) -> Path:
    np.savez(folder / "images.npz", images=np.arange(96, dtype=np.uint8).reshape(8, 2, 2, 3))
    return folder / "images.npz"


def _write_journal(folder: Path) -> Path:
    with CountsJournal(folder / "counts.parquet", IDENTITY) as journal:
        for position in range(6):
            columns = _plain_row(position)
            journal.append({"position": position, **columns})
        return journal.path


def _plain_row(position: int) -> dict[str, Any]:
    counts = random_counts(6)
    return {field.name: getattr(counts, field.name)[position].tolist() for field in dataclasses.fields(counts)}


def _own_forms() -> Iterator[tuple[str, Format]]:
    """Images of one's own, of three classes: read as valid images, or refused by name."""
    sample = make_sample((6, 5, 3), train=20, test=10)

    def form(name: str, file: str, write: Callable[[Path], object], **options: object) -> Format:
        def make(where: Path) -> Path:
            write(where)
            return where / file

        def read(path: Path) -> object:
            source = path if name == "npz" else next(each for each in path.parents if (each / file) == path)
            dataset = datasets.load(name, source=source, options=options)
            found = [dataset.train(), dataset.test()]
            for split in found:
                images = split.images[np.arange(len(split))]
                assert images.dtype == np.uint8
                assert images.shape == (len(split), *dataset.image_shape)
                assert 0 <= split.labels.min() <= split.labels.max() < dataset.num_classes
            return [(split.images[np.arange(len(split))], split.labels) for split in found]

        return Format(make, read, exact=False)

    def jpegs(where: Path) -> None:
        images = {name.replace(".png", ".jpg"): image_bytes(np.asarray(Image.open(io.BytesIO(data))), "JPEG")
                  for name, data in class_files(sample).items()}  # fmt: skip
        write_folder(where, images)

    def listed(where: Path) -> None:
        names = write_folder(where, class_files(sample))
        rows = [f"{name.split('/')[0]},{name},{name.split('/')[1]}" for name in class_files(sample)]
        (names / "labels.csv").write_text("\n".join(["split,file,label", *rows]))

    first = next(iter(class_files(sample)))
    yield "folder png", form("folder", first, lambda where: write_folder(where, class_files(sample)))
    yield "folder jpg", form("folder", first.replace(".png", ".jpg"), jpegs, size=8, crop=7)
    yield "folder labels.csv", form("folder", "labels.csv", listed)
    yield "own npz", form("npz", "own.npz", lambda where: write_own_npz(where / "own.npz", sample))
    table = "data/train-00000-of-00002.parquet"
    yield "parquet", form("parquet", table, lambda where: write_own_parquet(where, sample), size=8, crop=7)


SAMPLES = {
    "mnist": make_sample((28, 28, 1), train=2, test=4),
    "cifar10": make_sample((32, 32, 3), train=5, test=1),
}


def _copies() -> Iterator[tuple[str, Format]]:
    def copy(name: str, file: str, write: Callable[[Path, Sample], object], *, folder: bool = True) -> Format:
        def make(where: Path) -> Path:
            write(where, SAMPLES[name])
            return where / file

        def read(path: Path) -> object:
            source = next(each for each in path.parents if (each / file) == path) if folder else path
            split = datasets.load(name, source=source).test()
            _, height, width, channels = SAMPLES[name].images["test"].shape
            assert split.images[:].shape[1:] == (channels, height, width)
            assert len(split) == len(split.images) == len(set(split.index.tolist())) > 0
            assert 0 <= split.labels.min() <= split.labels.max() < 10
            return split.images[:], split.labels

        return Format(make, read, exact=False)

    for name, kind in (("mnist", "PNG"), ("cifar10", "JPEG")):
        image = f"test/00000.{'png' if kind == 'PNG' else 'jpg'}"

        def folder(where: Path, sample: Sample, kind: str = kind) -> None:
            write_folder(where, numbered_files(sample, kind=kind))

        yield f"{name} image", copy(name, image, folder)
        yield f"{name} labels.csv", copy(name, "labels.csv", folder)
        for end in (".tar", ".tar.xz"):

            def archive(where: Path, sample: Sample, kind: str = kind, end: str = end) -> None:
                write_tar(where / f"copy{end}", numbered_files(sample, kind=kind))

            yield f"{name} {end}", copy(name, f"copy{end}", archive, folder=False)

        def arrays(where: Path, sample: Sample) -> None:
            write_npz(where / "copy.npz", sample)

        yield f"{name} npz", copy(name, "copy.npz", arrays, folder=False)
    for packed in (True, False):

        def idx(where: Path, sample: Sample, packed: bool = packed) -> None:
            write_idx(where, sample, packed=packed)

        for part in ("images-idx3", "labels-idx1"):
            file = f"t10k-{part}-ubyte{'.gz' if packed else ''}"
            yield file, copy("mnist", file, idx)

    def binary(where: Path, sample: Sample) -> None:
        write_binary(where, sample)

    yield "test_batch.bin", copy("cifar10", "test_batch.bin", binary)


FORMATS = {
    "checkpoint": Format(_write_checkpoint, _read_checkpoint),
    "training state": Format(_write_state, _read_state),
    "counts": Format(_write_counts, read_counts),
    "logs": Format(_write_logs, lambda path: read_logs(path.with_name("0-of-1.parquet"))),
    "attack": Format(_write_attack, lambda path: AttackCounts.read(path, expect=IDENTITY)),
    "broken": Format(_write_broken, lambda path: Broken.read(path, expect=IDENTITY)),
    "order": Format(_write_order, lambda path: read_order_cost(path, expect=IDENTITY)),
    "certificates": Format(_write_certificates, read_certificates),
    "exported": Format(_write_exported, _read_published, exact=False),
    "published": Format(_write_published, _read_published, exact=False),
    "record": Format(_write_record, _read_record),
    "kept part": Format(_write_kept, _read_kept),
    "unlabelled": Format(
        _write_unlabelled, lambda path: read_unlabelled(path, image_shape=(3, 2, 2))[0].shape[1:], exact=False
    ),
    **dict(_copies()),
    **dict(_own_forms()),
}


@pytest.fixture(scope="module", params=FORMATS)
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Format, Path, bytes]]:
    """A file of each kind, and what it holds."""
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(cifar10, "_BATCH_IMAGES", 1)
        chosen = FORMATS[request.param]
        path = chosen.write(folder)
        yield chosen, path, path.read_bytes()


@fuzz(20)
@given(choices=st.data())
def test_a_changed_file(written: tuple[Format, Path, bytes], choices: st.DataObject) -> None:
    chosen, path, content = written
    path.write_bytes(content)
    before = _plain(chosen.read(path))
    path.write_bytes(choices.draw(changed_bytes(content)))
    try:
        found = _plain(chosen.read(path))
    except CertsmoothError as error:
        assert path.stem in str(error) or path.parent.name in str(error)
        assert len(str(error)) < 20_000
    else:
        assert not chosen.exact or repr(found) == repr(before)


@fuzz(100)
@given(choices=st.data())
def test_a_changed_journal(tmp_path_factory: pytest.TempPathFactory, choices: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("journal")
    path = _write_journal(folder)
    path.write_bytes(choices.draw(changed_bytes(path.read_bytes())))
    try:
        with CountsJournal(folder / "counts.parquet", IDENTITY) as journal:
            rows = journal.rows
    except CertsmoothError as error:
        assert path.name in str(error)
    else:
        for position, row in rows.items():
            assert {key: row[key] for key in _plain_row(position)} == _plain_row(position)


# From here: whoever changes a file also mends its checksum. What he writes is his to answer for, but it must be an
# error of certsmooth or content of the right form.


def _forge_certificates(path: Path, change: Callable[[Any], Any]) -> None:
    first, *others = read_parts(path, CERTIFICATES, TYPES)
    write_parts(path, CERTIFICATES, [Part(change(dict(first.identity)), first.columns), *others])


def _forge_checkpoint(path: Path, change: Callable[[Any], Any]) -> None:
    tensors, header = read_tensors(path, checkpoint.FORM)
    write_tensors(path, checkpoint.FORM, tensors, change(header))


def _forge_record(path: Path, change: Callable[[Any], Any]) -> None:
    found = json.loads(path.read_text())
    content = change({key: value for key, value in found.items() if key not in ("format", "sha256")})
    if isinstance(content, dict):
        Form(found["format"], "").write_json(path, content)
    else:
        path.write_text(json.dumps(content))


def _forge_counts(path: Path, change: Callable[[Any], Any]) -> None:
    identity = change(json.loads(json.dumps(IDENTITY)))
    write_counts(path, _count_parts(identity))


FORGERIES: dict[str, Callable[[Path, Callable[[Any], Any]], None]] = {
    "certificates": _forge_certificates,
    "checkpoint": _forge_checkpoint,
    "record": _forge_record,
    "order": _forge_record,
    "logs": _forge_record,
    "counts": _forge_counts,
}


@pytest.mark.parametrize("kind", FORGERIES)
@fuzz(40)
@given(choices=st.data())
def test_a_forged_file(kind: str, tmp_path_factory: pytest.TempPathFactory, choices: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("forged")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        chosen = FORMATS[kind]
        path = chosen.write(folder)

        def change(content: object) -> object:
            return choices.draw(changed_tree(lambda: json.loads(json.dumps(content))))

        try:
            FORGERIES[kind](path, change)
        except (TypeError, ValueError):  # the change is no JSON
            return
        before = {each: each.stat().st_mtime_ns for each in folder.rglob("*")}
        try:
            chosen.read(path)
        except CertsmoothError as error:
            assert path.stem in str(error) or "data/parts" in str(error)
        assert {each: each.stat().st_mtime_ns for each in folder.rglob("*")} == before


def test_the_published_checksums_are_those_of_torchvision() -> None:
    assert CIFAR10.tgz_md5 == "c58f30108f718f92721af3b95e74349a"
