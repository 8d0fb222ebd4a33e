"""Images: a few of noise, and small copies of the data sets in every form that is read."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image


def images_of(number: int, seed: int = 0) -> torch.Tensor:
    """Return grey images of two by two pixels, [number, 1, 2, 2]."""
    return torch.rand(number, 1, 2, 2, generator=torch.Generator().manual_seed(seed))


class LazyImages:
    """Images that are read when they are asked for.

    Attributes:
        writable: whether what is read may be written to.
        reads: how many were asked for each time.
    """

    def __init__(self, images: np.ndarray, *, writable: bool = True) -> None:
        self.images, self.writable = images, writable
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        self.reads.append(len(positions))
        block = self.images[positions]
        if not self.writable:
            block.setflags(write=False)
        return block


@dataclass(frozen=True)
class Sample:
    """Images uint8 [n, h, w, c], labels [n] and index [n] of both splits."""

    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    index: dict[str, np.ndarray]

    def changed(self, what: str | None, split: str) -> Sample:
        """Return the sample with one pixel or one label of one split changed."""
        if what is None:
            return self
        arrays = dict(self.images if what == "pixel" else self.labels)
        arrays[split] = arrays[split].copy()
        flat = arrays[split].reshape(-1)
        flat[-1] = (int(flat[-1]) + 1) % (256 if what == "pixel" else 10)
        return replace(self, images=arrays) if what == "pixel" else replace(self, labels=arrays)


def make_sample(shape: tuple[int, int, int], *, train: int = 30, test: int = 20, seed: int = 0) -> Sample:
    """Make noise images of shape (h, w, c) with labels of ten classes."""
    rng = np.random.default_rng(seed)
    sizes = {"train": train, "test": test}
    return Sample(
        images={split: rng.integers(0, 256, (n, *shape), dtype=np.uint8) for split, n in sizes.items()},
        labels={split: rng.permutation(np.arange(n) % 10).astype(np.uint8) for split, n in sizes.items()},
        index={split: np.arange(n) for split, n in sizes.items()},
    )


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(
    folder: Path, sample: Sample, *, packed: bool = True, splits: tuple[str, ...] = ("train", "test")
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split in splits:
        prefix = "train" if split == "train" else "t10k"
        for kind, array in (
            ("images-idx3", sample.images[split][..., 0]),
            ("labels-idx1", sample.labels[split]),
        ):
            path = folder / f"{prefix}-{kind}-ubyte"
            if packed:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(idx_bytes(array), mtime=0))
            else:
                path.write_bytes(idx_bytes(array))
    return folder


def image_bytes(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, format=kind)
    return buffer.getvalue()


def numbered_files(sample: Sample, *, kind: str = "PNG") -> dict[str, bytes]:
    """Return name -> bytes of a copy by numbered images."""
    suffix = {"PNG": "png", "JPEG": "jpg"}[kind]
    files, lines = {}, ["split,index,label"]
    for split in ("train", "test"):
        for index, label, pixels in zip(sample.index[split], sample.labels[split], sample.images[split], strict=True):
            lines.append(f"{split},{index},{label}")
            files[f"{split}/{index:05d}.{suffix}"] = image_bytes(pixels, kind)
    return {**files, "labels.csv": ("\n".join(lines) + "\n").encode()}


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def write_tar(path: Path, files: dict[str, bytes], *, prefix: str = "copy/") -> Path:
    with tarfile.open(path, "w:xz" if path.suffix == ".xz" else "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_npz(path: Path, sample: Sample) -> Path:
    images = sample.images["test"]
    images = images[..., 0] if images.shape[-1] == 1 else images
    np.savez(path, images=images, labels=sample.labels["test"], index=sample.index["test"])
    return path


def batches(sample: Sample) -> dict[str, np.ndarray]:
    """Return name -> records [n, 3073] of the six CIFAR-10 batches."""
    names = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
    result = {}
    for split in ("train", "test"):
        pixels = sample.images[split].transpose(0, 3, 1, 2).reshape(len(sample.labels[split]), -1)
        records = np.concatenate([sample.labels[split][:, None], pixels], axis=1)
        result.update(zip(names[split], np.split(records, len(names[split])), strict=True))
    return result


def write_binary(folder: Path, sample: Sample) -> Path:
    return write_folder(folder, {f"{name}.bin": records.tobytes() for name, records in batches(sample).items()})


def python_files(sample: Sample) -> dict[str, bytes]:
    files = {
        name: pickle.dumps({"data": records[:, 1:], "labels": records[:, 0].tolist()})
        for name, records in batches(sample).items()
    }
    return {**files, "batches.meta": pickle.dumps({"label_names": [str(label) for label in range(10)]})}


def imagenet_files(*, train: int = 3, test: int = 2, seed: int = 0) -> dict[str, bytes]:
    """Return name -> bytes of an ImageNet of three classes with images of several sizes, in JPEG."""
    rng = np.random.default_rng(seed)
    files = {}
    for split, count in (("train", train), ("val", test)):
        for wnid in ("n01", "n02", "n10"):
            for number in range(count):
                height, width = 230 + 40 * number, 300 - 30 * number
                coarse = rng.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
                smooth = np.asarray(Image.fromarray(coarse).resize((width, height)))
                files[f"{split}/{wnid}/{wnid}_{number}.JPEG"] = image_bytes(smooth, "JPEG")
    return files


def own_sample(*, train: int = 30, test: int = 20) -> Sample:
    """Make images of one's own: of no size that anything else has, in colour."""
    return make_sample((12, 10, 3), train=train, test=test, seed=1)


def class_files(sample: Sample, *, test: str = "test") -> dict[str, bytes]:
    """Return name -> bytes of a folder per class, which is called k and the label."""
    return {
        f"{name}/k{label}/{index:03d}.png": image_bytes(pixels)
        for split, name in (("train", "train"), ("test", test))
        for index, label, pixels in zip(sample.index[split], sample.labels[split], sample.images[split], strict=True)
    }


def write_own_npz(path: Path, sample: Sample, **others: np.ndarray) -> Path:
    """Write arrays as MedMNIST has them."""
    arrays = {f"{split}_images": sample.images[split] for split in ("train", "test")}
    arrays |= {f"{split}_labels": sample.labels[split][:, None] for split in ("train", "test")}
    np.savez(path, **{**arrays, **others})
    return path


def parquet_bytes(
    images: list[bytes | None], labels: list[Any], *, names: list[str] | None = None, plain: bool = False,
    rows: int = 7, columns: tuple[str, str] = ("image", "label"),
) -> bytes:  # fmt: skip
    """Return a Parquet file as `datasets` writes it, with names of classes if there are some."""
    structs = images if plain else [{"bytes": data, "path": "/etc/hostname"} for data in images]
    kind = pa.binary() if plain else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table(
        {columns[0]: pa.array(structs, kind), columns[1]: pa.array(labels), "other": list(range(len(images)))}
    )
    if names is not None:
        features = {columns[1]: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=rows)
    return buffer.getvalue()


def write_own_parquet(folder: Path, sample: Sample) -> Path:
    """Write a folder of two files of training images and one of test images, with names of classes."""
    files, names = {}, [f"k{label}" for label in range(10)]
    for split, count in (("train", 2), ("test", 1)):
        images = [image_bytes(pixels) for pixels in sample.images[split]]
        parts = np.array_split(np.arange(len(images)), count)
        for number, part in enumerate(parts):
            content = parquet_bytes([images[i] for i in part], sample.labels[split][part].tolist(), names=names)
            files[f"data/{split}-{number:05d}-of-{count:05d}.parquet"] = content
    return write_folder(folder, files)
