"""Count classes under noise, for one shard of all that is sampled of a method."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from certsmooth._internal.storage import atomic_write, exclusive
from certsmooth.artefacts.counts import CountsJournal, CountsPart, read_counts, write_counts
from certsmooth.artefacts.records import Log, log_path, read_logs, write_logs
from certsmooth.errors import CertsmoothError, ConfigError, CountsError
from certsmooth.experiment.code_hash import source_digest
from certsmooth.experiment.specs import Batch, SampleSpec, counts_path
from certsmooth.experiment.steps.loaded import Loaded
from certsmooth.science.datasets import Split
from certsmooth.science.models import numerics
from certsmooth.science.sampling.counts import GROUP, shard_of
from certsmooth.science.sampling.sampler import Sampler, SamplingPlan
from certsmooth.science.theory.pixel_grid import grid_of


def sample_shard(batch: Batch[SampleSpec], *, shard: int, shards: int, results: Path, device: torch.device) -> None:
    """Sample one shard of each part and write the counts, with a log beside them.

    A killed run goes on with the next image, and parts that were sampled before are kept.

    Args:
        batch: what to sample.
        shard: number of the shard, from 0.
        shards: how many there are; more than there are groups of images leave some empty.
        results: the folder of the results. The log is the same name with ``.log.json``: seconds per image, device,
            versions.
        device: where to compute.

    Raises:
        ConfigError: there is no such shard.
        CertsmoothError: data or base classifier are missing, damaged, or of something else.
    """
    if not 0 <= shard < shards:
        raise ConfigError(f"--shard: {shard} of {shards}; must be from 0 to {shards - 1}")
    output = results / counts_path(batch.name, shard, shards)
    loaded = Loaded(results, device)
    with exclusive(output, error=CountsError):
        before = _sampled_before(output.parent.parent)
        parts, logs, journals = [], [], []
        for spec in batch.parts:
            asked = _Shard.of(spec, loaded, shard, shards)
            journals.append(CountsJournal(output, asked.identity))
            part, log = before.get(asked.key) or _sample(asked, loaded, journals[-1])
            parts.append(part)
            logs.append(log)
        kept = _set_aside(output)
        write_counts(output, parts)
        write_logs(output, logs)
        for journal in journals:  # of all parts: a run that was killed here has left them
            journal.remove()
        for path in kept:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Shard:
    """What is sampled of one part.

    Attributes:
        spec: of the part.
        split: the images.
        groups: their positions, in groups of `GROUP`.
        identity: of the counts.
    """

    spec: SampleSpec
    split: Split
    groups: Sequence[npt.NDArray[np.int64]]
    identity: Mapping[str, Any]

    @classmethod
    def of(cls, spec: SampleSpec, loaded: Loaded, shard: int, shards: int) -> _Shard:
        split = loaded.split(spec.base.data, spec.split)
        positions = _chosen(spec, len(split))
        mine = shard_of(len(positions), shard, shards)
        # All but the last are whole, as shards are made of these.
        groups = [positions[i : i + GROUP] for i in mine[::GROUP]]
        identity = {
            **loaded.identity(spec),
            "shard": [shard, shards],
            "semi_elasticity": loaded.policy(spec).semi_elasticity,
            "code": source_digest("science.sampling.sampler", f"science.noise.{spec.noise}"),
        }
        return cls(spec, split, groups, identity)

    @property
    def key(self) -> str:
        return _key(self.identity)

    @property
    def plan(self) -> SamplingPlan:
        spec = self.spec
        # The settings are chosen on validation, so its noise must not be that of the test.
        dataset = f"{spec.base.data.dataset}/{spec.split}"
        return SamplingPlan(spec.n0, spec.n, spec.seed, dataset, spec.noise, grid_of(spec.step))


def _chosen(spec: SampleSpec, images: int) -> npt.NDArray[np.int64]:
    """Return the positions of the images of a split that are sampled."""
    last = images - 1 if spec.last is None else spec.last
    for key, found in (("first", spec.first), ("last", last)):
        if found >= images:
            about = f"the {spec.split} split of {spec.base.data.dataset}"
            raise ConfigError(
                f"certification.{key}: {found}; must be at most {images - 1}: {about} has {images} images"
            )
    return np.arange(spec.first, last + 1, spec.stride, dtype=np.int64)


def _key(identity: Mapping[str, Any]) -> str:
    return json.dumps(identity, sort_keys=True)


def _sampled_before(folder: Path) -> dict[str, tuple[CountsPart, Log]]:
    """Return what the files of a method hold, those that were set aside among them."""
    paths = sorted(folder.glob("seed=*/*.parquet"))
    return {key: found for path in paths for key, found in _held(path).items()}


def _held(path: Path) -> dict[str, tuple[CountsPart, Log]]:
    """Return what a file holds; one that is damaged, or whose log is another's, holds nothing."""
    try:
        parts, logs = read_counts(path), read_logs(path)
    except CertsmoothError:  # it is sampled again
        return {}
    if [len(part.counts) for part in parts] != [len(log.seconds) for log in logs]:
        return {}
    return {_key(part.identity): (part, log) for part, log in zip(parts, logs, strict=True)}


def _set_aside(output: Path) -> tuple[Path, Path]:
    """Copy counts and their log, and return the copies: a run that is killed when one of the two is new has both.

    Copies that a killed run left stay if the files are not what they were made from.
    """
    kept = output.with_name(f".{output.name}.kept.parquet")
    copies = {log_path(kept): log_path(output), kept: output}
    if _held(output):
        for copy, path in copies.items():
            with atomic_write(copy, error=CountsError) as file:
                file.write(path.read_bytes())
    return kept, log_path(kept)


def _sample(asked: _Shard, loaded: Loaded, journal: CountsJournal) -> tuple[CountsPart, Log]:
    classifier = loaded.classifier(asked.spec.base)
    with journal, numerics(classifier.spec.numeric_type):
        _sample_groups(asked, loaded, journal)
    positions = [int(p) for group in asked.groups for p in group]
    log = loaded.log([journal.rows[p]["seconds"] for p in positions])
    return CountsPart(journal.counts(positions), asked.identity), log


def _sample_groups(asked: _Shard, loaded: Loaded, journal: CountsJournal) -> None:
    classifier, policy, split = loaded.classifier(asked.spec.base), loaded.policy(asked.spec), asked.split
    sampler = Sampler(classifier, num_classes=classifier.spec.num_classes, plan=asked.plan)
    total = sum(map(len, asked.groups))
    name = f"{asked.spec.base.name}, {asked.spec.split}"
    with tqdm(total=total, initial=len(journal.rows), unit="image", desc=name) as bar:
        for group in asked.groups:
            start = sum(int(position) in journal.rows for position in group)
            if start == len(group):
                continue
            images = split.batch(group).to(loaded.device)
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
