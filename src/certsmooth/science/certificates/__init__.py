"""Certificates: pure functions from class counts to a prediction and a radius, one file each.

A member module defines one frozen dataclass, a subclass of `Certificate`; its fields are the options that params.yaml
may give. One that bounds the probability of the selected class alone is a radius, see `_one_sided`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from certsmooth._internal.checks import MAX_SAMPLES, check_alpha, check_integer, store_integer
from certsmooth._internal.options import Member
from certsmooth.errors import ConfigError
from certsmooth.science.theory.pixel_grid import PixelGrid
from certsmooth.science.theory.sequential import FIXED, FixedTrials, Trials

Guarantee = Literal["global", "global (real arithmetic)", "memory", "none"]
"""What a certificate promises: ``global`` holds at any time on any device, for the program that runs;
``global (real arithmetic)`` holds so for real numbers, but the base classifier saw float32 noise, whose low bits can
tell one image from another; ``memory`` holds within the stored session, in that order; ``none``: reported by some
papers, not proved."""

GUARANTEES: tuple[Guarantee, ...] = get_args(Guarantee)
"""The strongest first."""

GLOBAL: tuple[Guarantee, ...] = ("global", "global (real arithmetic)")
"""Those that are about all images in a ball, at any time."""

Norm = Literal["l1", "l2"]

ABSTAIN = -1

FLOAT32_ROUNDING = 1.2e-7
"""Two roundings to float32 change the logarithm of a ratio by at most 2 log(1 + 2^-24) < 1.1921e-7; the rest is for the
rounding of sigma(x) itself, which is computed in float64: 3.9e-10 each, enough for the exponential of r f where f errs
by 2e-15 of itself and r f is below 1e5."""


_LARGEST_CHANGE = 100.0  # of log sigma: its exponential is above any 1 / t


@dataclass(frozen=True)
class Smoothing:
    """How N images were smoothed, and how many samples were drawn of each.

    Attributes:
        sigma: float64 [N], scale of each image's noise, in pixel coordinates [0, 1]: the standard deviation of Gaussian
            noise, half the width of uniform noise.
        dimension: numbers per image, at least 1.
        semi_elasticity: r such that log sigma(x) is r-Lipschitz in l2; 0 for a constant sigma, None where nothing is
            known.
        constant_within: float64 [N], c of each image, up to which sigma is constant: |log sigma(x') - log sigma(x)| <=
            r max(0, ||x' - x|| - c). It is 0 where nothing more than r is known.
        rounding: added to the right-hand side beyond c, where sigma(x) varies: the sigma that noise was scaled with is
            sigma(x) rounded to float32, at x and at x'.
        grid: of the pixels, to which noisy images were rounded; None for float32 noise.
        trials: how the number of estimation samples came about: fixed beforehand, or stopped by what they showed.
    """

    sigma: Float[np.ndarray, " N"]
    dimension: int
    semi_elasticity: float | None
    constant_within: Float[np.ndarray, " N"]
    rounding: float = FLOAT32_ROUNDING
    grid: PixelGrid | None = None
    trials: Trials = FIXED

    def distance(self, radius: Float[np.ndarray, " N"] | float = 0.0) -> Float[np.ndarray, " N"]:
        """Return what the law of the noise can cost a probability at most: 3 t of `theory.pixel_grid`, rounded up.

        0 for float32 noise, whose certificates are about ideal noise. t grows with sigma and with 1 / sigma no faster
        than these.

        Args:
            radius: of the balls, in which sigma(x) may vary as the semi-elasticity says.
        """
        if self.grid is None:
            return np.zeros(len(self.sigma))
        t = self.grid.total_variation(self.sigma, self.dimension)
        outside = np.maximum(radius - self.constant_within, 0.0)
        varies = (outside > 0) & bool(self.semi_elasticity)
        with np.errstate(over="ignore"):  # the change may be infinite; 0 times infinity is kept out
            change = np.where(varies, outside, 1.0) * (self.semi_elasticity or 0.0) + self.rounding
        change = np.where(varies, change, 0.0)
        cost: Float[np.ndarray, " N"] = np.minimum(t * np.exp(np.minimum(change, _LARGEST_CHANGE)), 1.0)
        return 3.0 * (1 + 2.0**-40) * cost

    def displacement(self, norm: Norm) -> float:
        """Return what the reading of images can cost a radius at most: 2 m of `theory.pixel_grid`, rounded up."""
        return 0.0 if self.grid is None else 2.0 * self.grid.displacement(self.dimension, norm=norm)

    def __post_init__(self) -> None:
        store_integer(self, "dimension", minimum=1)


@dataclass(frozen=True)
class Bound:
    """Certificates of N images.

    Attributes:
        predict: int64 [N], the class, or -1 (abstain).
        radius: float64 [N], in pixel coordinates [0, 1]; 0 where the prediction abstains.
        p_a_lower: float64 [N], lower confidence bound on the probability of the selected class.
        p_b_upper: float64 [N], upper confidence bound on the probability of every other class; 1 - p_a_lower where a
            certificate does not estimate it.
    """

    predict: Int[np.ndarray, " N"]
    radius: Float[np.ndarray, " N"]
    p_a_lower: Float[np.ndarray, " N"]
    p_b_upper: Float[np.ndarray, " N"]


@dataclass(frozen=True)
class Certificate(Member, ABC):
    """Base of the certificates: a member defines `_certify`, and its class attributes where they are others.

    Attributes:
        noise: the member of certsmooth.science.noise that the counts were sampled with.
        norm: of the radius.
        max_semi_elasticity: the largest semi-elasticity of sigma(x) for which its theorem holds: 0 where the theorem is
            about one constant sigma, infinity where it uses the semi-elasticity, None where there is no theorem.
        may_stop: whether its bounds are those of ``smoothing.trials``, so that samples may stop by what they show.
    """

    noise: ClassVar[str] = "gaussian"
    norm: ClassVar[Norm] = "l2"
    max_semi_elasticity: ClassVar[float | None] = 0.0
    may_stop: ClassVar[bool] = False

    def __call__(
        self,
        selection: Int[np.ndarray, "N k"],
        estimation: Int[np.ndarray, "N k"],
        smoothing: Smoothing,
        *,
        alpha: float,
    ) -> Bound:
        """Certify N images.

        With probability at least 1 - alpha per image over the samples: where ``predict`` is a class, it is that of the
        smoothed classifier everywhere in the open ball of that radius, for every sigma(x) that ``max_semi_elasticity``
        allows. Radii are rounded down.

        Args:
            selection: class counts of the samples that select the class: the most frequent one, the smallest
                class index among equals.
            estimation: class counts of the samples, drawn independently of the others, that bound its probability.
            smoothing: the noise.
            alpha: the probability of error per image, in (0, 1).

        Raises:
            ConfigError: an argument is not valid; the message names it. Or the samples were stopped by what they
                showed, and the certificate is about a number that was fixed.
        """
        alpha = check_alpha(alpha)
        check_may_stop(type(self), smoothing.trials)
        check_counts(selection, estimation, smoothing)
        return self._certify(selection, estimation, smoothing, alpha)

    @abstractmethod
    def _certify(
        self, selection: Int[np.ndarray, "N k"], estimation: Int[np.ndarray, "N k"], smoothing: Smoothing, alpha: float
    ) -> Bound:
        """Certify N images; the arguments are checked."""


BASE = Certificate


def check_may_stop(certificate: type[Certificate], trials: Trials) -> None:
    """Raise unless a certificate holds for samples whose number came about like that.

    Raises:
        ConfigError: it is about a fixed number, and they were stopped by what they showed.
    """
    if not (certificate.may_stop or isinstance(trials, FixedTrials)):
        raise ConfigError(
            f"certificate: {certificate.member_name()} is about a number of samples that is fixed beforehand; "
            f"these were stopped by what they showed; must be sampled with stop 'fixed'"
        )


def guarantee(certificate: Certificate, semi_elasticity: float | None, grid: PixelGrid | None) -> Guarantee:
    """Return what a certificate promises for a sigma policy, before any memory pass.

    Args:
        certificate: the certificate.
        semi_elasticity: that of the policy; 0 for a constant sigma, None where nothing is known.
        grid: what noisy images are rounded to; None for float32 noise.

    Returns:
        If the certificate's theorem covers the policy, ``global``, or ``global (real arithmetic)`` for float32 noise;
        else ``none``.

    Raises:
        ConfigError: ``semi_elasticity`` is negative or not a number, or the certificate needs it and it is None.
    """
    largest = certificate.max_semi_elasticity
    if semi_elasticity is None:
        if largest:
            name = certificate.member_name()
            raise ConfigError(
                f"certificate: {name} needs a sigma policy that states its semi-elasticity; this one has none"
            )
        return "none"
    if not semi_elasticity >= 0:
        raise ConfigError(f"semi_elasticity: {semi_elasticity!r}; must be 0 or more, or None where unknown")
    if largest is None or semi_elasticity > largest:
        return "none"
    return "global (real arithmetic)" if grid is None else "global"


def check_can_certify(certificate: Certificate, *, n: int, alpha: float) -> None:
    """Raise unless n samples can show enough: of the best counts, all of one class, the certificate must not abstain.

    Args:
        certificate: the certificate; a constant sigma is its best case.
        n: estimation samples.
        alpha: the probability of error per image.

    Raises:
        ConfigError: it abstains whatever the samples show; the message says which n is enough.
    """

    def can(n: int) -> bool:
        counts, one = np.array([[n, 0]]), np.ones(1)
        bound = certificate(counts, counts, Smoothing(one, 1, 0.0, one * np.inf), alpha=alpha)
        return bool(bound.predict[0] != ABSTAIN)

    check_enough(can, n=n, alpha=alpha)


def check_enough(can: Callable[[int], bool], *, n: int, alpha: float) -> None:
    """Raise unless ``can(n)``; `can` must not become false as its argument grows.

    Raises:
        ConfigError: the message says which n is enough.
    """
    if can(n):
        return
    enough = 1 + bisect_left(range(1, MAX_SAMPLES + 1), True, key=can)
    right = f"at least {enough}" if enough <= MAX_SAMPLES else "more than is allowed: alpha is too small"
    raise ConfigError(f"n: {n}; every image would abstain at alpha {alpha:g}, whatever is sampled; must be {right}")


def linf_radius(radius: Float[np.ndarray, " N"], *, norm: Norm, dimension: int) -> Float[np.ndarray, " N"]:
    """Return the l-infinity radii that radii in another norm imply, rounded down.

    A cube of half-width r has l2 radius r sqrt(d) and l1 radius r d.

    Args:
        radius: in pixel coordinates [0, 1].
        norm: of these radii.
        dimension: d, numbers per image.

    Raises:
        ConfigError: the dimension is no whole number, or below 1.
    """
    dimension = check_integer("dimension", dimension, minimum=1)
    ratio = dimension if norm == "l1" else np.sqrt(dimension)
    down: Float[np.ndarray, " N"] = np.nextafter(radius / np.nextafter(ratio, np.inf), 0.0)
    return down


def check_counts(selection: Int[np.ndarray, "N k"], estimation: Int[np.ndarray, "N k"], smoothing: Smoothing) -> None:
    """Check the arguments that every certificate takes.

    Raises:
        ConfigError: counts are not integers, negative, of fewer than two classes, of different shapes, or of
            an image without samples; sigma is not one finite positive number per image, constant_within not
            one number >= 0, or rounding below 0. The message names the argument.
    """
    for name, counts in (("selection", selection), ("estimation", estimation)):
        check_count_rows(name, counts)
    if selection.shape != estimation.shape:
        raise ConfigError(f"estimation: shape {estimation.shape}; must be that of selection, {selection.shape}")
    sigma, within = smoothing.sigma, smoothing.constant_within
    for name, value, is_right, right in (
        ("sigma", sigma, np.isfinite(sigma) & (sigma > 0), "finite and above 0"),
        ("constant_within", within, within >= 0, "0 or more"),
    ):
        if value.shape != selection.shape[:1]:
            raise ConfigError(f"{name}: shape {value.shape}; must be one value per image, {selection.shape[:1]}")
        if not is_right.all():
            raise ConfigError(f"{name}: {value[~is_right][0]} at image {np.argmin(is_right)}; must be {right}")
    if not smoothing.rounding >= 0:
        raise ConfigError(f"rounding: {smoothing.rounding}; must be 0 or more")


def known_semi_elasticity(smoothing: Smoothing) -> float:
    """Return the semi-elasticity of sigma(x), for a certificate that needs it.

    Raises:
        ConfigError: it is not known, negative or not a number.
    """
    rate = smoothing.semi_elasticity
    if rate is None or not rate >= 0:
        raise ConfigError(f"semi_elasticity: {rate!r}; must be 0 or more, stated by the sigma policy")
    return rate


def selected_class(
    selection: Int[np.ndarray, "N k"], estimation: Int[np.ndarray, "N k"], trials: Trials, *, alpha: float
) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Return the class that the selection samples choose, and a lower bound on its probability.

    Given the selection, the samples of that class among the independent estimation samples are Bernoulli trials, so a
    bound for trials whose number came about like that exceeds its probability with probability at most alpha.

    Args:
        selection: the most frequent class is chosen, the smallest index among equals.
        estimation: class counts of the samples that bound its probability.
        trials: how their number came about.
        alpha: the probability of error per image, in (0, 1).

    Returns:
        The class, int64 [N], and the bound, float64 [N].
    """
    selected = selection.argmax(axis=1)
    successes = np.take_along_axis(estimation, selected[:, None], axis=1)[:, 0]
    return selected, trials.lower(successes, estimation.sum(axis=1), alpha=alpha)


def concluded(
    selected: Int[np.ndarray, " N"],
    radius: Float[np.ndarray, " N"],
    p_a_lower: Float[np.ndarray, " N"],
    p_b_upper: Float[np.ndarray, " N"],
    smoothing: Smoothing,
    *,
    norm: Norm,
) -> Bound:
    """Return certificates of the selected classes: the radii, less what images may be displaced, or abstention.

    The radii hold around the images as they are read (`certsmooth.science.theory.pixel_grid`); 0 for abstention.
    """
    left = taken_off(radius, smoothing.displacement(norm))
    return Bound(np.where(left > 0, selected, ABSTAIN).astype(np.int64), left, p_a_lower, p_b_upper)


def taken_off(value: Float[np.ndarray, " N"], cost: Float[np.ndarray, " N"] | float) -> Float[np.ndarray, " N"]:
    """Return value - cost, rounded down, and 0 where that is not positive; the value itself where the cost is 0."""
    return np.where(np.asarray(cost) > 0, np.maximum(np.nextafter(value - cost, -1.0), 0.0), value)


def check_count_rows(name: str, counts: Int[np.ndarray, "N k"]) -> None:
    """Raise ConfigError unless ``counts`` is an array of class counts with at least one sample per image."""
    if counts.ndim != 2 or counts.shape[1] < 2:
        raise ConfigError(f"{name}: shape {counts.shape}; must be [N, k] with at least k = 2 classes")
    if not np.issubdtype(counts.dtype, np.integer):
        raise ConfigError(f"{name}: values of type {counts.dtype}; must be integers")
    if (counts < 0).any():
        raise ConfigError(f"{name}: a count of {counts.min()}; must be 0 or more")
    empty = ~counts.any(axis=1)
    if empty.any():
        raise ConfigError(f"{name}: no sample of image {np.argmax(empty)}; must be at least 1")
