"""Count classes under noise for one shard of a part of a data set."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from certsmooth.artefacts.counts import CountsJournal, write_counts
from certsmooth.artefacts.records import read_record
from certsmooth.errors import ConfigError
from certsmooth.experiment.code_hash import source_digest
from certsmooth.experiment.steps.data import DataChoice, load_part
from certsmooth.experiment.steps.smoothed import about, arithmetic, load_smoothed, write_log
from certsmooth.science.datasets import Split
from certsmooth.science.models import BaseClassifier, numerics
from certsmooth.science.sampling.sampler import GROUP, Sampler, SamplingPlan
from certsmooth.science.sigma import SigmaPolicy

if TYPE_CHECKING:
    from certsmooth.experiment.runs import Part


def sample_shard(
    *,
    choice: DataChoice,
    record: Path,
    part: Part,
    stride: int,
    shard: int,
    shards: int,
    model: Path,
    sigma: float,
    policy: SigmaPolicy,
    settings: Mapping[str, Any],
    plan: SamplingPlan,
    device: torch.device,
    output: Path,
) -> None:
    """Sample one shard and write its counts, with a log beside them; a killed run goes on with the next image.

    Args:
        choice: which data.
        record: their record.
        part: which part of them.
        stride: every stride-th image of it.
        shard: number of the shard, from 0.
        shards: how many there are; more than there are groups of images leave some empty.
        model: checkpoint of the base classifier.
        sigma: that it must have been trained with.
        policy: sigma(x).
        settings: name and options of the policy, for the counts' identity.
        plan: what is drawn.
        device: where to compute.
        output: counts (Parquet); the log is the same name with ``.log.json``: seconds per image, device, versions.

    Raises:
        ConfigError: there is no such shard.
    """
    content = read_record(record)
    split = load_part(choice, part, content)
    groups = _groups(len(split), stride)
    if not 0 <= shard < shards:
        raise ConfigError(f"--shard: {shard} of {shards}; must be from 0 to {shards - 1}")
    classifier, policy = load_smoothed(model, choice=choice, content=content, sigma=sigma, policy=policy, device=device)
    mine = [groups[i] for i in np.array_split(np.arange(len(groups)), shards)[shard]]
    identity = {
        **about(
            split, dataset=choice.dataset, part=part, model=model, policy=settings, noise=plan.noise, grid=plan.grid
        ),
        **arithmetic(classifier, device),
        "stride": stride,
        "shard": [shard, shards],
        "semi_elasticity": policy.semi_elasticity,
        "n0": plan.n0,
        "n": plan.n,
        "seed": plan.seed,
        "code": source_digest("science.sampling.sampler", f"science.noise.{plan.noise}"),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    with CountsJournal(output, identity) as journal, numerics(classifier.spec.numeric_type):
        _sample_groups(mine, split, classifier, policy, plan, device, journal, name=str(output))
        positions = [int(p) for group in mine for p in group]
        write_log(output, [journal.rows[p]["seconds"] for p in positions], device)
        write_counts(output, journal.counts(positions), identity)
        journal.remove()


def _groups(images: int, stride: int) -> list[npt.NDArray[np.int64]]:
    """Return the positions of the images, every stride-th, in groups of `GROUP`."""
    positions = np.arange(0, images, stride, dtype=np.int64)
    return [positions[i : i + GROUP] for i in range(0, len(positions), GROUP)]


def _sample_groups(
    groups: list[npt.NDArray[np.int64]],
    split: Split,
    classifier: BaseClassifier,
    policy: SigmaPolicy,
    plan: SamplingPlan,
    device: torch.device,
    journal: CountsJournal,
    *,
    name: str,
) -> None:
    sampler = Sampler(classifier, num_classes=classifier.spec.num_classes, plan=plan)
    total = sum(map(len, groups))
    with tqdm(total=total, initial=len(journal.rows), unit="image", desc=name) as bar:
        for group in groups:
            start = sum(int(position) in journal.rows for position in group)
            if start == len(group):
                continue
            images = split.batch(group).to(device)
            identities = [int(split.index[position]) for position in group]
            first = int(group[0])
            if first not in journal.sigmas:
                sigmas, within = sampler.sigmas(policy, images, identities), policy.constant_within(images)
                journal.append({"position": first, "sigmas": sigmas.tolist(), "constant_within": within.tolist()})
            sigma, constant_within = (torch.tensor(v, dtype=torch.float64) for v in journal.sigmas[first])
            since = time.perf_counter()
            for finished in sampler.count(images, sigma, identities, start=start):
                position = int(group[finished.position])
                journal.append(
                    {
                        "position": position,
                        "index": int(split.index[position]),
                        "label": int(split.labels[position]),
                        "sigma": float(sigma[finished.position]),
                        "constant_within": float(constant_within[finished.position]),
                        "selection": finished.selection.tolist(),
                        "estimation": finished.estimation.tolist(),
                        "batch_size": finished.batch_size,
                        "seconds": time.perf_counter() - since,
                    }
                )
                since = time.perf_counter()
                bar.update()
