"""Files that others made: none is unpickled, none is unpacked to a place of its choice, and none fills the memory."""

from __future__ import annotations

import ast
import base64
import gzip
import hashlib
import io
import json
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from torchvision.datasets import CIFAR10

from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.attacks import AttackCounts
from certsmooth.artefacts.audits import Broken, read_order_cost
from certsmooth.artefacts.certificates import read_certificates, read_published_certificates
from certsmooth.artefacts.counts import CountsJournal, read_counts
from certsmooth.artefacts.foreign import read_foreign
from certsmooth.artefacts.records import read_logs, read_record
from certsmooth.artefacts.training_state import load_state
from certsmooth.errors import CertsmoothError, DataError
from certsmooth.experiment.config import read_params
from certsmooth.experiment.steps.data import _read_kept
from certsmooth.science import datasets
from certsmooth.science.datasets import cifar10
from certsmooth.science.datasets._unlabelled import read_unlabelled
from factories import (
    ROOT,
    batches,
    image_bytes,
    make_sample,
    numbered_files,
    write_binary,
    write_folder,
    write_idx,
    write_tar,
)

SOURCE = ROOT / "src" / "certsmooth"
OWNED = "owned"


class Bomb:
    """Unpickling this makes a file in the working folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(OWNED),)


@pytest.fixture(autouse=True)
def _nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    assert list(folder.iterdir()) == []
    assert not (tmp_path.parent / OWNED).exists()


def test_the_bomb_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb()))  # noqa: S301
    Path(OWNED).unlink()  # fails if it is not there


def _torch(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _npy(content: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([content], object), allow_pickle=True)
    return buffer.getvalue()


def _npz(content: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **dict.fromkeys(("images", "labels", "index"), np.array([content] * 3, object)))
    return buffer.getvalue()


def _parquet(content: object) -> bytes:
    """A Parquet file whose extension types old versions of pyarrow unpickled (CVE-2023-47248)."""
    kind = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(content)}
    fields = [pa.field(name, pa.int64(), metadata=kind) for name in ("index", "label", "predict")]
    buffer = io.BytesIO()
    pq.write_table(pa.table([[1]] * 3, schema=pa.schema(fields)), buffer)
    return buffer.getvalue()


BOMBS: dict[str, Callable[[object], bytes]] = {
    "pickle": pickle.dumps,
    "old pickle": lambda content: pickle.dumps(content, protocol=0),
    "gzip": lambda content: gzip.compress(pickle.dumps(content)),
    "torch": _torch,
    "npy": _npy,
    "npz": _npz,
    "parquet": _parquet,
    "yaml": lambda _: b"!!python/object/apply:pathlib.Path.touch [owned]",
    "base64 in json": lambda content: json.dumps({"sha256": base64.b64encode(pickle.dumps(content)).decode()}).encode(),
}


def _journal(path: Path) -> None:
    with CountsJournal(path, {}) as journal:
        assert journal.entries == []
        journal.remove()


def _state(path: Path) -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1)
    load_state(path, "0" * 64, SimpleNamespace(model=model, optimizer=optimizer, sigma=torch.ones(1)))


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "checkpoint": ("model.safetensors", checkpoint.load),
    "training state": ("state.safetensors", _state),
    "counts": ("counts.parquet", read_counts),
    "attack": ("attack.parquet", lambda path: AttackCounts.read(path, expect={})),
    "broken certificates": ("broken.parquet", lambda path: Broken.read(path, expect={})),
    "order": ("order.json", lambda path: read_order_cost(path, expect={})),
    "certificates": ("seed=0.parquet", read_certificates),
    "logs": ("0-of-1.log.json", lambda path: read_logs(path.with_name("0-of-1.parquet"))),
    "published certificates": ("published.tsv", read_published_certificates),
    "record": ("digits.json", read_record),
    "kept part": ("part.npz", lambda path: _read_kept(path, "sha256:" + "0" * 64, "sha256:" + "0" * 64)),
    "unlabelled": ("images.npz", lambda path: read_unlabelled(path, image_shape=(1, 2, 2))),
    "weights of others": ("theirs.pt", read_foreign),
    "params": ("params.yaml", read_params),
    **{
        f"{name} {file}": (file, lambda path, name=name: datasets.load(name, source=path).test())
        for name in ("mnist", "cifar10")
        for file in ("copy.npz", "copy.tar", "copy.tar.gz", "copy.tar.xz")
    },
    **{
        f"{name} folder with {file}": (file, lambda path, name=name: datasets.load(name, source=path.parent).test())
        for name, file in (
            ("mnist", "t10k-images-idx3-ubyte"),
            ("mnist", "t10k-images-idx3-ubyte.gz"),
            ("cifar10", "test_batch"),
            ("cifar10", "test_batch.bin"),
            ("cifar10", "labels.csv"),
        )
    },
    **{
        f"{name} {file}": (
            file,
            lambda path, name=name: datasets.load(name, source=path.parents[2]).test().batch(np.arange(1)),
        )
        for name, file in (("imagenet", "val/n01/a.JPEG"), ("folder", "test/n01/a.png"))
    },
    "folder labels.csv": ("labels.csv", lambda path: datasets.load("folder", source=path.parent)),
    "tiny imagenet": ("val/val_annotations.txt", lambda path: datasets.load("folder", source=path.parents[1])),
    "npz": ("own.npz", lambda path: datasets.load("npz", source=path)),
    "parquet": ("train.parquet", lambda path: datasets.load("parquet", source=path.parent)),
    **{
        f"torchvision {name} {file}": (
            file,
            lambda path, name=name: datasets.load("torchvision", source=path.parent, options={"name": name}).test(),
        )
        for name, file in (
            ("CIFAR100", "test"),
            ("CIFAR100", "cifar-100-python.tar.gz"),
            ("SVHN", "test_32x32.mat"),
            ("FashionMNIST", "t10k-images-idx3-ubyte.gz"),
        )
    },
    "torchvision EMNIST": (
        "gzip.zip",
        lambda path: datasets.load(
            "torchvision", source=path.parent, options={"name": "EMNIST", "split": "digits"}
        ).test(),
    ),
}


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("name", READERS)
def test_no_reader_unpickles(name: str, kind: str, tmp_path: Path) -> None:
    file, read = READERS[name]
    path = tmp_path / "shared" / file
    path.parent.mkdir(parents=True)
    if "/n01/" in file or name == "tiny imagenet":
        root = path.parents[2] if "/n01/" in file else path.parents[1]
        for each in ("train/n01/a.png", "train/n02/a.png", f"{file.partition('/')[0]}/n02/a.png"):
            (root / each).parent.mkdir(parents=True, exist_ok=True)
            (root / each).write_bytes(image_bytes(np.zeros((1, 1, 3), np.uint8)))
    if name == "parquet":
        (path.parent / "test.parquet").touch()
    if file.endswith("-ubyte") or file.endswith("-ubyte.gz"):
        (path.parent / file.replace("images-idx3", "labels-idx1")).touch()
    path.write_bytes(BOMBS[kind](Bomb()))
    with pytest.raises(CertsmoothError, match="shared"):
        read(path)


def test_a_journal_unpickles_nothing(tmp_path: Path) -> None:
    with CountsJournal(tmp_path / "counts", {}) as journal:
        path = journal.path
    for make in BOMBS.values():
        path.write_bytes(make(Bomb()))
        with CountsJournal(tmp_path / "counts", {}) as journal:
            assert journal.rows == {}


FORBIDDEN = {
    *(
        "eval",
        "exec",
        "compile",
        "__import__",
        "os.system",
        "os.popen",
        "pickle.load",
        "pickle.loads",
        "pickle.Unpickler",
    ),
    *(
        "torch.load",
        "torch.hub.load",
        "joblib.load",
        "pandas.read_pickle",
        "pd.read_pickle",
        "marshal.loads",
        "shelve.open",
    ),
    *("yaml.load", "yaml.full_load", "yaml.unsafe_load", "np.lib.format.read_array", "shutil.unpack_archive"),
    *("dill.load", "cloudpickle.load", "tempfile.mktemp", "np.fromregex", "runpy.run_path"),
}
FORBIDDEN_METHODS = {"extractall", "extract", "read_pickle", "to_pickle"}
UNPICKLING_CLASSES = {"CIFAR10", "CIFAR100"}  # of torchvision, if they are made


def _calls() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(SOURCE)}:{node.lineno}: {ast.unparse(node)[:100]}", node


def test_the_source_calls_nothing_that_runs_data() -> None:
    found, seen = [], 0
    for where, call in _calls():
        seen += 1
        name = ast.unparse(call.func)
        options = {option.arg: ast.unparse(option.value) for option in call.keywords}
        if name == "torch.load" and options.get("weights_only") == "True":
            continue
        if name in FORBIDDEN or name.rpartition(".")[2] in FORBIDDEN_METHODS | UNPICKLING_CLASSES:
            found.append(where)
        if name.endswith("np.load") and options.get("allow_pickle") != "False":
            found.append(where)
        if name.startswith("subprocess.") and (options.get("shell", "False") != "False" or not _is_a_list(call)):
            found.append(where)
    assert found == []
    assert seen > 1000


def _is_a_list(call: ast.Call) -> bool:
    """Whether the command is not one string, which a shell would read: a list, or a name that is annotated so."""
    return not isinstance(call.args[0], ast.Constant | ast.JoinedStr | ast.BinOp)


def test_the_source_imports_no_module_that_unpickles() -> None:
    imported = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(str(node.module).partition(".")[0])
    assert "torch" in imported
    assert not imported & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "runpy"}


@pytest.fixture
def cifar_sample(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(cifar10, "_BATCH_IMAGES", 5)
    return make_sample((32, 32, 3), train=25, test=5)


def published_pickle(records: np.ndarray, *, in_columns: bool = False) -> bytes:
    """Return a batch as the published ones are: Python 2, protocol 2, with strings of bytes."""
    images = records[:, 1:].copy(order="F" if in_columns else "C")
    pixels = images.tobytes(order="A")

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    array = b"".join(
        [
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R",
            b"(K\x01M" + struct.pack("<H", len(records)) + b"M\x00\x0c\x86",
            b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xff",
            b"J\xff\xff\xff\xffK\x00tb" + (b"\x88" if in_columns else b"\x89"),
            b"T" + struct.pack("<I", len(pixels)) + pixels + b"tb",
        ]
    )
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in records[:, 0]) + b"e"
    names = b"](" + b"".join(text(b"image.png") for _ in records) + b"e"
    entries = [
        *(text(b"batch_label") + text(b"testing batch 1 of 1"), text(b"labels") + labels),
        *(text(b"data") + array, text(b"filenames") + names),
    ]
    return b"\x80\x02}(" + b"".join(entries) + b"u."


@pytest.mark.parametrize("in_columns", [False, True])
def test_published_batches_are_read_without_unpickling(
    cifar_sample: Any,
    in_columns: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = {name: published_pickle(each, in_columns=in_columns) for name, each in batches(cifar_sample).items()}
    loaded = pickle.loads(files["test_batch"], encoding="latin1")  # noqa: S301 - that it is what it claims to be
    np.testing.assert_array_equal(loaded["data"], batches(cifar_sample)["test_batch"][:, 1:])
    md5 = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5[name]] for name, _ in CIFAR10.train_list])
    monkeypatch.setattr(CIFAR10, "test_list", [[name, md5[name]] for name, _ in CIFAR10.test_list])
    monkeypatch.setattr(pickle, "load", None)
    monkeypatch.setattr(pickle, "loads", None)
    folder = write_folder(tmp_path / "batches", files)
    for split in ("train", "test"):
        read = getattr(datasets.load("cifar10", source=folder), split)()
        np.testing.assert_array_equal(read.images, cifar_sample.images[split].transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(read.labels, cifar_sample.labels[split])


def test_a_batch_with_the_published_checksum_that_is_a_bomb_is_only_listed(
    cifar_sample: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = pickle.dumps(Bomb())
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", hashlib.md5(content).hexdigest()]])
    folder = write_folder(tmp_path / "batches", {"test_batch": content})
    with pytest.raises(DataError, match="0 bytes of pixels, 0 labels"):
        datasets.load("cifar10", source=folder).test()


def _add(archive: tarfile.TarFile, name: str, content: bytes = b"", **attributes: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in attributes.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(content))


MEMBERS: dict[str, tuple[str, dict[str, Any]]] = {
    "parent": ("../owned", {}),
    "parent inside": ("copy/../../owned", {}),
    "absolute": ("/tmp/certsmooth-owned", {}),
    "link outside": ("test/00000.png", {"type": tarfile.SYMTYPE, "linkname": "/etc/hostname"}),
    "hard link outside": ("test/00000.png", {"type": tarfile.LNKTYPE, "linkname": "/etc/hostname"}),
    "hard link to a parent": ("test/00000.png", {"type": tarfile.LNKTYPE, "linkname": "../owned"}),
    "device": ("test/00000.png", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5}),
    "pipe": ("test/00000.png", {"type": tarfile.FIFOTYPE}),
    "folder": ("test/00000.png", {"type": tarfile.DIRTYPE}),
    "NUL": ("test/0\0/../owned", {}),
    "setuid": ("owned", {"mode": 0o4777}),
}


@pytest.mark.parametrize("member", MEMBERS)
def test_an_archive_writes_nothing_and_follows_no_link(member: str, tmp_path: Path) -> None:
    sample = make_sample((28, 28, 1), train=1, test=1)
    name, attributes = MEMBERS[member]
    files = numbered_files(sample)
    with tarfile.open(tmp_path / "copy.tar", "w") as archive:
        if name == "test/00000.png":
            del files["test/00000.png"]
        _add(archive, name, **attributes)
        for each, content in files.items():
            _add(archive, each, content)
    dataset = datasets.load("mnist", source=tmp_path / "copy.tar")
    if name == "test/00000.png":
        with pytest.raises(DataError, match=r"copy\.tar: test: number 0 has an image in labels\.csv, but no file"):
            dataset.test()
    else:
        np.testing.assert_array_equal(dataset.test().images[:, 0], sample.images["test"][..., 0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.tar", "work"]
    assert not Path("/tmp/certsmooth-owned").exists()


LIMIT = 2**30 + 2**28  # bytes of address space beyond what the process has after its imports

LIMITED = f"""
import resource, sys
from pathlib import Path
from certsmooth.science import datasets
from certsmooth.science.datasets import _unlabelled, mnist
from certsmooth.errors import DataError

used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {LIMIT}, used + {LIMIT}))
for source in map(Path, sys.argv[1:]):
    readers = [lambda: datasets.load("mnist", source=source).test()]
    if source.suffix == ".npz":
        readers.append(lambda: _unlabelled.read_unlabelled(source, image_shape=(1, 28, 28)))
    if (source / "train.parquet").is_file():
        readers = [lambda: datasets.load("parquet", source=source).train()]
    for read in readers:
        try:
            read()
        except DataError as error:
            print(str(error).startswith(str(source)), error)
"""


def _refused(sources: list[Path]) -> list[str]:
    """Read sources in a process with little memory; return what it says about each."""
    command = [sys.executable, "-c", LIMITED, *map(str, sources)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.splitlines()


def _tar_of_zeros(path: Path, kind: bytes) -> Path:
    """Write a small archive whose one member is 2 GB of zeros."""
    info = tarfile.TarInfo("x")
    info.size, info.type = 2**31, kind
    # Packed streams may follow one another.
    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT)) + gzip.compress(bytes(2**24), 1) * 2**7)
    return path


def _npz_of_zeros(path: Path, *, announced: int, zeros: int) -> Path:
    header = io.BytesIO()
    about = {"descr": "|u1", "fortran_order": False, "shape": (announced, 28, 28)}
    np.lib.format.write_array_header_1_0(header, about)  # type: ignore[arg-type]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("images.npy", "w") as file:
            file.write(header.getvalue())
            for _ in range(zeros // 2**24):
                file.write(bytes(2**24))
        for name in ("labels", "index"):
            buffer = io.BytesIO()
            np.save(buffer, np.zeros(1, np.int64))
            archive.writestr(f"{name}.npy", buffer.getvalue())
    return path


def _parquet_of_zeros(folder: Path, name: str) -> Path:
    """Write small tables with a column that holds one value of 16 MB once, and 4096 times: 64 GB."""
    value = bytes(2**24) if name == "image" else "0" * 2**24
    many = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 2048), pa.array([value, value[:1]]))
    column = {"image": pa.array([b""] * 4096), "label": pa.array([0, 1] * 2048), name: many}
    folder.mkdir()
    for split in ("train", "test"):
        pq.write_table(pa.table(column), folder / f"{split}.parquet", compression="none", store_schema=False)
    return folder


@pytest.mark.slow
def test_files_that_unpack_to_more_than_the_memory_are_refused(tmp_path: Path) -> None:
    kinds = {"unused": tarfile.REGTYPE, "long name": tarfile.GNUTYPE_LONGNAME, "header": tarfile.XHDTYPE}
    archives = [_tar_of_zeros(tmp_path / f"{name}.tar.gz", kind) for name, kind in kinds.items()]
    size = 3 * 2**29
    arrays = [
        _npz_of_zeros(tmp_path / "zeros.npz", announced=size // 784, zeros=size),
        _npz_of_zeros(tmp_path / "huge.npz", announced=2**60, zeros=0),
    ]
    folders = []
    for number, shape in enumerate([(2**32 - 1, 28, 28), (2**20, 28, 28), (2**32 - 1,) * 3]):
        folders.append(write_idx(tmp_path / f"idx{number}", make_sample((28, 28, 1)), packed=False))
        (folders[-1] / "t10k-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", *shape))
    folders += [_parquet_of_zeros(tmp_path / f"of {name}", name) for name in ("image", "label")]
    answers = _refused([*archives, *arrays, *folders])
    assert len(answers) == len(archives) + 2 * len(arrays) + len(folders)
    assert all(answer.startswith("True ") for answer in answers), answers


def test_an_array_that_is_twice_in_an_npz_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((1, 2, 2, 1), np.uint8))
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("images.npy", buffer.getvalue())
        archive.writestr("images.npy", buffer.getvalue())
    with pytest.raises(DataError, match="2 arrays 'images'"):
        read_unlabelled(tmp_path / "twice.npz", image_shape=(1, 2, 2))


def test_links_in_a_folder_are_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "_BATCH_IMAGES", 5)
    sample = make_sample((32, 32, 3), train=25, test=5)
    target = write_binary(tmp_path / "elsewhere", sample)
    folder = tmp_path / "copy"
    folder.mkdir()
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    for path in target.iterdir():
        (folder / path.name).symlink_to(path)
    datasets.load("cifar10", source=folder).test()
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


def test_a_copy_is_not_changed_by_reading(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "copy.tar", numbered_files(make_sample((28, 28, 1))))
    before = path.read_bytes()
    datasets.load("mnist", source=path).test()
    assert path.read_bytes() == before
