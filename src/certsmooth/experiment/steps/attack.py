"""Attack the smoothed classifier at certified images, and count its classes at what the attack returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from certsmooth._internal.checks import LARGEST_SEED, MAX_SAMPLES, store_integer
from certsmooth._internal.modes import cpu_threads
from certsmooth._internal.registry import member
from certsmooth.artefacts.attacks import AttackCounts
from certsmooth.experiment.build import build
from certsmooth.experiment.code_hash import source_digest
from certsmooth.experiment.specs import AttackSpec, Batch, audit_path
from certsmooth.experiment.steps.gathered import Counted
from certsmooth.experiment.steps.grouped import Asked, Rows, attack_in_groups
from certsmooth.experiment.steps.loaded import Loaded
from certsmooth.science.attacks import L2Attack
from certsmooth.science.noise import NoiseStreams
from certsmooth.science.sampling.sampler import BLOCK, Sampler, SamplingPlan
from certsmooth.science.sigma import SigmaPolicy
from certsmooth.science.soft import scaled
from certsmooth.science.theory.pixel_grid import PixelGrid, grid_of

# Pixels of the noisy images of one backward pass, whose activations are all kept.
_CPU_BATCH_ELEMENTS = 64_000  # measured best on digits
_GPU_BATCH_ELEMENTS = 3_000_000


@dataclass(frozen=True)
class AttackPlan:
    """What is done to each image. All noise is a function of the seed, names and the image alone.

    Attributes:
        name: of the attack: the noise of PREDICT depends on it.
        attacks: radius -> the attack with that epsilon, > 0.
        clean: whether the images themselves are classified as well (radius 0).
        samples: numbers of noise samples that the attack sees: the first of one stream per image, stage "attack". 0:
            one sample of zeros, which makes it an attack on the base classifier.
        n: samples of PREDICT, >= 2. They are drawn anew for each attack, number of samples and radius, so that they
            are independent of what the attack and the certificate saw.
        seed: of all noise.
        dataset: name that the noise depends on.
        noise: a member of science.noise: that of the attack and of PREDICT, which must be that of the counts.
        grid: that PREDICT rounds noisy images to, which must be that of the counts; None for float32 noise.
    """

    name: str
    attacks: Mapping[float, L2Attack]
    clean: bool
    samples: tuple[int, ...]
    n: int
    seed: int
    dataset: str
    noise: str = "gaussian"
    grid: PixelGrid | None = None

    def __post_init__(self) -> None:
        store_integer(self, "n", minimum=2, maximum=MAX_SAMPLES)
        store_integer(self, "seed", minimum=0, maximum=LARGEST_SEED)

    @property
    def results(self) -> int:
        """Results per image."""
        return int(self.clean) + len(self.attacks) * len(self.samples)

    def standard_noise(
        self, identities: Sequence[int | str], samples: int, like: Tensor
    ) -> Float[Tensor, "m b *shape"]:
        """Return the standard noise that the attack on some images sees.

        Args:
            identities: what the noise of each image depends on.
            samples: how many of each image's stream.
            like: the images: their shape, type and device.
        """
        streams = NoiseStreams(member("noise", self.noise)(), self.seed, self.dataset)
        noise = like.new_zeros(len(identities), max(samples, 1), *like.shape[1:])
        if samples > 0:
            for part, identity in zip(noise, identities, strict=True):
                streams.fill(part, ("attack", identity), 0)  # a sample is a block: the first ones stay if more follow
        return noise.transpose(0, 1)

    def predict_plan(self, samples: int, epsilon: float) -> SamplingPlan:
        """Return what PREDICT draws at one kind of result.

        The sampler draws in two stages, of which PREDICT needs no more than the sum: the first is one block.
        """
        place = f"attack/{self.name}/{samples}/{epsilon!r}" if epsilon > 0 else "clean"
        first = min(BLOCK, self.n - 1)
        return SamplingPlan(first, self.n - first, self.seed, f"{self.dataset}/{place}", self.noise, self.grid)


def attack_batch(table: str, batch: Batch[AttackSpec], *, results: Path, device: torch.device) -> None:
    """Attack test images that were sampled for certification, of all runs of a method.

    A killed run goes on with the next `GROUP` images. Class counts at the attacked images are Parquet
    (`artefacts.attacks`); the log is the same name with ``.log.json``: seconds per group of images, device, versions.

    Args:
        table: that asks.
        batch: the attacks.
        results: the folder of the results.
        device: where to compute.

    Raises:
        CountsError: counts that are damaged, incomplete, or of something else.
    """
    output = results / audit_path(table, batch.name, f"{batch.parts[0].name}.parquet")
    loaded, counted = Loaded(results, device), Counted(results)
    attack_in_groups(output, (_asked(spec, loaded, counted) for spec in batch.parts), AttackCounts, loaded)


def _asked(spec: AttackSpec, loaded: Loaded, counted: Counted) -> Asked:
    sampled, base = spec.sampled, spec.sampled.base
    record, about = loaded.record(base.data), loaded.identity(sampled)
    certified = counted.gather(sampled, spec.counts, record).counts
    split, plan = loaded.split(base.data, sampled.split), _plan(spec, toy=record["pixel_range"] is None)
    positions = split.positions(certified.index)

    def attack(rows: Rows) -> Iterator[AttackCounts]:
        classifier, images = loaded.classifier(base), positions[rows]
        return attack_group(
            classifier,
            split.batch(images).to(loaded.device),
            torch.from_numpy(split.labels[images]).to(loaded.device),
            torch.from_numpy(certified.sigma[rows]).to(loaded.device),
            certified.index[rows].tolist(),
            num_classes=classifier.spec.num_classes,
            policy=loaded.policy(sampled),
            plan=plan,
        )

    code = source_digest(
        "experiment.steps.attack", f"science.noise.{sampled.noise}", f"science.attacks.{spec.attack.name}"
    )
    return Asked(
        name=f"{base.name}, {spec.name}",
        base=base,
        identity={**about, "spec": spec.identity, "code": code},
        rows=np.arange(0, len(certified), spec.stride),
        attack=attack,
        results=plan.results,
    )


def _plan(spec: AttackSpec, *, toy: bool) -> AttackPlan:
    # Toy data have no pixel range to be kept in.
    chosen = replace(spec.attack, options={**({"clamp": False} if toy else {}), **spec.attack.options})
    return AttackPlan(
        name=spec.name,
        attacks={
            r: build("attacks", chosen, epsilon=r, key=f"attacks.{spec.name}.attack") for r in spec.radii if r > 0
        },
        clean=0 in spec.radii,
        samples=spec.samples,
        n=spec.n,
        seed=spec.seed,
        dataset=spec.sampled.base.data.dataset,
        noise=spec.sampled.noise,
        grid=grid_of(spec.sampled.step),
    )


def attack_group(
    model: torch.nn.Module,
    images: Float[Tensor, " g *shape"],
    labels: Int[Tensor, " g"],
    sigma: Float[Tensor, " g"],
    identities: Sequence[int],
    *,
    num_classes: int,
    policy: SigmaPolicy,
    plan: AttackPlan,
) -> Iterator[AttackCounts]:
    """Attack a group of images, and yield the class counts at each kind of result.

    The attack is on the classifier that smooths with sigma(x) of the image, since it cannot differentiate the policy;
    PREDICT smooths with sigma(x') of the attacked image x', as the method does.

    Args:
        model: base classifier, on the device of the images.
        images: at most `GROUP` images, float32.
        labels: the true classes.
        sigma: sigma(x) of each image.
        identities: what the noise of each image depends on.
        num_classes: number of classes.
        policy: sigma(x).
        plan: what is done.

    Yields:
        The counts at the images themselves if the plan is to, then those of each radius and number of samples.
    """
    sampler = Sampler(model, num_classes=num_classes, plan=plan.predict_plan(0, 0.0))

    def counted(attacked: Tensor, samples: int, epsilon: float) -> AttackCounts:
        nonlocal sampler
        sampler = sampler.drawing(plan.predict_plan(samples, epsilon))
        used = sampler.sigmas(policy, attacked, identities)
        counts = list(sampler.count(attacked, used, identities))
        moved = (attacked.to(torch.float64) - images.to(torch.float64)).flatten(1)
        return AttackCounts(
            index=np.asarray(identities, dtype=np.int64),
            label=labels.cpu().numpy(),
            samples=np.full(len(images), samples),
            epsilon=np.full(len(images), epsilon),
            distance=torch.linalg.vector_norm(moved, dim=1).cpu().numpy(),
            sigma=used.numpy(),
            counts=np.stack([row.selection + row.estimation for row in counts]),
            batch_size=np.asarray([row.batch_size for row in counts]),
        )

    def attacked(attack: L2Attack, samples: int) -> Tensor:
        elements = _CPU_BATCH_ELEMENTS if images.device.type == "cpu" else _GPU_BATCH_ELEMENTS
        size = max(1, elements // (prod(images.shape[1:]) * max(samples, 1)))
        parts = []
        with cpu_threads(images.device, 1):  # the arithmetic must not depend on the number of cores
            for start in range(0, len(images), size):
                some = slice(start, start + size)
                noise = scaled(plan.standard_noise(identities[some], samples, images[some]), sigma[some])
                parts.append(attack(model, images[some], labels[some], noise))
        return torch.cat(parts)

    if plan.clean:
        yield counted(images, 0, 0.0)
    for (epsilon, attack), samples in product(plan.attacks.items(), plan.samples):
        yield counted(attacked(attack, samples), samples, epsilon)
