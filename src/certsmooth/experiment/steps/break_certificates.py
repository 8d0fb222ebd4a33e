"""Attack the certificates of one run: look inside each ball for a point where the classifier answers otherwise."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist
from tqdm import tqdm

from certsmooth.artefacts.audits import Broken
from certsmooth.artefacts.counts import Journal
from certsmooth.artefacts.records import read_record
from certsmooth.errors import ConfigError
from certsmooth.experiment.code_hash import source_digest
from certsmooth.experiment.steps.certify import gather_bound
from certsmooth.experiment.steps.data import DataChoice, load_part
from certsmooth.experiment.steps.smoothed import about, arithmetic, load_smoothed, write_log
from certsmooth.science.audit.break_certificates import Balls, BreakPlan, break_group
from certsmooth.science.audit.order import METRICS
from certsmooth.science.certificates import ABSTAIN, Bound, Certificate, Norm
from certsmooth.science.datasets import Split
from certsmooth.science.models import BaseClassifier, numerics
from certsmooth.science.sampling.counts import Counts
from certsmooth.science.sampling.sampler import GROUP
from certsmooth.science.sigma import SigmaPolicy

_COLUMNS = 512  # images per block of distances


def break_certificates(
    *,
    choice: DataChoice,
    record: Path,
    counts: Sequence[Path],
    certificate: Certificate,
    alpha: float,
    stride: int,
    model: Path,
    sigma: float,
    policy: SigmaPolicy,
    plan: BreakPlan,
    settings: Mapping[str, Any],
    device: torch.device,
    output: Path,
) -> None:
    """Attack the certificates of test images, as they are before any memory pass.

    Images at which the certificate abstains are passed over. A killed run goes on with the next `GROUP` certificates.

    Args:
        choice: which data.
        record: their record.
        counts: all shards of the counts of the test part, which the certificates are computed from.
        certificate: what is attacked; its noise and norm must be those of ``plan``.
        alpha: of the certificates.
        stride: every stride-th of the sampled images.
        model: checkpoint of the base classifier, which the counts must be of.
        sigma: that it must have been trained with.
        policy: sigma(x), which is asked at each candidate.
        plan: how certificates are attacked.
        settings: name and options of the policy (key ``policy``), the certificate, ..., for the identity of what is
            written.
        device: where to compute.
        output: what was found (Parquet, `artefacts.audits`); the log is the same name with ``.log.json``: seconds
            per group, device, versions.

    Raises:
        ConfigError: noise or norm of plan and certificate differ.
        CountsError: counts that are damaged, incomplete, or of something else.
    """
    if (plan.noise, plan.norm) != (certificate.noise, certificate.norm):
        found, right = f"{plan.noise} and {plan.norm}", f"{certificate.noise} and {certificate.norm}"
        raise ConfigError(f"plan: noise and norm {found}; must be {right}, as the certificate's")
    content = read_record(record)
    split = load_part(choice, "test", content)
    asked = about(
        split,
        dataset=choice.dataset,
        part="test",
        model=model,
        policy=settings["policy"],
        noise=plan.noise,
        grid=plan.grid,
    )
    gathered, sampled, bound = gather_bound(counts, certificate=certificate, alpha=alpha, expect=asked, record=record)
    classifier, policy = load_smoothed(model, choice=choice, content=content, sigma=sigma, policy=policy, device=device)
    identity = {
        **settings,
        **asked,
        **arithmetic(classifier, device),
        "certified": {"alpha": alpha} | {key: sampled[key] for key in ("n0", "n", "seed")},
        "stride": stride,
        "plan": asdict(plan),
        "code": source_digest("experiment.steps.break_certificates", f"science.noise.{plan.noise}"),
    }
    certified = _Certified.of(split, gathered, bound, stride)
    output.parent.mkdir(parents=True, exist_ok=True)
    with Journal(output, identity) as journal, numerics(classifier.spec.numeric_type):
        _break_groups(certified, classifier, policy, plan, device, journal, name=str(output))
        write_log(output, [entry["seconds"] for entry in journal.entries], device)
        Broken.from_lists([entry["broken"] for entry in journal.entries]).write(output, identity)
        journal.remove()


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


def _break_groups(
    certified: _Certified,
    classifier: BaseClassifier,
    policy: SigmaPolicy,
    plan: BreakPlan,
    device: torch.device,
    journal: Journal,
    *,
    name: str,
) -> None:
    """Attack the groups that the journal does not hold yet."""
    groups, done = certified.attacked, len(journal.entries)
    total, finished = (sum(map(len, some)) for some in (groups, groups[:done]))
    with tqdm(total=total, initial=finished, unit="certificate", desc=name) as bar:
        for group in groups[done:]:
            since = time.perf_counter()
            answers = break_group(
                classifier,
                certified.balls(group, plan.norm, device),
                num_classes=classifier.spec.num_classes,
                policy=policy,
                reached=(float(certified.sigma.min()), float(certified.sigma.max())),
                plan=plan,
            )
            journal.append({"seconds": time.perf_counter() - since, "broken": Broken(**vars(answers)).lists()})
            bar.update(len(group))
