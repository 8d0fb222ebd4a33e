"""A smoothed classifier for any torch module: sample, certify, predict."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from certsmooth._internal.checks import check_alpha, check_integer, check_samples
from certsmooth.errors import ConfigError, DataError
from certsmooth.science.certificates import Certificate, Smoothing, check_can_certify, cohen, guarantee, linf_radius
from certsmooth.science.certify import certify_counts
from certsmooth.science.inputs import BaseModel, ImageBatch, accepting, as_module, as_policy, as_tensor, device_of
from certsmooth.science.memory import Memory
from certsmooth.science.noise import image_identities
from certsmooth.science.sampling.counts import Counts
from certsmooth.science.sampling.sampler import GROUP, Sampler, SamplingPlan, finished
from certsmooth.science.sigma import SigmaPolicy
from certsmooth.science.stopping import Looks, StoppingRule, check_can_stop
from certsmooth.science.theory.pixel_grid import PixelGrid
from certsmooth.science.theory.sequential import FIXED


class SmoothedClassifier:
    """The classifier g(x) = argmax_c P(f(x + sigma(x) eps) = c), eps standard normal (Cohen et al. 2019, eq. 1).

    The noise of an image is a function of the seed and of the image's pixels, not of the batch that it comes in.

    Args:
        model: base classifier f, a module or a function; float32 images [b, *shape] in, one score per class
            [b, num_classes] out, of any type that can be compared. It is run in evaluation mode (a function has none),
            on the device of its parameters, and on the CPU from several threads at once, each with a copy, if that is
            known to make no difference: that program is what is certified. A module that does not take float32 gets
            the images in the type of its parameters. One that differentiates does so under ``torch.enable_grad()``.
        num_classes: number of classes.
        sigma: a number, which means `FixedSigma`, or the sigma policy: `FixedSigma`, `DataDependentSigma`,
            `MultiStartSigma`, or, fitted to training images, `NearestNeighbourSigma` or `BorderDistanceSigma`.
        pixel_range: images outside it are refused; None for data that are not images.
        step: of the pixels: what the base classifier sees is rounded to multiples of it, and certificates hold for the
            program that runs (`theory.pixel_grid`). It is 1 divided by a whole number. "auto": 1/255, that of 8-bit
            images, if ``pixel_range`` is (0, 1), else None: float32 noise, whose certificates hold in real arithmetic
            only. Any image is allowed; those that are not multiples of the step take longer.
        certificate: what the counts are turned into: `CohenCertificate` (None), `TwoSidedCertificate`,
            `SemiElasticCertificate` for a sigma policy with a semi-elasticity, or `L1Certificate` (uniform noise, whose
            sigma is half its width).
        memory: for a data-dependent sigma (DDRS, Section 3.5): what was certified before. Certificates are then made to
            agree with it, and enter it. It belongs to this classifier from then on, and to those of the same model,
            sigma policy and certificate.

    Example:
        >>> smoothed = SmoothedClassifier(model, 10, 0.25)
        >>> smoothed.certify(images, n0=100, n=10_000, alpha=0.001, seed=0)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: BaseModel,
        num_classes: int,
        sigma: SigmaPolicy | float,
        *,
        pixel_range: tuple[float, float] | None = (0.0, 1.0),
        step: float | Literal["auto"] | None = "auto",
        certificate: Certificate | None = None,
        memory: Memory | None = None,
    ) -> None:
        sigma = as_policy(sigma)
        self.model = as_module(model)
        self.num_classes = check_integer("num_classes", num_classes, minimum=2)
        self.sigma = sigma
        self.pixel_range = pixel_range
        if step == "auto":
            step = 1 / 255 if pixel_range == (0.0, 1.0) else None
        self.grid = None if step is None else PixelGrid.of_step(step)
        self.certificate = certificate or cohen.CohenCertificate()
        self.memory = memory
        guarantee(self.certificate, sigma.semi_elasticity, self.grid)  # a policy without semi-elasticity may be refused
        for name, part in (("sigma", sigma), ("memory", memory)):
            if (norm := getattr(part, "norm", self.certificate.norm)) != self.certificate.norm:
                raise ConfigError(f"{name}: norm {norm}; must be {self.certificate.norm}, that of the certificate")
        if memory is not None:
            fitted = sigma if sigma.uses_training_images else None  # equal policies may be fitted to other images
            memory.bind(model, fitted, settings=(self.num_classes, sigma, self.certificate, self.grid))

    def __repr__(self) -> str:
        model = type(self.model).__name__
        rounded = "float32 noise" if self.grid is None else f"step=1/{self.grid.levels}"
        memory = "" if self.memory is None else f", memory of {len(self.memory)} answers"
        return f"SmoothedClassifier({model}, {self.num_classes}, {self.sigma}, {self.certificate}, {rounded}{memory})"

    def sample(
        self, x: ImageBatch, *, n0: int, n: int, seed: int, batch_size: int | None = None, progress: bool = False
    ) -> Counts:
        """Count the classes of n0 + n noisy copies of each image.

        Args:
            x: images, pixels in ``pixel_range``; a floating-point tensor or NumPy array.
            n0: selection samples.
            n: estimation samples, independent of the selection samples.
            seed: of the noise.
            batch_size: noisy images per forward pass, rounded down to hundreds if it is more than 100; None for one
                that is fast on the device. When memory runs out it is halved, with a warning.
            progress: show a bar of the images on the standard error stream.

        Returns:
            The counts; ``index`` is the position in the batch, ``label`` is -1.

        Raises:
            DataError: x is not a batch of finite images in the pixel range.
            ModelError: the model fails on the images; it returned NaN, only -inf for a row, or not one score per class;
                or the class of a row depends on the other rows of its batch.
            ConfigError: n0, n, seed or batch_size is no whole number, n0, n or batch_size < 1 or seed < 0.
        """
        return self._sample(x, n0=n0, n=n, seed=seed, looks=None, batch_size=batch_size, progress=progress)

    def _sample(
        self,
        x: ImageBatch,
        *,
        n0: int,
        n: int,
        seed: int,
        looks: Looks | None,
        batch_size: int | None,
        progress: bool,
    ) -> Counts:
        images = self._checked(x)
        model = accepting(self.model, images)
        plan = SamplingPlan(n0, n, seed, dataset="", noise=self.certificate.noise, grid=self.grid)
        sampler = Sampler(model, num_classes=self.num_classes, plan=plan, batch_size=batch_size)
        sigmas, within, rows = [], [], []
        with tqdm(total=len(images), unit="image", file=sys.stderr, disable=not progress) as bar:
            for group in torch.split(images, GROUP):
                identities = image_identities(group)
                sigmas.append(sampler.sigmas(self.sigma, group, identities))
                within.append(self.sigma.constant_within(group).cpu())
                if looks is None:
                    counted = sampler.count(group, sigmas[-1], identities)
                else:
                    looks = looks.at(sigmas[-1].numpy(), within[-1].numpy())
                    counted = finished(sampler.count_until(group, sigmas[-1], identities, looks))
                done = []
                for row in counted:
                    done.append(row)
                    bar.update()
                rows += sorted(done, key=lambda row: row.position)
        return Counts(
            index=np.arange(len(x)),
            label=np.full(len(x), -1),
            sigma=torch.cat(sigmas).numpy(),
            constant_within=torch.cat(within).numpy(),
            selection=np.stack([row.selection for row in rows]),
            estimation=np.stack([row.estimation for row in rows]),
            batch_size=np.asarray([row.batch_size for row in rows]),
        )

    def certify(
        self,
        x: ImageBatch,
        *,
        n0: int = 100,
        n: int = 100_000,
        alpha: float = 0.001,
        seed: int,
        stop: StoppingRule | None = None,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> pd.DataFrame:
        """Certify each image (CERTIFY of Cohen et al. 2019).

        Args:
            x: images, pixels in ``pixel_range``; a floating-point tensor or NumPy array.
            n0: selection samples.
            n: estimation samples; with a stopping rule, at most so many.
            alpha: each certificate is wrong with at most this probability, with every stopping rule.
            seed: of the noise.
            stop: `StopAtRadius`, `StopAtRadii` or `StopAtPrecision`, which most images satisfy after a few thousand
                samples (`theory.sequential`); None: n samples of every image.
            batch_size: as `sample`.
            progress: as `sample`.

        Returns:
            One row per image: ``predict`` (-1: abstain), ``radius`` (in the certificate's norm and pixel coordinates; 0
            if it abstains), ``radius_linf`` (that it implies), ``p_a_lower``, ``n`` (the estimation samples that it
            took), ``sigma``, ``guarantee``. That is ``global`` where the certificate covers the sigma policy: the
            prediction is the same everywhere in the ball, for the program that runs. Without a step it is ``global
            (real arithmetic)``: float32 noise is taken for real numbers, and a base classifier that looks at low bits
            can break that. Else it is ``none``, or ``memory`` if there is one: then it holds for this memory's session
            and order only.

        Raises:
            DataError, ModelError, ConfigError: as `sample`; ConfigError also for alpha outside (0, 1),
                for an n with which every image abstains at this alpha, where the message says which n is enough; and
                for a rule with a radius that n samples cannot certify.
        """
        # Before the samples are paid for.
        n, alpha = check_samples("n", n), check_alpha(alpha)
        check_can_certify(self.certificate, n=n, alpha=alpha)
        x = as_tensor(x)
        looks = None if stop is None else self._looks(stop, x, n=n, alpha=alpha)
        counts = self._sample(x, n0=n0, n=n, seed=seed, looks=looks, batch_size=batch_size, progress=progress)
        found = certify_counts(
            counts.selection,
            counts.estimation,
            counts.sigma,
            alpha=alpha,
            certificate=self.certificate,
            semi_elasticity=self.sigma.semi_elasticity,
            constant_within=counts.constant_within,
            dimension=x[0].numel(),
            step=None if self.grid is None else 1 / self.grid.levels,
            n_max=None if stop is None or stop.trials(n) == FIXED else n,
        )
        found["n"] = counts.estimation.sum(axis=1)
        if self.memory is not None:
            points, predict, radius = self._points(x), found["predict"].to_numpy(), found["radius"].to_numpy()
            found["predict"], found["radius"] = self.memory.enter(points, predict, radius)
            found["guarantee"] = "memory"
        radius = found["radius"].to_numpy()
        found["radius_linf"] = linf_radius(radius, norm=self.certificate.norm, dimension=x[0].numel())
        return found[["predict", "radius", "radius_linf", "p_a_lower", "n", "sigma", "guarantee"]]

    def predict(
        self,
        x: ImageBatch,
        *,
        n: int = 100_000,
        alpha: float = 0.001,
        seed: int,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> Int[np.ndarray, " b"]:
        """Predict the class of each image (PREDICT of Cohen et al. 2019).

        Args:
            x: images, pixels in ``pixel_range``; a floating-point tensor or NumPy array.
            n: samples.
            alpha: with at most this probability the answer is neither the smoothed classifier's class nor -1.
            seed: of the noise.
            batch_size: as `sample`.
            progress: as `sample`.

        Returns:
            int64 [b]: the class, or -1 (abstain). With a memory, an image in a certified ball gets the ball's class.

        Raises:
            DataError, ModelError, ConfigError: as `certify`.
        """
        n, alpha = check_samples("n", n), check_alpha(alpha)
        cohen.check_can_predict(n=n, alpha=alpha)
        x = as_tensor(x)
        counts = self.sample(x, n0=1, n=n, seed=seed, batch_size=batch_size, progress=progress)
        predict = cohen.predict(counts.estimation, alpha=alpha)
        return predict if self.memory is None else self.memory.recall(self._points(x), predict)

    def _looks(self, stop: StoppingRule, x: Tensor, *, n: int, alpha: float) -> Looks:
        """Return when samples of images stop; the smoothing is that of no images yet.

        Raises:
            ConfigError: that rule makes no sense here.
        """
        nothing = np.zeros(0)
        rate = self.sigma.semi_elasticity
        smoothing = Smoothing(nothing, x[0].numel(), rate, nothing, grid=self.grid)
        if stop.only_correct:
            raise ConfigError("stop: only_correct needs labels; must be false")
        if rate == 0:
            one = np.array([self.sigma.sigma0])
            about = replace(smoothing, sigma=one, constant_within=one * np.inf)
            check_can_stop(stop, self.certificate, about, most=n, alpha=alpha)
        return Looks(stop, self.certificate, alpha, n, smoothing)

    def _points(self, x: Tensor) -> Float[np.ndarray, "b d"]:
        return x.detach().flatten(1).to("cpu", torch.float32).numpy()

    def _checked(self, x: ImageBatch) -> Float[Tensor, " b *shape"]:
        x = as_tensor(x)
        low, high = (-torch.inf, torch.inf) if self.pixel_range is None else self.pixel_range
        if not bool(x.isfinite().all()) or bool((x < low).any()) or bool((x > high).any()):
            raise DataError(f"images: values from {x.min():g} to {x.max():g}; must be finite and in [{low}, {high}]")
        return x.detach().to(device_of(self.model, x.device), torch.float32)
