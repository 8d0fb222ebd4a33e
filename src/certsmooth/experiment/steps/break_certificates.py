"""Attack the certificates of one run: look inside each ball for a point where the classifier answers otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

from certsmooth.artefacts.audits import Broken
from certsmooth.experiment.code_hash import source_digest
from certsmooth.experiment.specs import Batch, BreakSpec, SampleSpec, audit_path
from certsmooth.experiment.steps.certify import Found, certificates_of
from certsmooth.experiment.steps.gathered import Counted, Gathered
from certsmooth.experiment.steps.grouped import Asked, Rows, attack_in_groups
from certsmooth.experiment.steps.loaded import Loaded
from certsmooth.science.audit.break_certificates import Balls, BreakPlan, SmoothedTarget, Target, break_group
from certsmooth.science.audit.break_dual import DualTarget
from certsmooth.science.audit.order import METRICS
from certsmooth.science.certificates import ABSTAIN, Norm
from certsmooth.science.datasets import Split
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
    attack_in_groups(output, (_asked(spec, loaded, counted) for spec in batch.parts), Broken, loaded)


def _asked(spec: BreakSpec, loaded: Loaded, counted: Counted) -> Asked:
    sampled, base = spec.certified.sampled, spec.certified.sampled.base
    found = certificates_of(spec.certified, counted, loaded.record(base.data))
    certified = _Certified.of(loaded.split(base.data, sampled.split), found, spec.stride)
    plan = BreakPlan(
        n=spec.n,
        seed=spec.seed,
        dataset=base.data.dataset,
        noise=sampled.noise,
        grid=grid_of(sampled.step),
        norm=found.norm,
    )

    target = _target(spec, found, loaded)

    def attack(rows: Rows) -> Iterator[Broken]:
        yield Broken(**vars(break_group(target, certified.balls(rows, plan.norm, loaded.device), plan=plan)))

    noises = {f"science.noise.{each.sampled.noise}" for each in spec.certified.parts}
    code = source_digest("experiment.steps.break_certificates", *sorted(noises))
    about = {**loaded.identity(sampled), **found.of_experts}
    identity = {**about, "spec": spec.identity, "plan": asdict(plan), "code": code}
    return Asked(name=base.name, base=base, identity=identity, rows=certified.attacked, attack=attack)


def _target(spec: BreakSpec, found: Found, loaded: Loaded) -> Target:
    """Return what is attacked."""
    gathered = found.gathered, *found.experts
    targets = [_smoothed(each.sampled, part, loaded) for each, part in zip(spec.certified.parts, gathered, strict=True)]
    if spec.router_alpha is None:
        return targets[0]
    return DualTarget(targets[0], targets[1:], spec.router_alpha)


def _smoothed(sampled: SampleSpec, gathered: Gathered, loaded: Loaded) -> SmoothedTarget:
    classifier, sigma = loaded.classifier(sampled.base), gathered.counts.sigma
    reached = float(sigma.min()), float(sigma.max())
    return SmoothedTarget(classifier, classifier.spec.num_classes, loaded.policy(sampled), reached)


@dataclass(frozen=True)
class _Certified:
    """All certificates of a run that do not abstain, and which of them are attacked.

    Attributes:
        split: the images.
        positions: of the images in it.
        predict: the certified classes.
        radius: the certified radii.
        sigma: sigma(x); that of the expert that a router chooses.
        attacked: rows of these that are attacked.
    """

    split: Split
    positions: Int[np.ndarray, " M"]
    predict: Int[np.ndarray, " M"]
    radius: Float[np.ndarray, " M"]
    sigma: Float[np.ndarray, " M"]
    attacked: Int[np.ndarray, " a"]

    @classmethod
    def of(cls, split: Split, found: Found, stride: int) -> _Certified:
        """Return what was certified; every stride-th image is attacked if it has a certificate."""
        positions, bound = split.positions(found.gathered.counts.index), found.bound
        (answered,) = np.nonzero((bound.predict != ABSTAIN) & (bound.radius > 0))
        (rows,) = np.nonzero(answered % stride == 0)
        radius, sigma = bound.radius[answered], found.sigma[answered]
        return cls(split, positions[answered], bound.predict[answered], radius, sigma, rows)

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
