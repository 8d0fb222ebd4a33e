"""A made results folder: what sampling, certification, attacks and audits would leave, without any of their work.

Counts are made of arithmetic that no library's version changes; certificates, the cost of the memory's order and every
file are written by the package itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from certsmooth._internal.later import stated
from certsmooth._internal.storage import file_digest
from certsmooth.artefacts.attacks import AttackCounts
from certsmooth.artefacts.audits import Broken
from certsmooth.artefacts.certificates import find_certificates, read_certificates
from certsmooth.artefacts.counts import CountsPart, write_counts
from certsmooth.artefacts.provenance import Image
from certsmooth.artefacts.records import Log, read_record, write_logs
from certsmooth.experiment.build import build
from certsmooth.experiment.config import Params
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import CertificationRun, table_runs
from certsmooth.experiment.specs import (
    N_BEFORE,
    AttackSpec,
    Batch,
    BreakSpec,
    DataSpec,
    SampleSpec,
    Spec,
    audit_path,
    certificates_path,
    counts_paths,
    grid_name,
    sources,
)
from certsmooth.experiment.steps.certify import certificate_of, certify_batch
from certsmooth.experiment.steps.gathered import Counted
from certsmooth.experiment.steps.order_cost import cost_orders
from certsmooth.science.audit.answers import KINDS
from certsmooth.science.audit.break_certificates import BreakPlan
from certsmooth.science.certificates import Bound
from certsmooth.science.datasets import fingerprint
from certsmooth.science.models import ModelSpec
from certsmooth.science.sampling.counts import Counts
from certsmooth.science.theory.pixel_grid import grid_of
from factories.artefacts import image_shape, log, num_classes, write_record
from factories.plans import IMAGES_OF_PARTS as IMAGES

SPREAD = {"digits-float": 8}  # in sixteenths: farther apart than any two balls reach
HARDNESS = {"smoothadv": 0.7, "adre": 0.9}  # of a training, 1 for the others

VERSIONS = {"python": "3.0.0", "torch": "2.0.0"}
COMMIT = "0123456789abcdef0123456789abcdef01234567-dirty"
IMAGE = Image(COMMIT.removesuffix("-dirty"), f"sha256:{'ef' * 32}", {"numpy": "2.0.0"})


class MadeResults:
    """Writes artefacts of the experiment that params are about below a folder, each when it is asked for.

    Images are kept in the working directory, as the steps keep them.
    """

    def __init__(self, params: Params, results: Path) -> None:
        self.params = params
        self.results = results
        self.experiment = Experiment(params)

    def record(self, data: DataSpec) -> Path:
        """Write the record of a data set, and keep the images that are sampled of it."""
        path = self.results / data.path
        if path.exists():
            return path
        stride = self.params.datasets[data.dataset].certification.stride
        images = IMAGES | {"test": IMAGES["test"] * stride}
        index = {"validation": np.arange(IMAGES["validation"]), "test": np.arange(IMAGES["test"]) * stride}
        parts = {
            name: {
                "images": count,
                "fingerprint": _hash(data.dataset, name),
                "content": _keep(data, name, index[name]) if name in index else _hash(data.dataset, name, "content"),
            }
            for name, count in images.items()
        }
        return write_record(path, data, parts)

    def counts(self, batch: Batch[SampleSpec]) -> Path:
        """Write the counts of a method, and their log."""
        (path,) = (self.results / each for each in counts_paths(batch))
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            parts = [self._sampled(spec, batch.method) for spec in batch.parts]
            write_counts(path, parts)
            is_uniform = [spec.noise == "uniform" for spec in batch.parts]
            write_logs(path, [_log([0.25] * len(p.counts), in_image=u) for p, u in zip(parts, is_uniform, strict=True)])
        return path

    def certificates(self, run: CertificationRun) -> Path:
        """Certify a run, and those that the same file holds, as the step does."""
        batch = self.experiment.certificates(run)
        path = self.results / certificates_path(batch.name)
        if not path.exists():
            counts = {path: each for each in self.experiment.all_counts() for path in counts_paths(each)}
            for spec in batch.parts:
                for each in spec.counts:
                    self.counts(counts[each])
            certify_batch(batch, results=self.results)
        return path

    def table(self, name: str) -> None:
        """Make the certificates that a table reads."""
        for run in table_runs(self.params, name):
            self.certificates(run)

    def empirical_table(self, name: str, *, contradicted: int = 0) -> None:
        """Make what a table of empirical accuracies reads.

        Args:
            name: of the table.
            contradicted: images, of each run and attack, at which PREDICT contradicts the certificate.
        """
        self.table(name)
        for row, runs in self.experiment.audited(name).items():
            for attack in self.params.tables[name].attacks:
                batch = self.experiment.attacks(name, attack, *row)
                path = self._audit(name, batch.name, f"{attack}.parquet")
                pairs = zip(batch.parts, runs, strict=True)
                AttackCounts.write(path, [self._attacked(spec, run, contradicted) for spec, run in pairs])
                write_logs(path, [_log([1.5, 0.5]) for _ in runs])

    def soundness_table(self, name: str) -> None:
        """Make what a table of soundness reads."""
        self.table(name)
        for row in self.experiment.audited(name):
            cost_orders(name, self.experiment.orders(name, *row), results=self.results)
            batch = self.experiment.breakings(name, *row)
            path = self._audit(name, batch.name, "broken.parquet")
            Broken.write(path, [self._broken(spec) for spec in batch.parts])
            write_logs(path, [_log([2.5]) for _ in batch.parts])

    def _audit(self, table: str, name: str, file: str) -> Path:
        path = self.results / audit_path(table, name, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _attacked(
        self, spec: AttackSpec, run: CertificationRun, contradicted: int
    ) -> tuple[AttackCounts, dict[str, Any]]:
        path = self.certificates(run)
        asked = self.experiment.certify(run, "test").identity
        frame = find_certificates(path, read_certificates(path), asked).frame.iloc[:: spec.stride]
        results = dict.fromkeys((m if r > 0 else 0, r) for m in spec.samples for r in spec.radii)
        classes = num_classes(spec.sampled.base.data)
        rows = [row for m, r in results for row in _attacked(frame, m, r, spec.n, contradicted, classes)]
        counts = AttackCounts.from_lists([{column: [row[column] for row in rows] for column in rows[0]}])
        return counts, self._identity(spec, spec.sampled)

    def _broken(self, spec: BreakSpec) -> tuple[Broken, dict[str, Any]]:
        sampled, certificate = spec.certified.sampled, certificate_of(spec.certified)
        record = read_record(self.record(sampled.base.data))
        gathered = Counted(self.results).gather(sampled, spec.certified.counts, record)
        bound = gathered.bound(certificate, alpha=spec.certified.alpha, image_shape=record["image_shape"])
        plan = BreakPlan(
            n=spec.n,
            seed=spec.seed,
            dataset=sampled.base.data.dataset,
            noise=certificate.noise,
            grid=grid_of(sampled.step),
            norm=certificate.norm,
        )
        rows = np.arange(0, len(gathered.counts), spec.stride)
        rows = rows[bound.radius[rows] > 0]
        is_proved = gathered.identity["semi_elasticity"] is not None
        broken = _break(gathered.counts, bound, rows, spec.n, is_proved=is_proved)
        return broken, {**self._identity(spec, sampled), "plan": asdict(plan)}

    def _sampled(self, spec: SampleSpec, method: str) -> CountsPart:
        policy = build("sigma", spec.policy, sigma=spec.base.sigma, key="policy")
        identity = {**self._identity(spec, spec), "shard": [0, 1], "semi_elasticity": policy.semi_elasticity}
        if spec.stop:  # as if others had been looked at before
            identity |= {N_BEFORE: [500]}
        return CountsPart(_counts(spec, self._run_name(spec, method)), identity)

    def _run_name(self, spec: SampleSpec, method: str) -> str:
        """Return the name that made counts depend on: that of the run of a method which they are sampled for."""
        sampled = (self.experiment.sampled_by(demand.run) for demand in self.experiment.demands)
        of_method = (run for run in sampled if run.method == method)
        run = next(run for run in of_method if self.experiment.sample(run, spec.split).key == spec.key)
        return f"{run.dataset}/{run.method}/sigma={run.sigma!r}/seed={run.seed}/{grid_name(run.grid)}"

    def _identity(self, spec: Spec, sampled: SampleSpec) -> dict[str, Any]:
        """Return what the steps write of something that is made of a smoothed classifier."""
        base = sampled.base
        path = self.results / base.path
        if not path.exists():
            path.parent.mkdir(parents=True)
            path.write_text(f"the weights of {base.name}, made for a test")
        return {
            **sources(sampled, read_record(self.record(base.data)), file_digest(path)),
            "model": stated(ModelSpec(base.architecture, image_shape(base.data), num_classes(base.data))),
            "device": "cpu",
            "torch": VERSIONS["torch"],
            "spec": spec.identity,
            "code": _hash("code"),
        }


def _keep(data: DataSpec, split: str, index: np.ndarray) -> str:
    """Keep images as the step that records data does, and return their content hash."""
    images, labels = _pixels(data, len(index)), np.zeros(len(index), dtype=np.int64)
    path = Path("data", "parts", f"{_hash(data.dataset, split).removeprefix('sha256:')}.npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, images=images, labels=labels, index=index)
    return fingerprint(images, labels, index)


def _pixels(data: DataSpec, count: int) -> np.ndarray:
    """Return grey images of noise in sixteenths; unless they are far apart, some are next to the one before."""
    spread = SPREAD.get(data.dataset, 5)
    images = 8 + _rng(data.dataset, "pixels").integers(-spread, spread + 1, (IMAGES["test"], *image_shape(data)))
    if data.dataset not in SPREAD:
        images[1::10] = images[::10]
        images.reshape(len(images), -1)[1::10, 0] += 5
    return images[:count].astype(np.float32) / 16


def _counts(spec: SampleSpec, name: str) -> Counts:
    """Return counts that depend on the image, on sigma, and on the run: the right class wins where it is easy."""
    data, sigma0, classes = spec.base.data, spec.base.sigma, num_classes(spec.base.data)
    index = np.arange(IMAGES[spec.split], dtype=np.int64) * spec.stride
    images, noise = _rng(data.dataset, spec.split), _rng(name, spec.split)
    label = images.integers(0, classes, len(index))
    difficulty = images.random(len(index)) * HARDNESS.get(spec.base.training, 1.0)
    jitter, change, within = noise.random((3, len(index)))
    is_fixed = spec.policy.name == "fixed"
    sigma = np.full(len(index), sigma0) if is_fixed else sigma0 * (0.75 + 0.5 * change)
    share = np.clip(1.25 - difficulty * (0.5 + 1.5 * sigma0) - 0.1 * jitter, 0.0, 1.0)
    selection, estimation = (_split(share, label, samples, classes) for samples in (spec.n0, spec.n))
    constant_within = np.inf if is_fixed else 0.1 * within if spec.policy.name == "nearest_neighbour" else 0.0
    return Counts(
        index=index,
        label=label,
        sigma=sigma,
        constant_within=np.broadcast_to(constant_within, len(index)).copy(),
        selection=selection,
        estimation=estimation,
        batch_size=np.full(len(index), 100),
    )


def _log(seconds: Sequence[float], *, in_image: bool = False) -> Log:
    image = IMAGE if in_image else None
    return log(list(seconds), threads=2, versions=VERSIONS, git_commit=COMMIT, image=image)


def _attacked(
    frame: pd.DataFrame, samples: int, radius: float, n: int, contradicted: int, classes: int
) -> list[dict[str, Any]]:
    """Return a row per image: the stronger the attack, the more often it leaves the certified ball and wins."""
    rows = []
    for place, image in enumerate(frame.itertuples()):
        distance = 0.9 * radius if place % 4 else radius
        left = 1.3 * image.radius - distance * (1 + samples / 16)
        certified = image.predict if image.predict >= 0 else image.label
        counts, other = [0] * classes, (certified + 1) % classes
        if (radius > 0 and place < contradicted and distance < image.radius) or left < -0.2:
            counts[other] = n
        else:
            counts[certified] = n // 2 if left < 0 or image.predict < 0 else n
            counts[other] = n - counts[certified]
        rows.append(
            {
                "index": image.idx,
                "label": image.label,
                "samples": samples,
                "epsilon": radius,
                "distance": distance,
                "sigma": image.sigma,
                "counts": counts,
                "batch_size": 100,
            }
        )
    return rows


def _break(counts: Counts, bound: Bound, rows: np.ndarray, n: int, *, is_proved: bool) -> Broken:
    """Return what an attack finds: it breaks a third of what is not proved, and PREDICT abstains at a fifth of it."""
    place, predict = np.arange(len(rows)), bound.predict[rows]
    broken = (place % 3 == 0) & (not is_proved)
    answers = np.zeros((len(rows), counts.estimation.shape[1]), dtype=np.int64)
    first = np.where(broken, (predict + 1) % answers.shape[1], predict)
    lead = np.where(broken, n, np.where(place % 5 == 0, n // 2, n - n // 20))
    answers[place, first] = lead
    answers[place, (first + 1) % answers.shape[1]] = n - lead
    return Broken(
        index=counts.index[rows],
        predict=predict,
        radius=bound.radius[rows],
        sigma=counts.sigma[rows],
        candidates=np.full(len(rows), 2 * len(KINDS)),
        kind=place % len(KINDS),
        distance=bound.radius[rows] / 2,
        sigma_there=counts.sigma[rows] / 2,
        counts=answers,
        batch_size=np.full(len(rows), 100),
    )


def _split(share: np.ndarray, label: np.ndarray, samples: int, classes: int) -> np.ndarray:
    """Return counts: a share of the samples for the label, most of the others for the next class."""
    counts = np.zeros((len(label), classes), dtype=np.int64)
    place, right = np.arange(len(label)), np.floor(share * samples).astype(np.int64)
    counts[place, label] = right
    third = (samples - right) // 5 if classes > 2 else 0 * right
    counts[place, (label + 1) % classes] += samples - right - third
    counts[place, (label + 2) % classes] += third
    return counts


def _rng(*names: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32("/".join(map(str, names)).encode()))


def _hash(*names: object) -> str:
    return f"sha256:{zlib.crc32('/'.join(map(str, names)).encode()):08x}{'0' * 56}"
