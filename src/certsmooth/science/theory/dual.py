"""Dual randomized smoothing: a smoothed classifier that is chosen by another one (Sun, Mao and Vechev, ICLR 2026).

A router h maps an image to one of K experts g_1, ..., g_K, and G(x) = g_h(x)(x). Router and experts are smoothed
classifiers, each with a noise of its own, so each has certificates of its own. An expert for each of K constant sigmas
gives smoothing with an input-dependent sigma; experts may as well differ in how they were trained.

Theorem. Fix x. Let h = s on the open ball B(x, R_h), and let c = g_s(x). Let g_k = c on B(x, R_k) for each k, where
R_k = 0 for an expert of which that is not known. Then G = c on B(x, R) with

    R = max( min(R_h, R_s), min(R_1, ..., R_K) ).

Proof. Let ||x' - x|| < R. If it is below min(R_h, R_s), then h(x') = s, and G(x') = g_s(x') = c. Else it is below every
R_k, so that g_k(x') = c for every k, h(x') among them: G(x') = c whatever the router says.

The first term is the paper's. The second one costs no router: a router that is not sure does no harm where the experts
agree. Where h(x) itself is not known, R_h = 0, and the second term remains, for the class that all experts agree on.

Confidence. Let s be the expert that h chooses at x: a fixed number, whatever the samples show. Two statements are made
of it, one with a radius that is wrong with probability at most alpha_s and, as of every other expert, one that is wrong
with at most alpha_o; the router's is wrong with at most alpha_h. Where none of them is, the router says s or abstains.
If it says s, the theorem is used with the first statement of g_s and those of the others; if it abstains, with the
second of g_s. So G's certificate is wrong with probability at most alpha_h + alpha_s + K alpha_o, whatever the
statements have in common: noise, samples, or which of the experts were sampled because of what the router and others
showed. The second term needs little of alpha, so that nearly all of it is g_s's own.

Nothing is asked of how h varies: it needs no semi-elasticity, and no memory. A sigma that is constant on known regions
(`Smoothing.constant_within`) is the case of a router that needs no samples: R_h is the distance to the region's border
and alpha_h = 0.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from certsmooth._internal.checks import check_alpha, check_number
from certsmooth.errors import ConfigError
from certsmooth.science.certificates import ABSTAIN


def dual_certificates(
    route: Int[np.ndarray, " N"],
    route_radius: Float[np.ndarray, " N"],
    predict: Int[np.ndarray, "N K"],
    radius: Float[np.ndarray, "N K"],
) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Combine certificates of a router and of its experts for N images into those of G, by the theorem above.

    They are wrong with probability at most the sum of the probabilities that these are; or, where the radius of the
    expert that the router chooses may be wrong with alpha_s, and all others with alpha_o, with alpha_h + alpha_s +
    K alpha_o.

    Args:
        route: the expert that the router chooses, from 0 to K - 1; -1 where it abstains.
        route_radius: within which it chooses that one.
        predict: the class that each expert certifies; -1 where it abstains, or was not sampled.
        radius: within which it does, in the same norm; not read where it abstains.

    Returns:
        The class, int64 [N], -1 for abstention, and the radius, float64 [N], 0 there.

    Raises:
        ConfigError: arrays do not fit each other, a route is no expert, or a radius is negative or not a number.
    """
    _check_shapes(route, route_radius, predict, radius)
    rows, routed = np.arange(len(route)), route != ABSTAIN
    chosen = np.where(routed, route, 0)
    # Without a route, the class that all agree on can only be that of the first.
    wanted = predict[rows, chosen]
    known = np.where((predict == wanted[:, None]) & (predict != ABSTAIN), radius, 0.0)
    by_router = np.where(routed, np.minimum(route_radius, known[rows, chosen]), 0.0)
    found = np.maximum(by_router, known.min(axis=1))
    return np.where(found > 0, wanted, ABSTAIN).astype(np.int64), found


def shares(alpha: float, router: float, others: float, experts: int) -> tuple[float, float, float]:
    """Return alpha_h, alpha_s and alpha_o of the docstring above, which in all make alpha.

    Args:
        alpha: each certificate is wrong with at most this probability.
        router: the share of alpha_h, in (0, 1).
        others: the share of K alpha_o, in (0, 1).
        experts: K.

    Raises:
        ConfigError: alpha or a share is not in (0, 1), or the shares leave nothing.
    """
    check_alpha(alpha)
    for key, share in (("router_share", router), ("others_share", others)):
        check_number(key, share, above=0, below=1)
    if router + others >= 1:
        raise ConfigError(f"router_share + others_share: {router + others}; must be below 1, the rest is the expert's")
    return alpha * router, alpha * (1 - router - others), alpha * others / experts


def others_matter(
    route: Int[np.ndarray, " N"], route_radius: Float[np.ndarray, " N"], radius: Float[np.ndarray, " N"]
) -> Bool[np.ndarray, " N"]:
    """Return whether experts that the router does not choose can enlarge G's radius, by the theorem's second term.

    They cannot where the router is sure of its choice in all of the ball in which the chosen expert certifies.

    Args:
        route: as for `dual_certificates`.
        route_radius: likewise.
        radius: of the expert that the router chooses; 0 where the router, or that expert, abstains.
    """
    found: Bool[np.ndarray, " N"] = (route == ABSTAIN) | (route_radius < radius)
    return found


def _check_shapes(
    route: Int[np.ndarray, " N"],
    route_radius: Float[np.ndarray, " N"],
    predict: Int[np.ndarray, "N K"],
    radius: Float[np.ndarray, "N K"],
) -> None:
    if predict.ndim != 2 or predict.shape[1] < 1:
        raise ConfigError(f"predict: shape {predict.shape}; must be [N, K], one column for each expert")
    images, experts = predict.shape
    for name, value, shape in (
        ("route", route, (images,)),
        ("route_radius", route_radius, (images,)),
        ("radius", radius, (images, experts)),
    ):
        if value.shape != shape:
            raise ConfigError(f"{name}: shape {value.shape}; must be {shape}, as predict has {predict.shape}")
    if (wrong := (route < ABSTAIN) | (route >= experts)).any():
        raise ConfigError(f"route: {route[wrong][0]}; must be from 0 to {experts - 1}, or {ABSTAIN} (abstain)")
    for name, value, read in (("route_radius", route_radius, route != ABSTAIN), ("radius", radius, predict != ABSTAIN)):
        if (wrong := read & ~(value >= 0)).any():
            raise ConfigError(f"{name}: {value[wrong][0]}; must be 0 or more")
