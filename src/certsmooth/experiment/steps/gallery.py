"""Test images beside what was certified of them: pictures, noisy copies, counts, and certificates of every setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from certsmooth.analysis import CertifiedRun
from certsmooth.analysis.overview import hardest, image_columns, promised
from certsmooth.analysis.runs import options_text
from certsmooth.errors import CertsmoothError
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import CertificationRun
from certsmooth.experiment.specs import SampleSpec
from certsmooth.experiment.steps.gathered import Counted
from certsmooth.experiment.steps.loaded import Loaded
from certsmooth.report.page import Gallery, Shown
from certsmooth.report.page.pictures import as_bytes, sheet, shown_size
from certsmooth.science.sampling.counts import BLOCK
from certsmooth.science.sampling.sampler import SamplingPlan
from certsmooth.science.theory.pixel_grid import grid_of

MOST_IMAGES = 400
MOST_BYTES = 600_000
"""Of the pixels of all sheets of a data set: noise takes as many bytes in a PNG."""
MOST_SAID = 65_000
"""Images times runs of a data set."""
_FEW = 100  # images: if noisy copies of every noise would leave fewer, there are those of one alone
_HARDEST = 8
_CLASSES = 3  # whose counts are told; the others together

Ours = tuple[CertificationRun, CertifiedRun]


@dataclass
class _Asked:
    """What tables ask of one data set."""

    runs: dict[CertificationRun, CertifiedRun] = field(default_factory=dict)
    needed: dict[int, None] = field(default_factory=dict)


class Galleries:
    """The images of each data set that tables are about.

    Args:
        experiment: all that is asked for.
        results: the folder of the results.
    """

    def __init__(self, experiment: Experiment, results: Path) -> None:
        self.experiment = experiment
        self.counts = Counted(results)
        self.loaded = Loaded(results, torch.device("cpu"))
        self._asked: dict[str, _Asked] = {}
        self._tables: dict[str, Shown] = {}
        self._ids: dict[CertificationRun, int] = {}

    def add(self, table: str, runs: Sequence[Ours], leading: Sequence[Ours]) -> None:
        """Add the runs of a table, one of each setting; its worst images are those of the leading ones."""
        if not leading:
            return
        for run, certified in runs:
            self._asked.setdefault(run.dataset, _Asked()).runs.setdefault(run, certified)
            self._ids.setdefault(run, len(self._ids))
        dataset = leading[0][0].dataset
        worst = hardest([certified for _, certified in leading])[:_HARDEST]
        self._asked[dataset].needed |= dict.fromkeys(worst)
        shown = [self._ids[run] for run, _ in runs if run.dataset == dataset]
        self._tables[table] = Shown(dataset, shown, [self._ids[run] for run, _ in leading], worst)

    def of(self, table: str) -> Shown | None:
        """Return which images and runs a table shows; None for none."""
        return self._tables.get(table)

    def all(self) -> list[Gallery]:
        """Return the images of every data set, with what all its runs say of them."""
        return [self._gallery(dataset, asked) for dataset, asked in self._asked.items()]

    def _gallery(self, dataset: str, asked: _Asked) -> Gallery:
        data = self.experiment.data(dataset)
        shape = tuple(self.loaded.record(data)["image_shape"])
        samples = {noise_of(sample): sample for sample in (self.experiment.sample(run, "test") for run in asked.runs)}
        if _FEW * _bytes(shape) * (1 + len(samples)) > MOST_BYTES:
            samples = dict(list(samples.items())[:1])
        most = min(MOST_IMAGES, MOST_BYTES // (_bytes(shape) * (1 + len(samples))), MOST_SAID // len(asked.runs))
        index, note = chosen(hardest(list(asked.runs.values())), list(asked.needed), max(1, most))
        first = next(iter(asked.runs.values())).frame
        labels = dict(zip(first["idx"].tolist(), first["label"].tolist(), strict=True))
        gallery = Gallery(
            dataset=dataset,
            size=shown_size(*shape[1:]) if _is_picture(shape) else None,
            index=index,
            label=[labels[i] for i in index],
            note=note,
            runs={self._ids[run]: self._said(run, certified, index) for run, certified in asked.runs.items()},
        )
        if gallery.size is not None:
            split = self.loaded.split(data, "test")
            images = split.batch(split.positions(np.array(index)))
            gallery.sheets["clean"] = sheet(as_bytes(images.numpy()))
            for name, sample in samples.items():
                gallery.sheets[name] = sheet(as_bytes(noisy_copies(images, index, sample)))
        return gallery

    def _said(self, run: CertificationRun, certified: CertifiedRun, index: Sequence[int]) -> dict[str, Any]:
        """Return what a run says of images: certificates, and counts if they are there."""
        return {
            **{"method": certified.label, "sigma": run.sigma, "grid": options_text(certified.grid)},
            **{"guarantee": promised(certified), "norm": certified.provenance["norm"]},
            **{"noise": noise_of(self.experiment.sample(run, "test")), "at": image_columns(certified, index)},
            **self._counted(run, index),
        }

    def _counted(self, run: CertificationRun, index: Sequence[int]) -> dict[str, Any]:
        """Return, of each image, the number of estimation samples, and classes and their counts, as `_most_frequent`.

        Both are None where the counts are not there, or are a router's, whose classes are experts.
        """
        spec = self.experiment.certify(run, "test")
        if spec.router is not None:
            return {"n": None, "counts": None}
        try:
            gathered = self.counts.gather(spec.sampled, spec.counts, self.loaded.record(spec.sampled.base.data))
        except (CertsmoothError, OSError):
            return {"n": None, "counts": None}
        place = {int(i): row for row, i in enumerate(gathered.counts.index)}
        found = [gathered.counts.estimation[place[i]] for i in index]
        numbers = [int(counts.sum()) for counts in found]
        return {"n": numbers[:1] if len(set(numbers)) == 1 else numbers, "counts": list(map(_most_frequent, found))}


def noise_of(sampled: SampleSpec) -> str:
    """Return the name of the noise of the base classifier's sigma: ``"σ = 0.25"``, ``"uniform, σ = 0.25"``."""
    sigma = f"σ = {sampled.base.sigma:g}"
    return sigma if sampled.noise == "gaussian" else f"{sampled.noise}, {sigma}"


def _is_picture(shape: Sequence[int]) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) > 1


def _bytes(shape: Sequence[int]) -> int:
    return shape[0] * prod(shown_size(*shape[1:])) if _is_picture(shape) else 1


def _most_frequent(counts: Int[np.ndarray, " k"]) -> list[int]:
    """Return a class and its count, then the next: the most frequent ones."""
    order = [int(k) for k in np.argsort(-counts, kind="stable")[:_CLASSES] if counts[k]]
    return [int(each) for k in order for each in (k, counts[k])]


def chosen(ranked: Sequence[int], needed: Sequence[int], most: int) -> tuple[list[int], str]:
    """Return which images are shown, the worst first, and that in words.

    Args:
        ranked: indices of all images, the worst first.
        needed: some that must be among them.
        most: images, but for those.
    """
    if len(ranked) <= most:
        return list(ranked), f"All {len(ranked):,} certified test images."
    worst, rest = ranked[: most // 2], ranked[most // 2 :]
    even = [rest[int(i)] for i in np.linspace(0, len(rest) - 1, most - len(worst))]
    kept = {*worst, *even, *needed}
    note = f"{len(kept):,} of {len(ranked):,} certified test images: the worst, and every so many of the others."
    return [index for index in ranked if index in kept], note


def noisy_copies(
    images: Float[Tensor, " n *shape"], index: Sequence[int], sampled: SampleSpec
) -> Float[np.ndarray, " n *shape"]:
    """Return the first selection sample of each image at the base classifier's sigma, as the CPU draws it.

    Args:
        images: in [0, 1].
        index: of the images in the split, on which the noise depends.
        sampled: what was sampled: seed, noise, grid.
    """
    data = f"{sampled.base.data.dataset}/{sampled.split}"
    plan = SamplingPlan(sampled.n0, sampled.n, sampled.seed, data, sampled.noise, grid_of(sampled.step))
    noisy = plan.noisy_images(images, torch.full((len(images),), sampled.base.sigma))
    block, copies = torch.empty(1, BLOCK, images[0].numel()), np.empty(images.shape, np.float32)
    for position, image in enumerate(index):
        noisy.fill(block, position, ("selection", image), 0)
        copies[position] = block[0, 0].view(images.shape[1:]).numpy()
    return copies
