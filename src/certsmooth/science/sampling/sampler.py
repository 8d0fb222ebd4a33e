"""Class counts under noise: the hot path.

What an image's counts depend on. The noise of an image is a function of (seed, data set, stage, image) alone
(`science.noise.NoiseStreams`). Images are processed in groups of `GROUP` consecutive positions; within a group, the
noise blocks of all images, selection before estimation, form one sequence that is cut into batches of one fixed shape,
the last one padded. Which rows share a batch therefore follows from the list of images, n0, n and the batch size, not
from shards, workers or interruptions: a shard is a union of whole groups, and a run that goes on inside a group
repeats the batch in which it was killed. Where a rule stops the samples of an image, `sampling.lanes` says which
rows share a batch. Every forward pass on the CPU uses one thread, and batches run side by side in
as many workers as there are threads, so that the arithmetic does not depend on the number of cores either; a model that
may keep something from one row to another, where others could see it, has one worker.
"""

from __future__ import annotations

import copy
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import prod
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from certsmooth._internal.checks import LARGEST_SEED, MAX_SAMPLES, check_integer, store_integer
from certsmooth._internal.modes import cpu_threads, evaluation
from certsmooth._internal.out_of_memory import is_out_of_memory
from certsmooth._internal.registry import member
from certsmooth._internal.replicas import Replicas
from certsmooth.errors import DataError, ModelError
from certsmooth.science.noise import FloatNoise, GridNoise, NoiseStreams, NoisyImages
from certsmooth.science.sampling.batches import Run, Stretch, cut
from certsmooth.science.sampling.counts import BLOCK as BLOCK  # where they are known from
from certsmooth.science.sampling.counts import GROUP as GROUP
from certsmooth.science.sampling.lanes import Lanes, Looked, NextLook
from certsmooth.science.sampling.rows import beside_others, check_rows, far_images, mixed
from certsmooth.science.sigma import SigmaPolicy
from certsmooth.science.theory.pixel_grid import PixelGrid

_CPU_BATCH_ELEMENTS = 256_000  # fits the second-level cache of the processors measured in benchmarks/
_GPU_BATCH_ELEMENTS = 12_500_000
_SIGMA_DRAW_ELEMENTS = 2**22  # noise that the sigma policy keeps at a time, for a group

T = TypeVar("T")


@dataclass(frozen=True)
class SamplingPlan:
    """What is drawn for each image.

    Attributes:
        n0: selection samples, in 1 .. `certsmooth._internal.checks.MAX_SAMPLES`.
        n: estimation samples, likewise.
        seed: of all noise, in 0 .. 2**63 - 1.
        dataset: name that the noise depends on.
        noise: a member of certsmooth.science.noise.
        grid: what noisy images are rounded to, so that what is counted has the law of ideal noise; None for float32
            noise. A sigma policy draws float32 noise in both cases: sigma(x) may be any function of x.

    Raises:
        ConfigError: one of the numbers is not so.
    """

    n0: int
    n: int
    seed: int
    dataset: str
    noise: str = "gaussian"
    grid: PixelGrid | None = None

    def __post_init__(self) -> None:
        # The noise depends on how the seed is printed.
        for name, least, most in (("n0", 1, MAX_SAMPLES), ("n", 1, MAX_SAMPLES), ("seed", 0, LARGEST_SEED)):
            store_integer(self, name, minimum=least, maximum=most)

    def streams(self) -> NoiseStreams:
        """Return the noise that is drawn."""
        return NoiseStreams(member("noise", self.noise)(), self.seed, self.dataset)

    def noisy_images(self, images: Float[Tensor, " g *shape"], sigma: Float[Tensor, " g"]) -> NoisyImages:
        """Return what makes noisy copies of some float32 images; sigma is rounded to float32."""
        rounded: list[float] = sigma.to(torch.float32).tolist()
        if self.grid is None:
            return FloatNoise(self.streams(), images, rounded)
        return GridNoise(self.streams(), images, rounded, self.grid)

    def stretches(self, images: int) -> list[Stretch]:
        """Return all samples of some images, selection before estimation."""
        stages = ("selection", self.n0), ("estimation", self.n)
        return [Stretch(position, stage, 0, end) for position, (stage, end) in product(range(images), stages)]


@dataclass(frozen=True)
class ImageCounts:
    """Counts of one finished image; ``position`` is its place in the group."""

    position: int
    selection: Int[np.ndarray, " k"]
    estimation: Int[np.ndarray, " k"]
    batch_size: int


def finished(looks: Iterable[Looked]) -> Iterator[ImageCounts]:
    """Yield the counts of the images that each look finishes."""
    for looked in looks:
        for i in np.flatnonzero(looked.finished):
            position, selection, estimation = looked.positions[i], looked.selection[i], looked.estimation[i]
            yield ImageCounts(int(position), selection, estimation, looked.batch_size)


def default_batch_size(image_shape: Sequence[int], device: torch.device) -> int:
    """Return the rows per forward pass that measured best on the kind of device: a multiple of `BLOCK`."""
    elements = _CPU_BATCH_ELEMENTS if device.type == "cpu" else _GPU_BATCH_ELEMENTS
    return max(1, elements // (prod(image_shape) * BLOCK)) * BLOCK


def _whole_blocks(size: int) -> int:
    return size if size < BLOCK else size // BLOCK * BLOCK


class Sampler:
    """Counts classes of a base classifier under noise.

    Args:
        model: base classifier; images [b, *image_shape] in, one score per class [b, num_classes] out. It is run in
            evaluation mode; on the CPU in several threads at once, as far as `_internal.replicas` allows. The first
            batch that a sampler counts tells whether the class of a row depends on the other rows (`sampling.rows`).
        num_classes: number of classes.
        plan: what is drawn.
        batch_size: rows per forward pass, rounded down to whole blocks if it is more than one; None for
            `default_batch_size`. When memory runs out it is halved, with a warning, and the counts record what was
            used.
    """

    def __init__(
        self, model: nn.Module, *, num_classes: int, plan: SamplingPlan, batch_size: int | None = None
    ) -> None:
        self.model = model
        self.num_classes = check_integer("num_classes", num_classes, minimum=2)
        self.plan = plan
        self.batch_size = None if batch_size is None else check_integer("batch_size", batch_size, minimum=1)
        self._checked = False
        self._draws = False  # whether the model draws random numbers, of which the process has one sequence

    def drawing(self, plan: SamplingPlan) -> Sampler:
        """Return a sampler of the same model that draws something else; what is known of the model's rows stays."""
        other = copy.copy(self)
        other.plan = plan
        return other

    def sigmas(
        self,
        policy: SigmaPolicy,
        images: Float[Tensor, " g *shape"],
        identities: Sequence[int | str],
        *,
        plans: Sequence[SamplingPlan] | None = None,
    ) -> Float[Tensor, " g"]:
        """Return sigma(x) of a group of images, float64 on the CPU; see `sigmas_together`."""
        return self.sigmas_together([policy], images, identities, plans=plans)[0]

    def sigmas_together(
        self,
        policies: Sequence[SigmaPolicy],
        images: Float[Tensor, " g *shape"],
        identities: Sequence[int | str],
        *,
        plans: Sequence[SamplingPlan] | None = None,
    ) -> Float[Tensor, "p g"]:
        """Return sigma(x) of a group of images for each of some policies, float64 on the CPU.

        The group is padded to `GROUP` images, so that the arithmetic does not depend on how many there are. Each sigma
        is a float32 number: the noise is scaled in float32, and the certificate must be about the sigma that was used.

        Args:
            policies: sigma policies that `SigmaPolicy.together` takes, which draw as many samples in each step; their
                noise is the stage "sigma" of each image.
            images: at most `GROUP` images.
            identities: what the noise of each image depends on.
            plans: by which the noise of each image is drawn; None for the sampler's own.

        Raises:
            ModelError: a policy returned a sigma that is not positive and finite.
        """
        # A policy may differentiate, which torch refuses in the inference mode that a caller may be in.
        with torch.inference_mode(False), evaluation(self.model), cpu_threads(images.device, 1):
            rows = torch.arange(GROUP).clamp(max=len(images) - 1)
            padded = images[rows.to(images.device)]
            streams = [plan.streams() for plan in plans or [self.plan] * len(images)]
            sources = [(streams[i], identities[i]) for i in rows.tolist()]
            start = torch.full((GROUP,), policies[0].sigma0, dtype=torch.float64, device=images.device)
            draw = _SigmaNoise(sources, policies[0].samples, padded)
            with Replicas(self.model, images.device).lend() as model:
                found = policies[0].together(policies, model, padded, start, draw)
        sigma = found[:, : len(images)].to("cpu", torch.float32).to(torch.float64)
        if not bool((sigma.isfinite() & (sigma > 0)).all()):
            raise ModelError(f"sigma policy {type(policies[0]).__name__}: returned {sigma.tolist()}; must be > 0")
        return sigma

    def count(
        self,
        images: Float[Tensor, " g *shape"],
        sigma: Float[Tensor, " g"],
        identities: Sequence[int | str],
        *,
        start: int = 0,
    ) -> Iterator[ImageCounts]:
        """Yield the counts of a group of images, one image after the other, as each is finished.

        Args:
            images: at most `GROUP` images, float32, on the device that the model lives on.
            sigma: noise level of each image, > 0, in pixel coordinates [0, 1].
            identities: what the noise of each image depends on.
            start: first image to count; earlier ones only fill the batch they share with it.

        Raises:
            ModelError: the model's output has not the shape [b, num_classes], or holds NaN, or -inf for every class of
                a row (the image is named); or the class of a row depends on the other rows of its batch.
            DataError: more than `GROUP` images, not one sigma and identity for each, or a sigma that is not positive.
        """
        following = start

        def attempt(noisy: _NoisyRows, size: int) -> Iterator[ImageCounts]:
            nonlocal following
            for finished in self._count(noisy, following, size):
                following = finished.position + 1
                yield finished

        yield from self._as_memory_allows(images, sigma, identities, attempt)

    def count_until(
        self,
        images: Float[Tensor, " g *shape"],
        sigma: Float[Tensor, " g"],
        identities: Sequence[int | str],
        next_look: NextLook,
        *,
        known: tuple[Int[np.ndarray, "g k"], Int[np.ndarray, "g k"]] | None = None,
    ) -> Iterator[Looked]:
        """Yield the counts of some images of a group after each look at these, until none needs more.

        Args:
            images: as `count`.
            sigma: as `count`.
            identities: as `count`.
            next_look: says how many samples an image is to have when it is looked at next; the plan's n at most.
            known: selection and estimation counts to go on from, in whole blocks; None to begin.

        Raises:
            ModelError, DataError: as `count`.
        """
        shape = len(images), self.num_classes
        selection, estimation = known or (np.zeros(shape, np.int64), np.zeros(shape, np.int64))

        def attempt(noisy: _NoisyRows, size: int) -> Iterator[Looked]:
            lanes = Lanes(self.plan.n0, next_look, selection, estimation, noisy.per_batch)
            for batch, table in self._tables(_BatchRunner(self, noisy, size), lanes.batches()):
                if looked := lanes.credit(batch, _counted(batch, table, noisy.identities), size):
                    yield looked

        yield from self._as_memory_allows(images, sigma, identities, attempt)

    def _as_memory_allows(
        self,
        images: Float[Tensor, " g *shape"],
        sigma: Float[Tensor, " g"],
        identities: Sequence[int | str],
        attempt: Callable[[_NoisyRows, int], Iterator[T]],
    ) -> Iterator[T]:
        """Yield what an attempt does, given the noisy rows of a group and the rows of a forward pass at most.

        Where memory runs out, another one goes on with half as many rows.
        """
        if not len(images) == len(sigma) == len(identities) <= GROUP:
            found = f"{len(images)} images, {len(sigma)} sigmas, {len(identities)} identities"
            raise DataError(f"{found}; must be as many of each, at most {GROUP}")
        if not bool((sigma.isfinite() & (sigma > 0)).all()):
            raise DataError(f"sigma: {sigma.tolist()}; must be finite and above 0")
        size = _whole_blocks(self.batch_size or default_batch_size(images.shape[1:], images.device))
        while True:
            try:
                noisy = _NoisyRows(self.plan, images.to(torch.float32), sigma, identities, max(1, size // BLOCK))
                with evaluation(self.model):
                    yield from attempt(noisy, size)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or size == 1:
                    raise
            else:
                return
            size = _whole_blocks(size // 2)
            warnings.warn(f"out of memory: going on with batches of {size} images", stacklevel=2)
            self.batch_size = size

    def _count(self, noisy: _NoisyRows, start: int, size: int) -> Iterator[ImageCounts]:
        noisy.padded = True
        batches = cut(self.plan.stretches(len(noisy.images)), noisy.per_batch)
        needed = [batch for batch in batches if batch[-1].position >= start]
        totals = np.zeros((len(noisy.images), 2, self.num_classes), dtype=np.int64)
        for batch, table in self._tables(_BatchRunner(self, noisy, size), iter(needed)):
            for run, found in zip(batch, _counted(batch, table, noisy.identities), strict=True):
                totals[run.position, int(run.stage == "estimation")] += found
                if run.completes and run.position >= start:
                    yield ImageCounts(run.position, totals[run.position, 0], totals[run.position, 1], size)

    def _tables(self, runner: _BatchRunner, batches: Iterator[list[Run] | None]) -> Iterator[tuple[list[Run], Tensor]]:
        """Yield (batch, table) in order, one batch more under way than there are workers; the first one is checked.

        ``batches`` yields None where its next batch depends on a table that is still to come.
        """
        with _workers(runner.device, one=runner.replicas.is_one) as (executor, workers):
            if not self._checked and (first := next(batches, None)) is not None:
                before = torch.get_rng_state()
                table = executor.submit(runner.checked, first).result()
                self._checked = True
                self._draws = not torch.equal(before, torch.get_rng_state())
                yield first, table
            pending: deque[tuple[list[Run], Future[Tensor]]] = deque()
            for batch in batches:
                if batch is not None:
                    pending.append((batch, executor.submit(runner, batch)))
                if batch is None or len(pending) > (0 if self._draws else workers):
                    done, future = pending.popleft()
                    yield done, future.result()
            for done, future in pending:
                yield done, future.result()


@dataclass
class _NoisyRows:
    """Makes the rows of one batch, [blocks * BLOCK, *shape]: noisy copies of the images of a group.

    Where ``padded``, all batches are of ``per_batch`` blocks.
    """

    plan: SamplingPlan
    images: Float[Tensor, " g *shape"]
    sigma: Float[Tensor, " g"]
    identities: Sequence[int | str]
    per_batch: int
    padded: bool = False

    def __post_init__(self) -> None:
        self.noisy_images = self.plan.noisy_images(self.images, self.sigma)
        self.buffers = threading.local()

    def __call__(self, batch: list[Run]) -> Float[Tensor, " rows *shape"]:
        shape = self.images.shape[1:]
        if not hasattr(self.buffers, "noisy"):
            self.buffers.noisy = self.images.new_zeros(self.per_batch, BLOCK, prod(shape))
        noisy: Tensor = self.buffers.noisy
        for run in batch:
            part = noisy[run.start : run.start + run.blocks]
            self.noisy_images.fill(part, run.position, (run.stage, self.identities[run.position]), run.first)
        used = batch[-1].start + batch[-1].blocks
        if not self.padded:
            return noisy[:used].view(-1, *shape)
        # The shape stays when blocks are left over: those hold no noise, and nothing that an earlier batch left.
        noisy[used:] = self.images[batch[-1].position].flatten()
        return noisy.view(-1, *shape)

    def beside(self, batch: list[Run]) -> Float[Tensor, " rows *shape"]:
        """Return the rows of a batch with far images in the place of these."""
        return replace(self, images=far_images(self.images))(batch)


class _BatchRunner:
    """Makes one batch, runs it, and returns its table of counts [blocks, num_classes + 1] on the model's device.

    The last column counts rows without a class, whose scores hold NaN or are all -inf: reading it needs no extra
    synchronisation with the device.
    """

    def __init__(self, sampler: Sampler, noisy: _NoisyRows, rows: int) -> None:
        self.noisy = noisy
        self.device = noisy.images.device
        self.replicas = Replicas(sampler.model, self.device)
        self.num_classes = sampler.num_classes
        self.rows = rows
        self.width = sampler.num_classes + 2  # classes, no class, rows that do not count
        blocks = torch.arange(noisy.per_batch, device=self.device)
        self.bin_of_block = (self.width * blocks).repeat_interleave(BLOCK)
        self.one = torch.ones_like(self.bin_of_block)

    def __call__(self, batch: list[Run]) -> Int[Tensor, "blocks classes"]:
        with torch.no_grad():  # not in inference mode: a model may differentiate in its forward pass
            return self._table(batch, [self._scores(part) for part in torch.split(self.noisy(batch), self.rows)])

    def checked(self, batch: list[Run]) -> Int[Tensor, "blocks classes"]:
        """Return what calling it does, unless some rows that count get another class beside rows of far images.

        Raises:
            ModelError: they do.
        """
        with torch.no_grad():
            noisy = self.noisy(batch)
            counted = [torch.arange(run.start * BLOCK, run.start * BLOCK + run.samples) for run in batch]
            chosen, places = beside_others(torch.cat(counted).to(noisy.device), min(self.rows, len(noisy)))
            rows = noisy[chosen]  # a copy: the model may change its input
            scores = [self._scores(part) for part in torch.split(noisy, self.rows)]
            others = mixed(self.noisy.beside(batch)[: self.rows])
            others[places] = rows
            check_rows(self.replicas.model, scores[0][chosen], self._scores(others)[places])
            return self._table(batch, scores)

    def _scores(self, images: Float[Tensor, " rows *shape"]) -> Shaped[Tensor, "rows classes"]:
        with self.replicas.lend() as model:
            scores = model(images)
        if not isinstance(scores, Tensor) or scores.shape != (len(images), self.num_classes):
            found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ModelError(f"the model returned {found}; must be [{len(images)}, {self.num_classes}] scores")
        if scores.is_complex():
            raise ModelError(f"the model returned {scores.dtype}; must be scores that can be compared")
        return scores

    def _bins(self, scores: Shaped[Tensor, "rows classes"]) -> Int[Tensor, " rows"]:
        largest, predicted = scores.max(1)  # the largest of several scores is NaN if one of them is
        return torch.where(largest.isnan() | (largest == -torch.inf), self.num_classes, predicted)

    def _table(self, batch: list[Run], scores: list[Tensor]) -> Int[Tensor, "blocks classes"]:
        bins = torch.cat([self._bins(part) for part in scores])
        for run in batch:
            bins[run.start * BLOCK + run.samples : (run.start + run.blocks) * BLOCK] = self.width - 1
        table = torch.zeros(self.noisy.per_batch * self.width, dtype=torch.int64, device=bins.device)
        table.scatter_add_(0, bins + self.bin_of_block[: len(bins)], self.one[: len(bins)])
        return table.view(self.noisy.per_batch, self.width)[:, : self.width - 1]


def _counted(batch: list[Run], table: Tensor, identities: Sequence[int | str]) -> list[npt.NDArray[np.int64]]:
    """Return the counts of each of a batch's runs."""
    found = []
    blocks = table.cpu().numpy()
    for run in batch:
        counts = blocks[run.start : run.start + run.blocks].sum(axis=0)
        if counts[-1]:
            image = f"image {identities[run.position]}, the one at {run.position} of {len(identities)}"
            raise ModelError(f"the model returned -inf for every class, or NaN for {image}; scores must be numbers")
        found.append(counts[:-1])
    return found


class _SigmaNoise:
    """Step -> standard noise of that step for each image of a group, [samples, b, *shape]."""

    def __init__(
        self, sources: Sequence[tuple[NoiseStreams, int | str]], samples: int, images: Float[Tensor, " b *shape"]
    ) -> None:
        size = max(1, samples * prod(images.shape[1:]))
        self.steps = min(100, max(1, _SIGMA_DRAW_ELEMENTS // (GROUP * size)))
        self.samples = samples
        self.sources = sources
        self.shape = images.shape
        self.buffer = images.new_empty(0)
        self.block = -1

    def __call__(self, step: int) -> Float[Tensor, "n b *shape"]:
        block, offset = divmod(step, self.steps)
        if block != self.block:
            # A new buffer, since a policy may still hold the noise of earlier steps, which lies in the old one.
            size = (len(self.sources), self.steps * self.samples, prod(self.shape[1:]))
            self.buffer = self.buffer.new_empty(size, dtype=torch.float32)
            for part, (streams, identity) in zip(self.buffer, self.sources, strict=True):
                streams.fill(part.unsqueeze(0), ("sigma", identity), block)
            self.block = block
        rows = self.buffer[:, offset * self.samples : (offset + 1) * self.samples]
        return rows.transpose(0, 1).reshape(self.samples, *self.shape)


@contextmanager
def _workers(device: torch.device, *, one: bool) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Yield a pool: a single-threaded worker per CPU thread, or one if it must be or keeps another device busy."""
    is_cpu, threads = device.type == "cpu", torch.get_num_threads()
    workers = threads if is_cpu and not one else 1
    with cpu_threads(device, threads):
        executor = ThreadPoolExecutor(workers, "certsmooth", partial(torch.set_num_threads, 1) if is_cpu else None)
        try:
            yield executor, workers
        finally:
            executor.shutdown(cancel_futures=True)
