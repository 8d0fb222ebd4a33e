"""Count classes under noise, for one shard of all that is sampled of a method."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from certsmooth._internal.registry import member
from certsmooth._internal.storage import atomic_write, exclusive
from certsmooth.artefacts.counts import CountsJournal, CountsPart, read_counts, write_counts
from certsmooth.artefacts.records import Log, log_path, read_logs, write_logs
from certsmooth.errors import CertsmoothError, ConfigError, CountsError
from certsmooth.experiment.build import build
from certsmooth.experiment.code_hash import source_digest
from certsmooth.experiment.specs import N_BEFORE, Batch, SampleSpec, StopSpec, counts_path
from certsmooth.experiment.steps.data import check_step
from certsmooth.experiment.steps.loaded import Loaded
from certsmooth.science.certificates import Smoothing
from certsmooth.science.datasets import Split
from certsmooth.science.models import numerics
from certsmooth.science.sampling.counts import BLOCK, GROUP, shard_of
from certsmooth.science.sampling.lanes import Looked
from certsmooth.science.sampling.sampler import ImageCounts, Sampler, SamplingPlan, default_batch_size, finished
from certsmooth.science.stopping import Looks
from certsmooth.science.theory.pixel_grid import grid_of


def sample_shard(batch: Batch[SampleSpec], *, shard: int, shards: int, results: Path, device: torch.device) -> None:
    """Sample one shard of each part and write the counts, with a log beside them.

    A killed run goes on with the next image, and parts that were sampled before are kept. Parts that differ only in how
    far their policies search share one search of each group of images.

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
        found: dict[str, tuple[CountsPart, Log]] = {}
        journals: list[CountsJournal] = []
        for specs in _paths(batch.parts):
            asked = [_Shard.of(spec, loaded, shard, shards).going_on_from(before.values()) for spec in specs]
            begun = [(each, CountsJournal(output, each.identity)) for each in asked]
            made = before | _sample([each for each in begun if each[0].key not in before], loaded)
            found |= {each.spec.key: made[each.key] for each in asked}
            journals += [journal for _, journal in begun]
        kept = _set_aside(output)
        write_counts(output, [found[spec.key][0] for spec in batch.parts])
        write_logs(output, [found[spec.key][1] for spec in batch.parts])
        for journal in journals:  # of all parts: a run that was killed here has left them
            journal.remove()
        for path in kept:
            path.unlink(missing_ok=True)


Known = Mapping[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], float]]
"""Position of an image -> its selection and estimation counts, and the seconds that these took."""


@dataclass(frozen=True)
class _Shard:
    """What is sampled of one part.

    Attributes:
        spec: of the part.
        split: the images.
        groups: their positions, in groups of `GROUP`.
        identity: of the counts.
        stop: when an image needs no more samples; None for n samples of each.
        known: of fewer samples that were drawn before.
    """

    spec: SampleSpec
    split: Split
    groups: Sequence[npt.NDArray[np.int64]]
    identity: Mapping[str, Any]
    stop: Looks | None
    known: Known

    @classmethod
    def of(cls, spec: SampleSpec, loaded: Loaded, shard: int, shards: int) -> _Shard:
        split, record = loaded.split(spec.base.data, spec.split), loaded.record(spec.base.data)
        if record["pixel_range"] is not None:
            check_step(spec.base.data.dataset, split, spec.step)
        positions = _chosen(spec, len(split))
        mine = shard_of(len(positions), shard, shards)
        # All but the last are whole, as shards are made of these.
        groups = [positions[i : i + GROUP] for i in mine[::GROUP]]
        stop, rate = spec.stop, loaded.policy(spec).semi_elasticity
        shape: Sequence[int] = record["image_shape"]
        identity = {
            **loaded.identity(spec),
            "shard": [shard, shards],
            "semi_elasticity": rate,
            "code": source_digest("science.sampling.sampler", f"science.noise.{spec.noise}"),
        }
        if stop is None:
            return cls(spec, split, groups, identity, None, {})
        members = f"science.stopping.{stop.rule.name}", f"science.certificates.{stop.certificate.name}"
        identity["stop_code"] = source_digest(*members)
        return cls(spec, split, groups, identity, _looks(spec, stop, math.prod(shape), rate), {})

    @property
    def key(self) -> str:
        return _key(self.identity)

    def identities(self, positions: npt.NDArray[np.int64]) -> list[int]:
        """Return what the noise of some images depends on."""
        return [int(index) for index in self.split.index[positions]]

    def going_on_from(self, before: Collection[tuple[CountsPart, Log]]) -> _Shard:
        """Return the same, where a rule stops the samples, beside counts of the same classifier with another n.

        Those could be looked at before n was chosen, which the identity then says. The samples of a smaller n, in whole
        blocks of the same noise, are gone on from.
        """
        if self.stop is None:
            return self
        spec = _seen_of(self.identity)
        seen = [(part, log) for part, log in before if _seen_of(part.identity) == spec]
        other = {n for part, _ in seen for n in (*part.identity.get(N_BEFORE, ()), part.identity["spec"]["n"])}
        if not (other := other - {self.spec.n}):
            return self
        usable = [each for each in seen if self._begins_with(each[0])]
        known = self._known(*max(usable, key=lambda each: each[0].identity["spec"]["n"])) if usable else {}
        identity = {**self.identity, N_BEFORE: sorted(other)}
        return replace(self, identity=identity, known=known, stop=replace(self.stop, no_end=True))

    def _begins_with(self, part: CountsPart) -> bool:
        """Return whether counts are of the beginning of this sampling, in whole blocks."""
        drawn = part.counts.estimation.sum(axis=1)
        is_less = part.identity["spec"]["n"] < self.spec.n and len(drawn) > 0 and not (drawn % BLOCK).any()
        return bool(is_less) and _noise_of(part.identity) == _noise_of(self.identity)

    def _known(self, part: CountsPart, log: Log) -> Known:
        place = {int(index): position for position, index in enumerate(self.split.index.tolist())}
        counts = part.counts
        rows = zip(counts.index.tolist(), counts.selection, counts.estimation, log.seconds, strict=True)
        return {place[index]: (selection, estimation, seconds) for index, selection, estimation, seconds in rows}

    @property
    def plan(self) -> SamplingPlan:
        spec = self.spec
        # The settings are chosen on validation, so its noise must not be that of the test.
        dataset = f"{spec.base.data.dataset}/{spec.split}"
        return SamplingPlan(spec.n0, spec.n, spec.seed, dataset, spec.noise, grid_of(spec.step))


def _looks(spec: SampleSpec, stop: StopSpec, dimension: int, rate: float | None) -> Looks:
    """Return when samples of images stop; the smoothing is that of no images yet."""
    nothing = np.zeros(0)
    smoothing = Smoothing(nothing, dimension, rate, nothing, grid=grid_of(spec.step))
    rule = build("stopping", stop.rule, key="certification.stop")
    certificate = build("certificates", stop.certificate, key="certificate")
    return Looks(rule, certificate, stop.alpha, spec.n, smoothing)


def _seen_of(identity: Mapping[str, Any]) -> str:
    """Return what was smoothed and sampled, whatever number of samples, where and by which version of the code."""
    spec = {key: value for key, value in identity["spec"].items() if key not in ("n", "stop")}
    return _key({"spec": spec, **{key: identity[key] for key in ("fingerprint", "checkpoint")}})


def _noise_of(identity: Mapping[str, Any]) -> str:
    """Return what samples depend on, whatever number of them is drawn."""
    other = {key: value for key, value in identity.items() if key not in ("spec", "stop_code")}
    return _key({**other, "seen": _seen_of(identity)})


def _chosen(spec: SampleSpec, images: int) -> npt.NDArray[np.int64]:
    """Return the positions of the images of a split that are sampled: of training images, those of the fold."""
    if spec.split == "training" and spec.base.fold is not None:
        return spec.base.fold.positions(images)
    last = images - 1 if spec.last is None else spec.last
    for key, found in (("first", spec.first), ("last", last)):
        if found >= images:
            about = f"the {spec.split} split of {spec.base.data.dataset}"
            raise ConfigError(
                f"certification.{key}: {found}; must be at most {images - 1}: {about} has {images} images"
            )
    return np.arange(spec.first, last + 1, spec.stride, dtype=np.int64)


def _key(identity: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in identity.items() if key != N_BEFORE}, sort_keys=True)


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


_Path = Sequence[tuple[_Shard, CountsJournal]]
"""Parts whose sigmas one search finds, each with its journal."""


def _paths(parts: Iterable[SampleSpec]) -> list[list[SampleSpec]]:
    """Return parts, each once; those are together that differ only in how far their policies search."""
    paths: dict[str, dict[str, SampleSpec]] = defaultdict(dict)
    for spec in parts:
        extent = member("sigma", spec.policy.name).extent
        others = {option: value for option, value in spec.policy.options.items() if option != extent}
        start = replace(spec, policy=replace(spec.policy, options=others))
        paths[start.key][spec.key] = spec
    return [list(path.values()) for path in paths.values()]


def _sample(path: _Path, loaded: Loaded) -> dict[str, tuple[CountsPart, Log]]:
    """Return the counts of each part, and their log, by the key of the shard."""
    with ExitStack() as stack:
        for _, journal in path:
            stack.enter_context(journal)
        return {asked.key: _sample_part(asked, journal, path, loaded) for asked, journal in path}


def _sample_part(asked: _Shard, journal: CountsJournal, path: _Path, loaded: Loaded) -> tuple[CountsPart, Log]:
    with numerics(loaded.classifier(asked.spec.base).spec.numeric_type):
        _sample_groups(asked, journal, path, loaded)
    positions = [int(p) for group in asked.groups for p in group]
    log = loaded.log([journal.rows[p]["seconds"] for p in positions])
    return CountsPart(journal.counts(positions), asked.identity), log


def _sample_groups(asked: _Shard, journal: CountsJournal, path: _Path, loaded: Loaded) -> None:
    classifier = loaded.classifier(asked.spec.base)
    sampler = Sampler(classifier, num_classes=classifier.spec.num_classes, plan=asked.plan)
    total = sum(map(len, asked.groups))
    name = f"{asked.spec.base.name}, {asked.spec.split}"
    with tqdm(total=total, initial=len(journal.rows), unit="image", desc=name) as bar:
        for positions in asked.groups:
            if all(int(position) in journal.rows for position in positions):
                continue
            images, first = asked.split.batch(positions).to(loaded.device), int(positions[0])
            if first not in journal.sigmas:
                _search(path, sampler, images, positions, loaded)
            group = _Group(asked, positions, images, *map(np.asarray, journal.sigmas[first]))
            finished = group.counted(sampler, journal) if asked.stop is None else group.stopped(sampler, journal)
            for row in finished:
                journal.append(row)
                bar.update()


def _search(
    path: _Path, sampler: Sampler, images: torch.Tensor, positions: npt.NDArray[np.int64], loaded: Loaded
) -> None:
    """Write the sigmas of a group of images, float32 [g, *shape], to all journals of a path that do not hold them."""
    first = int(positions[0])
    left = [(asked, journal) for asked, journal in path if first not in journal.sigmas]
    policies = [loaded.policy(asked.spec) for asked, _ in left]
    found = sampler.sigmas_together(policies, images, left[0][0].identities(positions))
    for (_, journal), policy, sigmas in zip(left, policies, found, strict=True):
        within = policy.constant_within(images)
        journal.append({"position": first, "sigmas": sigmas.tolist(), "constant_within": within.tolist()})


@dataclass(frozen=True)
class _Group:
    """Images that share batches.

    Attributes:
        asked: what is sampled of them.
        positions: int64 [g], in the split.
        images: float32 [g, *shape].
        sigma: float64 [g].
        constant_within: float64 [g].
    """

    asked: _Shard
    positions: npt.NDArray[np.int64]
    images: torch.Tensor
    sigma: npt.NDArray[np.float64]
    constant_within: npt.NDArray[np.float64]

    def counted(self, sampler: Sampler, journal: CountsJournal) -> Iterator[dict[str, Any]]:
        """Yield the rows of the images that are not finished, in order: n samples of each."""
        start = sum(int(position) in journal.rows for position in self.positions)
        since = time.perf_counter()
        identities = self.asked.identities(self.positions)
        for found in sampler.count(self.images, torch.from_numpy(self.sigma), identities, start=start):
            yield self._row(found, time.perf_counter() - since)
            since = time.perf_counter()

    def stopped(self, sampler: Sampler, journal: CountsJournal) -> Iterator[dict[str, Any]]:
        """Yield the rows of the images that are not finished, in any order: until the rule stops them.

        What each look shows enters the journal, and what was known before goes on from there.
        """
        assert self.asked.stop is not None
        shape, seconds = (len(self.positions), sampler.num_classes), np.zeros(len(self.positions))
        selection, estimation = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for i, position in enumerate(self.positions.tolist()):
            if (known := journal.looks.get(position) or self.asked.known.get(position)) is not None:
                selection[i], estimation[i], seconds[i] = known
        next_look = self.asked.stop.at(self.sigma, self.constant_within, self.asked.split.labels[self.positions])
        enough = next_look(np.arange(len(selection)), selection, estimation) == estimation.sum(axis=1)
        size = default_batch_size(self.images.shape[1:], self.images.device)
        for i in np.flatnonzero(enough).tolist():  # a killed run has left them, or what was drawn before is enough
            if int(self.positions[i]) not in journal.rows:
                yield self._row(ImageCounts(i, selection[i], estimation[i], size), seconds[i])
        since, sigma = time.perf_counter(), torch.from_numpy(self.sigma)
        identities = self.asked.identities(self.positions)
        for looked in sampler.count_until(self.images, sigma, identities, next_look, known=(selection, estimation)):
            spent = time.perf_counter() - since
            seconds[looked.positions] += spent * looked.drawn / looked.drawn.sum()
            journal.append({"looked": self._looked(looked, seconds)})
            for found in finished([looked]):
                yield self._row(found, seconds[found.position])
            since = time.perf_counter()

    def _looked(
        self, looked: Looked, seconds: npt.NDArray[np.float64]
    ) -> list[tuple[int, list[int], list[int], float]]:
        at = looked.positions
        columns = self.positions[at], looked.selection, looked.estimation, seconds[at]
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def _row(self, found: ImageCounts, seconds: float) -> dict[str, Any]:
        position = int(self.positions[found.position])
        return {
            "position": position,
            "index": int(self.asked.split.index[position]),
            "label": int(self.asked.split.labels[position]),
            "sigma": float(self.sigma[found.position]),
            "constant_within": float(self.constant_within[found.position]),
            "selection": found.selection.tolist(),
            "estimation": found.estimation.tolist(),
            "batch_size": found.batch_size,
            "seconds": float(seconds),
        }
