"""The attack on certificates, of a classifier that a router makes of several (`certsmooth.science.dual`).

Its class can change because an expert's does, or because the router chooses another expert that errs there. Candidates
climb, beside those of `undirected`:

- ``route``: the log odds against the expert that the router chooses at the image;
- ``expert``: the log odds of each expert against the certified class;
- ``route and expert``: the sum of both, for each expert.

Each point is asked as an image is: the router first, and then the expert that it chooses there. With alpha_h for
PREDICT of the router and alpha_g for that of the expert, the answer is another class than the classifier's with
probability at most alpha_h + alpha_g, by the union bound, though both see the same noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from certsmooth.science.audit.break_certificates import (
    FRACTIONS,
    INSIDE,
    Asked,
    Balls,
    BreakPlan,
    Candidate,
    Goal,
    SmoothedTarget,
    searched,
    undirected,
)
from certsmooth.science.certificates import cohen
from certsmooth.science.sampling.sampler import SamplingPlan


@dataclass(frozen=True)
class DualTarget:
    """A router and the experts that it chooses between.

    Attributes:
        router: its classes are the places of the experts.
        experts: smoothed classifiers of the same classes.
        router_alpha: PREDICT of the router errs with at most this probability.
    """

    router: SmoothedTarget
    experts: Sequence[SmoothedTarget]
    router_alpha: float

    def candidates(self, balls: Balls, plan: BreakPlan) -> Iterator[Candidate]:
        """Yield them, with a sigma of each smoothed classifier that is the one of the image itself."""
        draws = plan.draws("image", plan.screen)
        (routed,) = self.router.ask([balls.images], balls.identities, [draws])
        route, sigma = (
            torch.from_numpy(each).to(balls.sigma.device) for each in (routed.counts.argmax(1), routed.sigma)
        )
        against = Goal(self.router.model, replace(balls, predict=route), sigma)
        wrong = [Goal(each.model, balls, each.sigma(balls.images, balls.identities, draws)) for each in self.experts]
        goals = [("route", "route", [against])]
        goals += [("expert", f"expert/{k}", [goal]) for k, goal in enumerate(wrong)]
        goals += [("route and expert", f"route and expert/{k}", [against, goal]) for k, goal in enumerate(wrong)]
        for fraction in FRACTIONS:
            limit = balls.radius * (INSIDE * fraction)
            for kind, name, climbed in goals:
                yield Candidate(kind, f"{name}/{fraction}", searched(climbed, balls, limit, plan))
            yield from undirected(balls, fraction, plan)

    def ask(
        self, points: Sequence[Float[Tensor, " g *shape"]], identities: Sequence[int], plans: Sequence[SamplingPlan]
    ) -> Iterator[Asked]:
        """Yield the counts of the expert that has most of the router's samples."""
        routed = self.router.ask(points, identities, plans)
        for some, plan, route in zip(points, plans, routed, strict=True):
            yield self._chosen(route.counts.argmax(axis=1), some, identities, plan)

    def predict(self, points: Float[Tensor, " g *shape"], identities: Sequence[int], plan: SamplingPlan) -> Asked:
        """Return the counts of the expert that PREDICT of the router answers; none where that abstains."""
        (route,) = self.router.ask([points], identities, [plan])
        return self._chosen(cohen.predict(route.counts, alpha=self.router_alpha), points, identities, plan)

    def _chosen(
        self,
        route: Int[np.ndarray, " g"],
        points: Float[Tensor, " g *shape"],
        identities: Sequence[int],
        plan: SamplingPlan,
    ) -> Asked:
        """Return what the experts answer that are chosen; of an abstention no counts, and the first expert's sigma."""
        sigma = np.full(len(route), self.experts[0].policy.sigma0)
        counts = np.zeros((len(route), self.experts[0].num_classes), dtype=np.int64)
        batch_size = np.ones(len(route), dtype=np.int64)
        for k, expert in enumerate(self.experts):
            if (rows := np.flatnonzero(route == k)).size:
                (asked,) = expert.ask([points[rows]], [identities[row] for row in rows.tolist()], [plan])
                sigma[rows], counts[rows], batch_size[rows] = asked
        return Asked(sigma, counts, batch_size)
