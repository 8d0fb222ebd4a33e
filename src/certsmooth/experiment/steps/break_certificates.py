"""Attack the certificates of one run: look inside each ball for a point where the classifier answers otherwise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist
from tqdm import tqdm

from certsmooth._internal.storage import exclusive
from certsmooth.artefacts.audits import Broken
from certsmooth.artefacts.counts import Journal
from certsmooth.artefacts.records import write_logs
from certsmooth.errors import CountsError
from certsmooth.experiment.code_hash import source_digest
from certsmooth.experiment.specs import Batch, BreakSpec, audit_path
from certsmooth.experiment.steps.certify import certificate_of, gather
from certsmooth.experiment.steps.gathered import Counted
from certsmooth.experiment.steps.loaded import Loaded
from certsmooth.science.audit.break_certificates import Balls, BreakPlan, break_group
from certsmooth.science.audit.order import METRICS
from certsmooth.science.certificates import ABSTAIN, Bound, Norm
from certsmooth.science.datasets import Split
from certsmooth.science.models import numerics
from certsmooth.science.sampling.counts import Counts
from certsmooth.science.sampling.sampler import GROUP
from certsmooth.science.theory.pixel_grid import grid_of

_COLUMNS = 512  # images per block of distances


def break_batch(table: str, batch: Batch[BreakSpec], *, results: Path, device: torch.device) -> None:
    """Attack the certificates of test images, as they are before any memory pass, of all runs of a method.

    Images at which the certificate abstains are passed over. A killed run goes on with the next `GROUP` certificates.
    What was found is Parquet (`artefacts.audits`); the log is the same name with ``.log.json``: seconds per group,
    device, versions.

    Args:
        table: that asks.
        batch: the runs.
        results: the folder of the results.
        device: where to compute.

    Raises:
        CountsError: counts that are damaged, incomplete, or of something else.
    """
    output = results / audit_path(table, batch.name, "broken.parquet")
    loaded, counted = Loaded(results, device), Counted(results)
    with exclusive(output, error=CountsError):
        parts, logs, journals = [], [], []
        for spec in batch.parts:
            certified, plan, identity = _asked(spec, loaded, counted)
            journal = Journal(output, identity)
            with journal, numerics(loaded.classifier(spec.certified.sampled.base).spec.numeric_type):
                _break_groups(certified, spec, plan, loaded, journal)
            journals.append(journal)
            parts.append((Broken.from_lists([entry["broken"] for entry in journal.entries]), identity))
            logs.append(loaded.log([entry["seconds"] for entry in journal.entries]))
        Broken.write(output, parts)
        write_logs(output, logs)
        for journal in journals:
            journal.remove()


def _asked(spec: BreakSpec, loaded: Loaded, counted: Counted) -> tuple[_Certified, BreakPlan, dict[str, Any]]:
    """Return what is attacked of one run, how, and what identifies both."""
    sampled, certificate = spec.certified.sampled, certificate_of(spec.certified)
    record, about = loaded.record(sampled.base.data), loaded.identity(sampled)
    gathered = gather(sampled, spec.certified.counts, counted, record)
    bound = gathered.bound(certificate, alpha=spec.certified.alpha, image_shape=record["image_shape"])
    plan = BreakPlan(
        n=spec.n,
        seed=spec.seed,
        dataset=sampled.base.data.dataset,
        noise=certificate.noise,
        grid=grid_of(sampled.step),
        norm=certificate.norm,
    )
    identity = {
        **about,
        "spec": spec.identity,
        "plan": asdict(plan),
        "code": source_digest("experiment.steps.break_certificates", f"science.noise.{plan.noise}"),
    }
    split = loaded.split(sampled.base.data, sampled.split)
    return _Certified.of(split, gathered.counts, bound, spec.stride), plan, identity


@dataclass(frozen=True)
class _Certified:
    """All certificates of a run that do not abstain, and which of them are attacked.

    Attributes:
        split: the images.
        positions: of the images in it.
        predict: the certified classes.
        radius: the certified radii.
        sigma: sigma(x).
        attacked: rows of these that are attacked, in groups.
    """

    split: Split
    positions: Int[np.ndarray, " M"]
    predict: Int[np.ndarray, " M"]
    radius: Float[np.ndarray, " M"]
    sigma: Float[np.ndarray, " M"]
    attacked: Sequence[Int[np.ndarray, " g"]]

    @classmethod
    def of(cls, split: Split, counts: Counts, bound: Bound, stride: int) -> _Certified:
        """Return the certificates of some counts; every stride-th image is attacked if it has one."""
        order = np.argsort(split.index)
        positions = order[np.searchsorted(split.index, counts.index, sorter=order)]
        (answered,) = np.nonzero((bound.predict != ABSTAIN) & (bound.radius > 0))
        (rows,) = np.nonzero(answered % stride == 0)
        groups = [rows[i : i + GROUP] for i in range(0, len(rows), GROUP)]
        radius, sigma = bound.radius[answered], counts.sigma[answered]
        return cls(split, positions[answered], bound.predict[answered], radius, sigma, groups)

    def balls(self, group: Int[np.ndarray, " g"], norm: Norm, device: torch.device) -> Balls:
        """Return the certified balls of a group."""
        return Balls(
            images=self.split.batch(self.positions[group]).to(device),
            identities=self.split.index[self.positions[group]].tolist(),
            predict=torch.from_numpy(self.predict[group]).to(device),
            radius=torch.from_numpy(self.radius[group]).to(device),
            sigma=torch.from_numpy(self.sigma[group]).to(device),
            nearest=self.split.batch(self.positions[self._nearest(group, norm)]).to(device),
        )

    def _nearest(self, group: Int[np.ndarray, " g"], norm: Norm) -> npt.NDArray[np.int64]:
        """Return the row of the nearest image of another class for each of a group; its own where there is none."""
        best, nearest = np.full(len(group), np.inf), group.copy()
        images = self._flat(group)
        for first in range(0, len(self.positions), _COLUMNS):
            others = np.arange(first, min(first + _COLUMNS, len(self.positions)))
            distances = cdist(images, self._flat(others), METRICS[norm])
            distances[self.predict[group][:, None] == self.predict[others]] = np.inf
            least = distances.min(axis=1)
            nearest = np.where(least < best, others[distances.argmin(axis=1)], nearest)
            best = np.minimum(best, least)
        return nearest

    def _flat(self, rows: Int[np.ndarray, " m"]) -> npt.NDArray[np.float64]:
        flat: npt.NDArray[np.float64] = self.split.batch(self.positions[rows]).flatten(1).numpy().astype(np.float64)
        return flat


def _break_groups(certified: _Certified, spec: BreakSpec, plan: BreakPlan, loaded: Loaded, journal: Journal) -> None:
    """Attack the groups that the journal does not hold yet."""
    sampled = spec.certified.sampled
    classifier, policy = loaded.classifier(sampled.base), loaded.policy(sampled)
    groups, done = certified.attacked, len(journal.entries)
    total, finished = (sum(map(len, some)) for some in (groups, groups[:done]))
    with tqdm(total=total, initial=finished, unit="certificate", desc=sampled.base.name) as bar:
        for group in groups[done:]:
            since = time.perf_counter()
            broken = break_group(
                classifier,
                certified.balls(group, plan.norm, loaded.device),
                num_classes=classifier.spec.num_classes,
                policy=policy,
                reached=(float(certified.sigma.min()), float(certified.sigma.max())),
                plan=plan,
            )
            journal.append({"seconds": time.perf_counter() - since, "broken": broken.lists()})
            bar.update(len(group))
