"""An attack on certificates: inside each certified ball, look for a point where the classifier answers otherwise.

A certificate (x, c, R) of a smoothed classifier g promises g(x') = c for every x' nearer to x than R. With a constant
sigma that is proved. With sigma(x) chosen by OptimizeSigma it is not: at x' the classifier smooths with sigma(x'), and
g may be another class there (Sukenik et al., ICML 2022, Appendix C.2). The attack asks the classifier itself: at each
candidate x' it chooses sigma(x') afresh, then counts classes under noise.

Candidates, each at half the radius and just inside it (`FRACTIONS`):

- ``own``, ``start``, ``lowest``, ``highest``: gradient ascent on log (1 - G_c(x')) / G_c(x'), G the soft smoothed
  classifier (SmoothAdv, Section 2.2), with sigma held at sigma(x), at the sigma where the policy starts, and at the
  least and the largest that the policy chose for any image of the run;
- ``up``, ``down``: gradient ascent on the difference of the surrogate radius sigma/2 (Phi^-1(p_c) - Phi^-1(p_B)), which
  OptimizeSigma climbs, between the largest and the least of these sigmas, and on its negative: where sigma(x') is drawn
  to one of them;
- ``nearest``: toward the nearest image of the run that is certified as another class, no farther than that image;
- ``random``: a direction of Gaussian noise.

Steps are normalised in the certificate's norm, and shrink from R to R / 1000 (`_DECAY`), so that narrow regions far
inside the ball are found as well. What leaves the ball is drawn back along the line to x. Pixels are not clipped to
[0, 1]: a certificate is about all points of its ball.

What is attacked, a `Target`, says where its candidates are, and how it answers; those of the classifiers that a router
chooses between are in `certsmooth.science.audit.break_dual`.

The candidate with the largest lead of another class over c in few samples is then asked again with new noise: first
sigma(x'), then PREDICT. So the choice among candidates, and a lucky sigma(x'), cannot make a certificate look broken:
PREDICT is asked once per certificate, and errs with probability at most its alpha.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from certsmooth._internal.checks import LARGEST_SEED, MAX_SAMPLES, store_integer
from certsmooth._internal.modes import cpu_threads, evaluation
from certsmooth._internal.registry import member
from certsmooth.science.attacks._gradients import check_differentiable, check_finite
from certsmooth.science.attacks._l2 import per_example, unit
from certsmooth.science.audit.answers import KINDS, Answers
from certsmooth.science.certificates import Norm
from certsmooth.science.noise import NoiseStreams
from certsmooth.science.sampling.sampler import BLOCK, GROUP, Sampler, SamplingPlan
from certsmooth.science.sigma import SigmaPolicy
from certsmooth.science.soft import mean_log_probabilities, noisy_logits, quantile_gap, scaled
from certsmooth.science.theory.pixel_grid import PixelGrid

FRACTIONS = (0.5, 1.0)
"""Of the largest distance, at which each kind of candidate is made."""

INSIDE = 0.999
"""Of a radius, as far as candidates go: float32 pixels must not lie beyond it."""
_DECAY = 1e-3
# Pixels of the noisy images of one backward pass, whose activations are all kept.
_CPU_BATCH_ELEMENTS = 64_000
_GPU_BATCH_ELEMENTS = 3_000_000


@dataclass(frozen=True)
class BreakPlan:
    """How certificates are attacked. All noise is a function of the seed, names and the image alone.

    Attributes:
        n: samples of PREDICT at the chosen candidate, >= 2.
        seed: of all noise.
        dataset: name that the noise depends on.
        noise: a member of certsmooth.science.noise, that of the certificate.
        grid: that noisy images are rounded to, as for the certificate; None for float32 noise.
        norm: of the certificate's radius.
        steps: of gradient ascent, >= 2.
        samples: noise samples that it sees.
        screen: samples at each candidate, by which one is chosen, >= 2.
    """

    n: int
    seed: int
    dataset: str
    noise: str = "gaussian"
    grid: PixelGrid | None = None
    norm: Norm = "l2"
    steps: int = 30
    samples: int = 16
    screen: int = 200

    def __post_init__(self) -> None:
        store_integer(self, "seed", minimum=0, maximum=LARGEST_SEED)
        for name, least in (("n", 2), ("steps", 2), ("samples", 1), ("screen", 2)):
            store_integer(self, name, minimum=least, maximum=MAX_SAMPLES)

    def draws(self, place: str, n: int) -> SamplingPlan:
        """Return what a sampler draws at some place: n in all; its two stages are of use to certificates only."""
        first = min(BLOCK, n - 1)
        return SamplingPlan(first, n - first, self.seed, f"{self.dataset}/break/{place}", self.noise, self.grid)

    def standard_noise(
        self, stage: str, samples: int, identities: Sequence[int | str], like: Tensor
    ) -> Float[Tensor, "m b *shape"]:
        """Return standard noise of each image for the search: independent of what sampling draws."""
        streams = NoiseStreams(member("noise", self.noise)(), self.seed, f"{self.dataset}/break")
        noise = like.new_zeros(len(identities), samples, *like.shape[1:])
        for part, identity in zip(noise, identities, strict=True):
            streams.fill(part, (stage, identity), 0)
        return noise.transpose(0, 1)


@dataclass(frozen=True)
class Balls:
    """Certified balls of g images, on the device of the model.

    Attributes:
        images: float32.
        identities: what the noise of each depends on.
        predict: int64 [g], the certified class.
        radius: float64 [g], > 0.
        sigma: float64 [g], sigma(x).
        nearest: the nearest image of another class; the image itself where there is none.
    """

    images: Float[Tensor, " g *shape"]
    identities: Sequence[int]
    predict: Int[Tensor, " g"]
    radius: Float[Tensor, " g"]
    sigma: Float[Tensor, " g"]
    nearest: Float[Tensor, " g *shape"]

    def part(self, rows: slice) -> Balls:
        """Return some of the balls."""
        tensors = (self.predict, self.radius, self.sigma, self.nearest)
        return Balls(self.images[rows], self.identities[rows], *(tensor[rows] for tensor in tensors))


class Candidate(NamedTuple):
    """Points to try.

    Attributes:
        kind: one of `KINDS`.
        name: that its noise depends on, of its own.
        points: float32, strictly inside their balls: the distance of the float32 pixels is below the radius.
    """

    kind: str
    name: str
    points: Float[Tensor, " g *shape"]


class Asked(NamedTuple):
    """What a classifier answers at some points.

    Attributes:
        sigma: float64, that it smoothed with.
        counts: of classes.
        batch_size: rows per forward pass.
    """

    sigma: Float[np.ndarray, " g"]
    counts: Int[np.ndarray, "g k"]
    batch_size: Int[np.ndarray, " g"]


class Target(Protocol):
    """A classifier whose certificates are attacked."""

    def candidates(self, balls: Balls, plan: BreakPlan) -> Iterator[Candidate]:
        """Yield the points to try, at each of `FRACTIONS` of the radii."""
        ...

    def ask(
        self, points: Sequence[Float[Tensor, " g *shape"]], identities: Sequence[int], plans: Sequence[SamplingPlan]
    ) -> Iterator[Asked]:
        """Yield what it answers at the points of each of some candidates, drawing what the plan of each says."""
        ...

    def predict(self, points: Float[Tensor, " g *shape"], identities: Sequence[int], plan: SamplingPlan) -> Asked:
        """Return the counts of PREDICT: none of an image at which it abstains already."""
        ...


def break_group(target: Target, balls: Balls, *, plan: BreakPlan) -> Answers:
    """Attack the certificates of a group of images.

    Args:
        target: whose certificates they are; its models on the device of the images.
        balls: at most `certsmooth.science.sampling.sampler.GROUP`.
        plan: how they are attacked.

    Returns:
        What PREDICT counts at the most promising candidate of each.
    """
    classes = balls.predict.cpu().numpy()
    best, kind = np.full(len(classes), -plan.screen - 1), np.zeros(len(classes), np.int64)
    chosen = balls.images
    tried = list(target.candidates(balls, plan))
    screens = [plan.draws(f"screen/{each.name}", plan.screen) for each in tried]
    for each, asked in zip(tried, target.ask([each.points for each in tried], balls.identities, screens), strict=True):
        lead = _lead(asked.counts, classes)
        better = torch.from_numpy(lead > best).to(chosen.device)
        chosen = torch.where(per_example(better, chosen).bool(), each.points, chosen)
        kind, best = np.where(lead > best, KINDS.index(each.kind), kind), np.maximum(lead, best)
    final = target.predict(chosen, balls.identities, plan.draws("predict", plan.n))
    return Answers(
        index=np.asarray(balls.identities, dtype=np.int64),
        predict=classes,
        radius=balls.radius.cpu().numpy(),
        sigma=balls.sigma.cpu().numpy(),
        candidates=np.full(len(classes), len(tried)),
        kind=kind,
        distance=distances(chosen, balls.images, plan.norm).cpu().numpy(),
        sigma_there=final.sigma,
        counts=final.counts,
        batch_size=final.batch_size,
    )


@dataclass(frozen=True)
class SmoothedTarget:
    """One smoothed classifier.

    Attributes:
        model: base classifier.
        num_classes: number of classes.
        policy: sigma(x).
        reached: the least and the largest sigma that the policy chose for an image of the run.
    """

    model: nn.Module
    num_classes: int
    policy: SigmaPolicy
    reached: tuple[float, float]

    def candidates(self, balls: Balls, plan: BreakPlan) -> Iterator[Candidate]:
        """Yield them; a kind that is the same as an earlier one, as several are for a constant sigma, is left out."""
        low, high = self.reached
        goals = {"own": Goal(self.model, balls, balls.sigma)}
        for name, sigma in (("start", self.policy.sigma0), ("lowest", low), ("highest", high)):
            known = [goal.sigma for goal in goals.values()]
            if all(bool((each != sigma).any()) for each in known):
                goals[name] = Goal(self.model, balls, torch.full_like(balls.sigma, sigma))
        if low < high:
            ends = torch.full_like(balls.sigma, low), torch.full_like(balls.sigma, high)
            goals |= {"up": Goal(self.model, balls, *reversed(ends)), "down": Goal(self.model, balls, *ends)}
        for fraction in FRACTIONS:
            limit = balls.radius * (INSIDE * fraction)
            for name, goal in goals.items():
                yield Candidate(name, f"{name}/{fraction}", searched([goal], balls, limit, plan))
            yield from undirected(balls, fraction, plan)

    def ask(
        self, points: Sequence[Float[Tensor, " g *shape"]], identities: Sequence[int], plans: Sequence[SamplingPlan]
    ) -> Iterator[Asked]:
        """Yield its counts; sigma is chosen afresh at each point."""
        sampler = self._sampler(plans[0])
        sigmas = _sigmas(sampler, self.policy, points, identities, plans)
        for some, plan, sigma in zip(points, plans, sigmas, strict=True):
            sampler = sampler.drawing(plan)
            rows = list(sampler.count(some, sigma, identities))
            counts = np.stack([row.selection + row.estimation for row in rows])
            yield Asked(sigma.numpy(), counts, np.asarray([row.batch_size for row in rows]))

    def predict(self, points: Float[Tensor, " g *shape"], identities: Sequence[int], plan: SamplingPlan) -> Asked:
        """Return its counts: nothing is abstained from before they are seen."""
        (asked,) = self.ask([points], identities, [plan])
        return asked

    def sigma(
        self, points: Float[Tensor, " g *shape"], identities: Sequence[int], plan: SamplingPlan
    ) -> Float[Tensor, " g"]:
        """Return sigma at each point, float64, on the device of the points."""
        return self._sampler(plan).sigmas(self.policy, points, identities).to(points.device)

    def _sampler(self, plan: SamplingPlan) -> Sampler:
        return Sampler(self.model, num_classes=self.num_classes, plan=plan)


def undirected(balls: Balls, fraction: float, plan: BreakPlan) -> Iterator[Candidate]:
    """Yield the candidates that ask no model, at a fraction of the radii."""
    limit = balls.radius * (INSIDE * fraction)
    yield Candidate("nearest", f"nearest/{fraction}", inside(balls.nearest, balls, limit, plan.norm))
    noise = plan.standard_noise("random", 1, balls.identities, balls.images)[0]
    far = balls.images + per_example(limit, noise) * _direction(noise, plan.norm)
    yield Candidate("random", f"random/{fraction}", inside(far, balls, limit, plan.norm))


def inside(
    points: Float[Tensor, " g *shape"], balls: Balls, limit: Float[Tensor, " g"], norm: Norm
) -> Float[Tensor, " g *shape"]:
    """Draw points back to at most ``limit`` from their images, and so that float32 pixels lie inside the balls.

    Where rounding leaves no such point, which takes a radius near that of one unit of the pixels, it is the image.
    """
    centre = balls.images.to(torch.float64)
    delta = points.to(torch.float64) - centre
    shrink = (limit / distances(points, balls.images, norm)).clamp(max=1)
    drawn = (centre + delta * per_example(shrink, delta)).to(torch.float32)
    within = distances(drawn, balls.images, norm) * (1 + 1e-9) < balls.radius  # 1e-9: beyond what the sum can err
    return torch.where(per_example(within, drawn).bool(), drawn, balls.images)


@dataclass(frozen=True)
class Goal:
    """What gradient ascent climbs: the log odds against c at a sigma, or what the radius gains between two.

    Log odds, not the cross entropy -log G_c: far from every other class that has no gradient left in float64.

    Attributes:
        model: base classifier.
        balls: c is their class.
        sigma: float64, of each ball.
        other: float64, likewise, to which the radius is compared; None for the log odds.
    """

    model: nn.Module
    balls: Balls
    sigma: Float[Tensor, " g"]
    other: Float[Tensor, " g"] | None = None

    def __call__(
        self, rows: slice, points: Float[Tensor, " b *shape"], noise: Float[Tensor, "m b *shape"]
    ) -> Float[Tensor, " b"]:
        """Return it for some of the balls, at points in them."""
        classes = self.balls.predict[rows]

        def log_p(sigma: Float[Tensor, " b"]) -> Float[Tensor, "b k"]:
            found = mean_log_probabilities(noisy_logits(self.model, points, scaled(noise, sigma)))
            check_differentiable(found)
            return found

        def radius(sigma: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
            return sigma / 2 * quantile_gap(log_p(sigma), classes)

        sigma = self.sigma[rows]
        if self.other is None:
            every, column = log_p(sigma), classes.unsqueeze(1)
            return every.scatter(1, column, -torch.inf).logsumexp(1) - every.gather(1, column).squeeze(1)
        return radius(sigma) - radius(self.other[rows])


def searched(
    goals: Sequence[Goal], balls: Balls, limit: Float[Tensor, " g"], plan: BreakPlan
) -> Float[Tensor, " g *shape"]:
    """Return where gradient ascent of the sum of goals ends; a backward pass holds as many images as memory should."""
    device = balls.images.device
    elements = _CPU_BATCH_ELEMENTS if device.type == "cpu" else _GPU_BATCH_ELEMENTS
    size = max(1, elements // (prod(balls.images.shape[1:]) * plan.samples))
    found = []
    with ExitStack() as stack:
        stack.enter_context(cpu_threads(device, 1))  # the arithmetic must not depend on the number of cores
        for goal in goals:
            stack.enter_context(evaluation(goal.model))
        for first in range(0, len(balls.images), size):
            found.append(_climb(goals, balls, slice(first, first + size), limit, plan))
    return torch.cat(found)


def _climb(
    goals: Sequence[Goal], balls: Balls, rows: slice, limit: Float[Tensor, " g"], plan: BreakPlan
) -> Float[Tensor, " b *shape"]:
    some, limit = balls.part(rows), limit[rows]
    noise = plan.standard_noise("search", plan.samples, some.identities, some.images)
    points = some.images
    for step in range(plan.steps):
        with torch.enable_grad():
            variable = points.detach().requires_grad_(True)
            total = torch.stack([goal(rows, variable, noise).sum() for goal in goals]).sum()
            (gradient,) = torch.autograd.grad(total, variable)
        length = limit * _DECAY ** (step / (plan.steps - 1))
        moved = points + per_example(length, points) * _direction(check_finite(gradient), plan.norm)
        points = inside(moved, some, limit, plan.norm)
    return points


def _direction(vectors: Float[Tensor, " g *shape"], norm: Norm) -> Float[Tensor, " g *shape"]:
    """Return each vector divided by its norm; a zero vector stays zero."""
    directions = unit(vectors)
    lengths = _lengths(directions, norm)
    return directions / per_example(torch.where(lengths > 0, lengths, 1), directions)


def distances(
    points: Float[Tensor, " g *shape"], images: Float[Tensor, " g *shape"], norm: Norm
) -> Float[Tensor, " g"]:
    """Return distances in float64."""
    return _lengths(points.to(torch.float64) - images.to(torch.float64), norm)


def _lengths(vectors: Float[Tensor, " g *shape"], norm: Norm) -> Float[Tensor, " g"]:
    lengths: Tensor = torch.linalg.vector_norm(vectors.flatten(1), ord=1 if norm == "l1" else 2, dim=1)
    return lengths


def _sigmas(
    sampler: Sampler,
    policy: SigmaPolicy,
    candidates: Sequence[Float[Tensor, " g *shape"]],
    identities: Sequence[int],
    plans: Sequence[SamplingPlan],
) -> Float[Tensor, "c g"]:
    """Return sigma, chosen afresh at each point of c candidates; ``plans`` say what is drawn for each candidate.

    The points of all candidates fill groups of `GROUP`: a search costs as much for fewer points.
    """
    points = torch.cat(list(candidates))
    names = [identity for _ in candidates for identity in identities]
    drawn = [plan for plan in plans for _ in identities]
    groups = [slice(first, first + GROUP) for first in range(0, len(points), GROUP)]
    found = [sampler.sigmas(policy, points[some], names[some], plans=drawn[some]) for some in groups]
    return torch.cat(found).view(len(candidates), -1)


def _lead(counts: Int[np.ndarray, "g k"], classes: Int[np.ndarray, " g"]) -> Int[np.ndarray, " g"]:
    """Return by how many samples the strongest other class leads the given one."""
    own = np.take_along_axis(counts, classes[:, None], axis=1)[:, 0]
    others = counts.copy()
    np.put_along_axis(others, classes[:, None], -1, axis=1)
    lead: Int[np.ndarray, " g"] = others.max(axis=1) - own
    return lead
