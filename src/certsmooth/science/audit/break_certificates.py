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

The candidate with the largest lead of another class over c in few samples is then asked again with new noise: first
sigma(x'), then PREDICT. So the choice among candidates, and a lucky sigma(x'), cannot make a certificate look broken:
PREDICT is asked once per certificate, and errs with probability at most its alpha.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from certsmooth._internal.checks import LARGEST_SEED, MAX_SAMPLES, store_integer
from certsmooth._internal.modes import cpu_threads, evaluation
from certsmooth._internal.registry import member
from certsmooth.science.attacks._gradients import check_differentiable, check_finite
from certsmooth.science.attacks._l2 import per_example, unit
from certsmooth.science.audit.answers import Answers
from certsmooth.science.certificates import Norm
from certsmooth.science.noise import NoiseStreams
from certsmooth.science.sampling.sampler import BLOCK, GROUP, Sampler, SamplingPlan
from certsmooth.science.sigma import SigmaPolicy
from certsmooth.science.soft import mean_log_probabilities, noisy_logits, quantile_gap, scaled
from certsmooth.science.theory.pixel_grid import PixelGrid

KINDS = ("own", "start", "lowest", "highest", "up", "down", "nearest", "random")
"""Of candidates; a result refers to them by their place here."""

FRACTIONS = (0.5, 1.0)
"""Of the largest distance, at which each kind of candidate is made."""

_INSIDE = 0.999  # of a radius: float32 pixels must not lie beyond it
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


def break_group(
    model: nn.Module,
    balls: Balls,
    *,
    num_classes: int,
    policy: SigmaPolicy,
    reached: tuple[float, float],
    plan: BreakPlan,
) -> Answers:
    """Attack the certificates of a group of images.

    Args:
        model: base classifier, on the device of the images.
        balls: at most `certsmooth.science.sampling.sampler.GROUP`.
        num_classes: number of classes.
        policy: sigma(x).
        reached: the least and the largest sigma that the policy chose for an image of the run.
        plan: how they are attacked.

    Returns:
        What PREDICT counts at the most promising candidate of each.
    """
    classes = balls.predict.cpu().numpy()
    best, kind = np.full(len(classes), -plan.screen - 1), np.zeros(len(classes), np.int64)
    chosen = balls.images
    predict = plan.draws("predict", plan.n)
    sampler = Sampler(model, num_classes=num_classes, plan=predict)
    tried = list(candidates(model, balls, start=policy.sigma0, reached=reached, plan=plan))
    screens = [plan.draws(f"screen/{name}/{fraction}", plan.screen) for name, fraction, _ in tried]
    sigmas = _sigmas(sampler, policy, [points for *_, points in tried], balls.identities, screens)
    for (name, _, points), screen, sigma in zip(tried, screens, sigmas, strict=True):
        sampler = sampler.drawing(screen)
        counts, _ = _count(sampler, points, sigma, balls.identities)
        lead = _lead(counts, classes)
        better = torch.from_numpy(lead > best).to(points.device)
        chosen = torch.where(per_example(better, points).bool(), points, chosen)
        kind, best = np.where(lead > best, KINDS.index(name), kind), np.maximum(lead, best)
    sampler = sampler.drawing(predict)
    sigma = sampler.sigmas(policy, chosen, balls.identities)
    counts, batch_size = _count(sampler, chosen, sigma, balls.identities)
    return Answers(
        index=np.asarray(balls.identities, dtype=np.int64),
        predict=classes,
        radius=balls.radius.cpu().numpy(),
        sigma=balls.sigma.cpu().numpy(),
        candidates=np.full(len(classes), len(tried)),
        kind=kind,
        distance=_distances(chosen, balls.images, plan.norm).cpu().numpy(),
        sigma_there=sigma.numpy(),
        counts=counts,
        batch_size=batch_size,
    )


def candidates(
    model: nn.Module, balls: Balls, *, start: float, reached: tuple[float, float], plan: BreakPlan
) -> Iterator[tuple[str, float, Float[Tensor, " g *shape"]]]:
    """Yield kind, fraction and points, each strictly inside its ball: the distance of the float32 pixels is below it.

    A kind that is the same as an earlier one, as several are for a constant sigma, is left out. ``start`` is the sigma
    where the policy starts; the other arguments are those of `break_group`.
    """
    low, high = reached
    goals = {"own": _Goal(None)}
    for name, sigma in (("start", start), ("lowest", low), ("highest", high)):
        if bool((balls.sigma != sigma).any()) and all(goal.sigma != sigma for goal in goals.values()):
            goals[name] = _Goal(sigma)
    if low < high:
        goals |= {"up": _Goal(high, low), "down": _Goal(low, high)}
    for fraction in FRACTIONS:
        limit = balls.radius * (_INSIDE * fraction)
        for name, goal in goals.items():
            yield name, fraction, _searched(model, balls, limit, goal, plan)
        yield "nearest", fraction, inside(balls.nearest, balls, limit, plan.norm)
        noise = plan.standard_noise("random", 1, balls.identities, balls.images)[0]
        far = balls.images + per_example(limit, noise) * _direction(noise, plan.norm)
        yield "random", fraction, inside(far, balls, limit, plan.norm)


def inside(
    points: Float[Tensor, " g *shape"], balls: Balls, limit: Float[Tensor, " g"], norm: Norm
) -> Float[Tensor, " g *shape"]:
    """Draw points back to at most ``limit`` from their images, and so that float32 pixels lie inside the balls.

    Where rounding leaves no such point, which takes a radius near that of one unit of the pixels, it is the image.
    """
    centre = balls.images.to(torch.float64)
    delta = points.to(torch.float64) - centre
    shrink = (limit / _distances(points, balls.images, norm)).clamp(max=1)
    drawn = (centre + delta * per_example(shrink, delta)).to(torch.float32)
    within = _distances(drawn, balls.images, norm) * (1 + 1e-9) < balls.radius  # 1e-9: beyond what the sum can err
    return torch.where(per_example(within, drawn).bool(), drawn, balls.images)


class _Goal(NamedTuple):
    """What gradient ascent climbs: the log odds against c at one sigma, or what the radius gains between two.

    Log odds, not the cross entropy -log G_c: far from every other class that has no gradient left in float64. A sigma
    is the same for all balls, or None for the one of each.
    """

    sigma: float | None
    other: float | None = None

    def __call__(
        self, model: nn.Module, balls: Balls, points: Float[Tensor, " g *shape"], noise: Float[Tensor, "m g *shape"]
    ) -> Float[Tensor, " g"]:
        def log_p(sigma: Float[Tensor, " g"]) -> Float[Tensor, "g k"]:
            found = mean_log_probabilities(noisy_logits(model, points, scaled(noise, sigma)))
            check_differentiable(found)
            return found

        def radius(sigma: Float[Tensor, " g"]) -> Float[Tensor, " g"]:
            return sigma / 2 * quantile_gap(log_p(sigma), balls.predict)

        sigma = balls.sigma if self.sigma is None else torch.full_like(balls.sigma, self.sigma)
        if self.other is None:
            every, column = log_p(sigma), balls.predict.unsqueeze(1)
            return every.scatter(1, column, -torch.inf).logsumexp(1) - every.gather(1, column).squeeze(1)
        return radius(sigma) - radius(torch.full_like(sigma, self.other))


def _searched(
    model: nn.Module, balls: Balls, limit: Float[Tensor, " g"], goal: _Goal, plan: BreakPlan
) -> Float[Tensor, " g *shape"]:
    """Return where gradient ascent ends; a backward pass holds as many images as memory is meant to hold."""
    device = balls.images.device
    elements = _CPU_BATCH_ELEMENTS if device.type == "cpu" else _GPU_BATCH_ELEMENTS
    size = max(1, elements // (prod(balls.images.shape[1:]) * plan.samples))
    found = []
    with evaluation(model), cpu_threads(device, 1):  # the arithmetic must not depend on the number of cores
        for first in range(0, len(balls.images), size):
            rows = slice(first, first + size)
            found.append(_climb(model, balls.part(rows), limit[rows], goal, plan))
    return torch.cat(found)


def _climb(
    model: nn.Module, balls: Balls, limit: Float[Tensor, " g"], goal: _Goal, plan: BreakPlan
) -> Float[Tensor, " g *shape"]:
    noise = plan.standard_noise("search", plan.samples, balls.identities, balls.images)
    points = balls.images
    for step in range(plan.steps):
        with torch.enable_grad():
            variable = points.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(goal(model, balls, variable, noise).sum(), variable)
        length = limit * _DECAY ** (step / (plan.steps - 1))
        moved = points + per_example(length, points) * _direction(check_finite(gradient), plan.norm)
        points = inside(moved, balls, limit, plan.norm)
    return points


def _direction(vectors: Float[Tensor, " g *shape"], norm: Norm) -> Float[Tensor, " g *shape"]:
    """Return each vector divided by its norm; a zero vector stays zero."""
    directions = unit(vectors)
    lengths = _lengths(directions, norm)
    return directions / per_example(torch.where(lengths > 0, lengths, 1), directions)


def _distances(
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


def _count(
    sampler: Sampler, points: Float[Tensor, " g *shape"], sigma: Float[Tensor, " g"], identities: Sequence[int]
) -> tuple[Int[np.ndarray, "g k"], Int[np.ndarray, " g"]]:
    """Return class counts under noise of sigma, and the rows per forward pass."""
    rows = list(sampler.count(points, sigma, identities))
    return np.stack([row.selection + row.estimation for row in rows]), np.asarray([row.batch_size for row in rows])


def _lead(counts: Int[np.ndarray, "g k"], classes: Int[np.ndarray, " g"]) -> Int[np.ndarray, " g"]:
    """Return by how many samples the strongest other class leads the given one."""
    own = np.take_along_axis(counts, classes[:, None], axis=1)[:, 0]
    others = counts.copy()
    np.put_along_axis(others, classes[:, None], -1, axis=1)
    lead: Int[np.ndarray, " g"] = others.max(axis=1) - own
    return lead
