"""A made results folder: what sampling, certification, attacks and audits would leave, without any of their work.

Counts are made of arithmetic that no library's version changes; certificates, the cost of the memory's order and every
file are written by the package itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from certsmooth._internal.storage import write_json
from certsmooth.artefacts.attacks import AttackCounts
from certsmooth.artefacts.audits import Broken
from certsmooth.artefacts.certificates import read_certificates
from certsmooth.artefacts.counts import write_counts
from certsmooth.artefacts.records import log_path
from certsmooth.experiment.config import Params
from certsmooth.experiment.members import certificate_of, policy_of
from certsmooth.experiment.runs import (
    PARTS,
    CertificationRun,
    Part,
    attack_slice,
    break_slice,
    certification,
    certify_slice,
    order_slice,
    sample_slice,
    sampling_run,
    table_runs,
)
from certsmooth.experiment.steps.certify import Order, certify_counts, gather_bound
from certsmooth.experiment.steps.order_cost import cost_order
from certsmooth.science.audit.break_certificates import KINDS, BreakPlan
from certsmooth.science.certificates import Bound
from certsmooth.science.models import ModelSpec
from certsmooth.science.sampling.counts import Counts
from certsmooth.science.theory.pixel_grid import grid_of

IMAGES = {"training": 200, "validation": 24, "test": 60}
"""Of a part of each data set, as far as its stride leaves them."""

SHAPES = {"digits": (1, 8, 8), "cifar10": (3, 32, 32)}
SPREAD = {"digits-float": 8}  # in sixteenths: farther apart than any two balls reach
HARDNESS = {"smoothadv": 0.7, "adre": 0.9}  # of a training, 1 for the others

VERSIONS = {"python": "3.0.0", "torch": "2.0.0"}
COMMIT = "0123456789abcdef0123456789abcdef01234567-dirty"
IMAGE = {"commit": COMMIT.removesuffix("-dirty"), "definition": f"sha256:{'ef' * 32}", "packages": {"numpy": "2.0.0"}}


class MadeResults:
    """Writes artefacts of the experiment that params are about below a folder, each when it is asked for."""

    def __init__(self, params: Params, results: Path) -> None:
        self.params = params
        self.results = results

    def record(self, dataset: str) -> Path:
        """Write the record of a data set."""
        chosen, member = self.params.datasets[dataset], self._member(dataset)
        path = self.results / "data" / f"{dataset}.json"
        images = IMAGES | {"test": IMAGES["test"] * chosen.certification.stride}
        parts = {
            part: {"images": count, "fingerprint": _hash(dataset, part), "content": _hash(dataset, part, "content")}
            for part, count in images.items()
        }
        content = {
            "name": member,
            "description": f"{member}, made for a test",
            "image_shape": list(self._shape(dataset)),
            "num_classes": self._classes(dataset),
            "pixel_range": None if member == "cones" else [0.0, 1.0],
            "parts": parts,
        }
        _write(path, content)
        return path

    def counts(self, run: CertificationRun, part: Part) -> Path:
        """Write the counts that a run is certified from, and their log."""
        run = sampling_run(self.params, run)
        path = self.results / "counts" / run.folder / f"{part}-0-of-1.parquet"
        if not path.exists():
            about = sample_slice(self.params, run)
            made = self._made_counts(run, part, n0=about["n0"], n=about["n"])
            policy = policy_of(self.params, run)
            identity = {
                **self._asked(run, part),
                "stride": about["stride"] if part == "test" else 1,
                "shard": [0, 1],
                "semi_elasticity": policy.semi_elasticity,
                "n0": about["n0"],
                "n": about["n"],
                "seed": about["seed"],
                "code": _hash("code"),
            }
            path.parent.mkdir(parents=True, exist_ok=True)
            write_counts(path, made, identity)
            self._log(path, [0.25] * len(made), in_image=about["noise"] == "uniform")
        return path

    def certificates(self, run: CertificationRun, part: Part) -> Path:
        """Certify a run, as the step does."""
        path = self.results / "certificates" / run.folder / f"{part}.tsv"
        if not path.exists():
            about = certify_slice(self.params, run)
            certify_counts(
                [self.counts(run, part)],
                certificate=certificate_of(self.params, run.method),
                alpha=about["alpha"],
                described=about["certificate"],
                expect={"dataset": run.dataset, "part": part},
                record=self.record(run.dataset),
                memory=Order(about["seed"]) if about["memory"] else None,
                images_at=lambda index: self._pixels(run.dataset, index),
                output=path,
            )
        return path

    def certified_table(self, name: str) -> None:
        """Make what a table of certified accuracies reads."""
        for run in table_runs(self.params, name):
            for part in PARTS:
                self.certificates(run, part)

    def accuracy_table(self, name: str) -> None:
        """Make what a table of clean accuracies reads."""
        for run in table_runs(self.params, name):
            self.certificates(run, "test")

    def empirical_table(self, name: str, *, contradicted: int = 0) -> None:
        """Make what a table of empirical accuracies reads.

        Args:
            name: of the table.
            contradicted: images, of each run and attack, at which PREDICT contradicts the certificate.
        """
        for run in table_runs(self.params, name):
            frame, _ = read_certificates(self.certificates(run, "test"))
            for key, choice in self.params.attacks[name].attacks.items():
                about = attack_slice(self.params, name, key, run)
                attacked = frame.iloc[:: about["stride"]]
                results = dict.fromkeys((m if r > 0 else 0, r) for m in choice.samples for r in about["radii"])
                rows = [
                    row
                    for m, r in results
                    for row in _attacked(attacked, m, r, about["n"], contradicted, self._classes(run.dataset))
                ]
                path = self.results / "attacks" / name / run.folder / f"{key}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                columns = {column: [row[column] for row in rows] for column in rows[0]}
                AttackCounts.from_lists([columns]).write(
                    path, {**about, **self._asked(run, "test"), "code": _hash("code")}
                )
                self._log(path, [1.5, 0.5])

    def soundness_table(self, name: str) -> None:
        """Make what a table of soundness reads."""
        for run in table_runs(self.params, name):
            self.certificates(run, "test")
            counts, record = self.counts(run, "test"), self.record(run.dataset)
            about, folder = order_slice(self.params, name, run), self.results / "audit" / name / run.folder
            certificate = certificate_of(self.params, run.method)
            cost_order(
                [counts],
                certificate=certificate,
                alpha=about["alpha"],
                expect={"dataset": run.dataset},
                record=record,
                memory=Order(about["seed"]),
                images_at=lambda index, run=run: self._pixels(run.dataset, index),
                radii=about["radii"],
                shuffles=about["shuffles"],
                output=folder / "order.json",
            )
            self._broken(name, run, folder / "broken.parquet")

    def _broken(self, name: str, run: CertificationRun, path: Path) -> None:
        about, certificate = break_slice(self.params, name, run), certificate_of(self.params, run.method)
        counts, identity, bound = gather_bound(
            [self.counts(run, "test")],
            certificate=certificate,
            alpha=about["alpha"],
            expect={"dataset": run.dataset},
            record=self.record(run.dataset),
        )
        plan = BreakPlan(
            n=about["n"],
            seed=about["seed"],
            dataset=run.dataset,
            noise=certificate.noise,
            grid=grid_of(about["step"]),
            norm=certificate.norm,
        )
        made = {
            **self._asked(run, "test"),
            "certified": {"alpha": about["alpha"]} | {key: identity[key] for key in ("n0", "n", "seed")},
            "plan": asdict(plan),
            "code": _hash("code"),
        }
        rows = np.arange(0, len(counts), about["stride"])
        rows = rows[bound.radius[rows] > 0]
        is_proved = identity["semi_elasticity"] is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        _break(counts, bound, rows, about["n"], is_proved=is_proved).write(path, {**about, **made})
        self._log(path, [2.5])

    def _made_counts(self, run: CertificationRun, part: Part, *, n0: int, n: int) -> Counts:
        """Return counts that depend on the image, on sigma, and on the run: the right class wins where it is easy."""
        method, classes = self.params.methods[run.method], self._classes(run.dataset)
        stride = certification(self.params, run).stride if part == "test" else 1
        index = np.arange(IMAGES[part], dtype=np.int64) * stride
        images, noise = _rng(run.dataset, part), _rng(run.folder, part)
        label = images.integers(0, classes, len(index))
        difficulty = images.random(len(index)) * HARDNESS.get(method.training, 1.0)
        jitter, change, within = noise.random((3, len(index)))
        is_fixed = method.policy.name == "fixed"
        sigma = np.full(len(index), run.sigma) if is_fixed else run.sigma * (0.75 + 0.5 * change)
        share = np.clip(1.25 - difficulty * (0.5 + 1.5 * run.sigma) - 0.1 * jitter, 0.0, 1.0)
        selection, estimation = (_split(share, label, samples, classes) for samples in (n0, n))
        constant_within = np.inf if is_fixed else 0.1 * within if method.policy.name == "nearest_neighbour" else 0.0
        return Counts(
            index=index,
            label=label,
            sigma=sigma,
            constant_within=np.broadcast_to(constant_within, len(index)).copy(),
            selection=selection,
            estimation=estimation,
            batch_size=np.full(len(index), 100),
        )

    def _pixels(self, dataset: str, index: np.ndarray) -> np.ndarray:
        """Return grey images of noise in sixteenths; unless they are far apart, some are next to the one before."""
        spread = SPREAD.get(dataset, 5)
        images = 8 + _rng(dataset, "pixels").integers(-spread, spread + 1, (IMAGES["test"], *self._shape(dataset)))
        if dataset not in SPREAD:
            images[1::10] = images[::10]
            images[1::10, ..., 0, 0] += 5
        return images[np.searchsorted(np.unique(index), index)].astype(np.float32) / 16

    def _asked(self, run: CertificationRun, part: Part) -> dict[str, Any]:
        about = sample_slice(self.params, run)
        chosen = self.params.datasets[run.dataset]
        spec = ModelSpec(chosen.architecture, self._shape(run.dataset), self._classes(run.dataset))
        return {
            "dataset": run.dataset,
            "part": part,
            "fingerprint": _hash(run.dataset, part),
            "checkpoint": _hash(run.dataset, self.params.methods[run.method].training, run.sigma, run.seed),
            **{key: about[key] for key in ("policy", "noise", "step")},
            "model": spec.to_dict(),
            "device": "cpu",
            "torch": VERSIONS["torch"],
        }

    def _log(self, made: Path, seconds: list[float], *, in_image: bool = False) -> None:
        content = {"seconds": seconds, "device": "cpu", "threads": 2, "versions": VERSIONS, "git_commit": COMMIT}
        _write(log_path(made), content | {"image": IMAGE if in_image else None})

    def _member(self, dataset: str) -> str:
        return self.params.datasets[dataset].member or dataset

    def _shape(self, dataset: str) -> tuple[int, ...]:
        options = self.params.datasets[dataset].options
        return SHAPES.get(self._member(dataset)) or (int(options["dimension"]),)

    def _classes(self, dataset: str) -> int:
        return 2 if self._member(dataset) == "cones" else 10


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


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, dict(content))
