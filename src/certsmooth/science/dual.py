"""Dual randomized smoothing: a smoothed classifier that is chosen by another one (Sun, Mao and Vechev, ICLR 2026).

The theorem that its certificates rest on is in `certsmooth.science.theory.dual`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from certsmooth._internal.checks import check_alpha, check_number
from certsmooth.errors import ConfigError
from certsmooth.science.certificates import ABSTAIN, GLOBAL, GUARANTEES, Guarantee, guarantee, linf_radius
from certsmooth.science.classifier import SmoothedClassifier
from certsmooth.science.inputs import ImageBatch, as_tensor
from certsmooth.science.stopping import StoppingRule
from certsmooth.science.theory.dual import dual_certificates, others_matter, shares


class DualSmoothedClassifier:
    """G(x) = g_h(x)(x): the router h chooses which of the experts g_1, ..., g_K classifies an image.

    Its certificates are ``global``: there is no condition on how the choice varies, and no memory.

    Args:
        router: h, a smoothed classifier of K classes, which are the places of the experts, from 0.
        experts: g_1, ..., g_K, smoothed classifiers of the same classes of images: of one base classifier each, or of
            one for all at several sigmas.

    Raises:
        ConfigError: there are fewer than two experts, or not as many as the router has classes; they differ in classes,
            norm or range of the pixels; or one has a memory, or a certificate that is not global.

    Example:
        >>> experts = [SmoothedClassifier(model, 10, sigma) for sigma in (0.25, 0.5, 1.0)]
        >>> dual = DualSmoothedClassifier(SmoothedClassifier(router, 3, 0.5), experts)
        >>> dual.certify(images, n0=100, n=10_000, alpha=0.001, seed=0)  # doctest: +SKIP
    """

    def __init__(self, router: SmoothedClassifier, experts: Sequence[SmoothedClassifier]) -> None:
        if len(experts) < 2:
            raise ConfigError(f"experts: {len(experts)}; must be at least 2")
        if router.num_classes != len(experts):
            raise ConfigError(f"router: num_classes {router.num_classes}; must be {len(experts)}, one for each expert")
        first = experts[0]
        for name, each in (("router", router), *((f"experts[{k}]", expert) for k, expert in enumerate(experts))):
            expected: dict[str, tuple[object, object]] = {
                "norm": (each.certificate.norm, first.certificate.norm),
                "pixel_range": (each.pixel_range, first.pixel_range),
            }
            if each is not router:
                expected["num_classes"] = each.num_classes, first.num_classes
            for key, (found, right) in expected.items():
                if found != right:
                    raise ConfigError(f"{name}: {key} {found}; must be {right}, that of experts[0]")
            if each.memory is not None or _promise(each) not in GLOBAL:
                promise = "memory" if each.memory is not None else _promise(each)
                raise ConfigError(f"{name}: guarantee {promise!r}; must be global, at every image of a ball")
        self.router = router
        self.experts = tuple(experts)
        self.guarantee: Guarantee = max(map(_promise, (router, *experts)), key=GUARANTEES.index)

    def __repr__(self) -> str:
        return f"DualSmoothedClassifier({self.router}, {list(self.experts)})"

    def certify(
        self,
        x: ImageBatch,
        *,
        n0: int = 100,
        n: int = 100_000,
        alpha: float = 0.001,
        router_share: float = 0.1,
        others_share: float = 0.1,
        seed: int,
        stop: StoppingRule | None = None,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> pd.DataFrame:
        """Certify each image.

        The router is sampled of all images, and of each image the expert that it chooses. The others are sampled only
        where the router limits the radius, or abstains.

        Args:
            x: images, pixels in their range; a floating-point tensor or NumPy array.
            n0: selection samples, of the router and of each expert that is sampled.
            n: estimation samples likewise; with a stopping rule, at most so many.
            alpha: each certificate is wrong with at most this probability.
            router_share: of alpha, that the router may err with, in (0, 1).
            others_share: of alpha, that experts may err with where it is used that all of them agree, in (0, 1); the
                rest is that of the expert that the router chooses.
            seed: of the noise.
            stop: as `SmoothedClassifier.certify`, of the router's radii and of the experts'.
            batch_size: as there.
            progress: as there.

        Returns:
            One row per image: ``predict`` (-1: abstain), ``radius``, ``radius_linf``, ``expert`` (the one that the
            router chooses; -1 where it abstains), ``radius_router`` (within which it chooses that one), ``sigma`` (that
            of the expert; NaN where the router abstains), ``n`` (estimation samples in all) and ``guarantee``.

        Raises:
            DataError, ModelError, ConfigError: as `SmoothedClassifier.certify`; ConfigError also for shares that are
                not in (0, 1), or leave nothing.
        """
        of_router, of_chosen, of_others = shares(alpha, router_share, others_share, len(self.experts))
        images = as_tensor(x)
        asked: dict[str, Any] = {"n0": n0, "n": n, "seed": seed, "stop": stop, "batch_size": batch_size}
        asked["progress"] = progress
        routed = self.router.certify(images, alpha=of_router, **asked)
        route, route_radius = routed["predict"].to_numpy(), routed["radius"].to_numpy()
        shape = len(images), len(self.experts)
        found = _Found(np.full(shape, ABSTAIN), np.zeros(shape), np.zeros(shape), routed["n"].to_numpy(copy=True))

        def sample(needed: Bool[np.ndarray, "N K"], share: float) -> None:
            for k, expert in enumerate(self.experts):
                if (rows := np.flatnonzero(needed[:, k])).size:
                    found.enter(rows, k, expert.certify(images[rows], alpha=share, **asked))

        chosen = route[:, None] == np.arange(len(self.experts))
        sample(chosen, of_chosen)
        matter = others_matter(route, route_radius, np.max(found.radius, axis=1, where=chosen, initial=0.0))
        sample(~chosen & matter[:, None], of_others)
        predict, radius = dual_certificates(route, route_radius, found.predict, found.radius)
        sigma = np.max(found.sigma, axis=1, where=chosen, initial=0.0)
        norm = self.router.certificate.norm
        return pd.DataFrame(
            {
                "predict": predict,
                "radius": radius,
                "radius_linf": linf_radius(radius, norm=norm, dimension=images[0].numel()),
                "expert": route,
                "radius_router": route_radius,
                "sigma": np.where(route == ABSTAIN, np.nan, sigma),
                "n": found.n,
                "guarantee": self.guarantee,
            }
        )

    def predict(
        self,
        x: ImageBatch,
        *,
        n: int = 100_000,
        alpha: float = 0.001,
        router_share: float = 0.1,
        seed: int,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> Int[np.ndarray, " b"]:
        """Predict G(x) of each image: the router's choice by PREDICT of Cohen et al. 2019, and that expert's class.

        Args:
            x: images, pixels in their range; a floating-point tensor or NumPy array.
            n: samples of the router, and of the expert.
            alpha: with at most this probability the answer is neither G(x) nor -1.
            router_share: of alpha, that the router may err with, in (0, 1); the expert has the rest.
            seed: of the noise.
            batch_size: as `SmoothedClassifier.sample`.
            progress: as there.

        Returns:
            int64 [b]: the class, or -1 where the router or the expert abstains.

        Raises:
            DataError, ModelError, ConfigError: as `certify`.
        """
        of_router = check_alpha(alpha) * check_number("router_share", router_share, above=0, below=1)
        images, of_expert = as_tensor(x), alpha - of_router
        asked: dict[str, Any] = {"n": n, "seed": seed, "batch_size": batch_size, "progress": progress}
        route = self.router.predict(images, alpha=of_router, **asked)
        found = np.full(len(images), ABSTAIN, dtype=np.int64)
        for k, expert in enumerate(self.experts):
            if (rows := np.flatnonzero(route == k)).size:
                found[rows] = expert.predict(images[rows], alpha=of_expert, **asked)
        return found


@dataclass(frozen=True)
class _Found:
    """What experts certified so far.

    Attributes:
        predict: int64 [N, K], the class; -1 where an expert abstains, or was not sampled.
        radius: float64 [N, K]; 0 there.
        sigma: float64 [N, K], of the expert's noise; 0 where it was not sampled.
        n: int64 [N], estimation samples so far, the router's among them.
    """

    predict: Int[np.ndarray, "N K"]
    radius: Float[np.ndarray, "N K"]
    sigma: Float[np.ndarray, "N K"]
    n: Int[np.ndarray, " N"]

    def enter(self, rows: Int[np.ndarray, " n"], expert: int, certified: pd.DataFrame) -> None:
        """Enter what an expert certified of some images."""
        for mine, name in ((self.predict, "predict"), (self.radius, "radius"), (self.sigma, "sigma")):
            mine[rows, expert] = certified[name].to_numpy()
        self.n[rows] += certified["n"].to_numpy()


def _promise(smoothed: SmoothedClassifier) -> Guarantee:
    return guarantee(smoothed.certificate, smoothed.sigma.semi_elasticity, smoothed.grid)
