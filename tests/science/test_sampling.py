"""Counts under noise: what a naive loop counts, whatever the batches, threads, interruptions and memory."""

from __future__ import annotations

import contextlib
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from certsmooth.errors import ConfigError, DataError, ModelError
from certsmooth.science.models import ModelSpec, build
from certsmooth.science.sampling.batches import cut
from certsmooth.science.sampling.sampler import BLOCK, GROUP, Sampler, SamplingPlan, default_batch_size
from certsmooth.science.sigma.data_dependent import DataDependentSigma as DataDependent
from certsmooth.science.sigma.fixed import FixedSigma as Fixed
from factories import LAWS, WEIGHT, CoupledRows, RowLinear, half_space, modes

CLASSES = 3
PLAN = SamplingPlan(n0=30, n=250, seed=4, dataset="toy")


@pytest.fixture
def group():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(7, 1, 2, 2, generator=generator)
    sigma = 0.2 + torch.rand(7, generator=generator, dtype=torch.float64)
    return images, sigma, [f"image {i}" for i in range(7)]


def naive(model, plan, images, sigma, identities):
    """One image, one block, one forward pass at a time: [images, 2, classes]."""
    totals = np.zeros((len(images), 2, CLASSES), dtype=int)
    for image, level, identity, total in zip(images, sigma.tolist(), identities, totals, strict=True):
        for stage, (name, samples) in enumerate([("selection", plan.n0), ("estimation", plan.n)]):
            for first in range(0, samples, BLOCK):
                noise = torch.empty(1, BLOCK, image.numel())
                plan.streams().fill(noise, (name, identity), first // BLOCK)
                scores = model(image + level * noise.view(BLOCK, *image.shape))
                for row in scores[: samples - first].tolist():
                    total[stage, row.index(max(row))] += 1
    return totals


def totals(finished):
    return np.array([[c.selection.tolist(), c.estimation.tolist()] for c in finished])


def count(model, group, plan=PLAN, *, batch_size=None, start=0):
    """Count and check that the images come one after the other."""
    sampler = Sampler(model, num_classes=CLASSES, plan=plan, batch_size=batch_size)
    positions, found = [], []
    for finished in sampler.count(*group, start=start):
        positions.append(finished.position)
        found.append([finished.selection.tolist(), finished.estimation.tolist()])  # as they are now
    assert positions == list(range(start, len(group[0])))
    return np.array(found)


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("certsmooth")]


# --- what is counted


@pytest.mark.parametrize("batch_size", [None, 100, 250, 300, 64, 1])
@pytest.mark.parametrize(("n0", "n"), [(1, 1), (100, 100), (30, 250), (101, 399), (200, 99)])
def test_counts_are_those_of_a_naive_loop(group, n0, n, batch_size):
    plan = SamplingPlan(n0=n0, n=n, seed=9, dataset="toy")
    model = RowLinear(WEIGHT)
    found = count(model, group, plan, batch_size=batch_size)
    np.testing.assert_array_equal(found, naive(model, plan, *group))
    assert (found.sum(axis=2) == [n0, n]).all()


def test_counts_of_a_network_are_those_of_a_naive_loop(group):
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    model = nn.Sequential(
        build(ModelSpec("small_cnn", (1, 8, 8), CLASSES), seed=0), nn.BatchNorm1d(CLASSES, momentum=1)
    )
    model(images.repeat(100, 1, 1, 1) + torch.randn(300, 1, 8, 8, generator=torch.Generator().manual_seed(2)))
    model.eval()
    arguments = images, group[1][:3], group[2][:3]
    found = count(model, arguments)
    np.testing.assert_array_equal(found, naive(model, PLAN, *arguments))
    assert (found > 0).sum() > 6  # not one class for all


@given(n0=st.integers(1, 1000), n=st.integers(1, 1000), images=st.integers(1, 4), blocks=st.integers(1, 12))
def test_batches_hold_each_sample_once(n0, n, images, blocks):
    batches = cut(SamplingPlan(n0=n0, n=n, seed=0, dataset="").stretches(images), blocks)
    for batch in batches:  # the runs of a batch lie side by side, and only the last batch may have room left
        assert [run.start for run in batch] == [sum(run.blocks for run in batch[:i]) for i in range(len(batch))]
        assert sum(run.blocks for run in batch) == blocks or batch is batches[-1]
    runs = [run for batch in batches for run in batch]
    assert [run.position for run in runs] == sorted(run.position for run in runs)
    for position in range(images):
        for stage, samples in (("selection", n0), ("estimation", n)):
            mine = [run for run in runs if (run.position, run.stage) == (position, stage)]
            numbers = [number for run in mine for number in range(run.first, run.first + run.blocks)]
            assert numbers == list(range(-(-samples // BLOCK)))
            assert sum(run.samples for run in mine) == samples
            assert all(run.samples == run.blocks * BLOCK for run in mine[:-1])
        assert [run.completes for run in runs if run.position == position].index(True) == len(
            [run for run in runs if run.position == position]
        ) - 1


def test_selection_and_estimation_have_noise_of_their_own(group):
    found = count(RowLinear(WEIGHT), group, SamplingPlan(n0=300, n=300, seed=0, dataset="toy"))
    assert (found[:, 0] != found[:, 1]).any(axis=1).all()


@pytest.mark.parametrize("change", [{"seed": 5}, {"dataset": "other"}])
def test_another_seed_or_data_set_gives_other_counts(group, change):
    fields = {"n0": 30, "n": 250, "seed": 4, "dataset": "toy"}
    found = count(RowLinear(WEIGHT), group, SamplingPlan(**fields | change))
    assert (found != count(RowLinear(WEIGHT), group)).any(axis=(1, 2)).sum() >= 6


def test_an_image_keeps_its_counts_among_others(group):
    images, sigma, identities = group
    found = count(RowLinear(WEIGHT), group)
    order = [4, 1, 6]
    some = images[order], sigma[order], [identities[i] for i in order]
    np.testing.assert_array_equal(count(RowLinear(WEIGHT), some), found[order])


@pytest.mark.parametrize("p", [0.5, 0.55, 0.7, 0.9, 0.99, 0.999])
def test_counts_of_a_half_space_are_binomial(p):
    """P(class 1) is known exactly: the count lies within its two-sided quantiles of level 1e-6."""
    n, sigma, d = 20_000, 0.5, 12
    direction = torch.arange(1.0, d + 1) / torch.arange(1.0, d + 1).norm()
    image = torch.rand(1, d, generator=torch.Generator().manual_seed(2))
    offset = float(direction.double() @ image[0].double()) - sigma * stats.norm.ppf(p)
    sampler = Sampler(half_space(direction, offset), num_classes=2, plan=SamplingPlan(n, n, 3, "toy"))
    (finished,) = sampler.count(image, torch.tensor([sigma], dtype=torch.float64), [0])
    for counts in (finished.selection, finished.estimation):
        assert stats.binom.ppf(5e-7, n, p) <= counts[1] <= stats.binom.isf(5e-7, n, p)


@pytest.mark.parametrize("name", LAWS)
def test_the_plan_says_which_noise_is_drawn(group, name):
    n, sigma, p = 20_000, 0.5, 0.8
    plan = SamplingPlan(n, n, 3, "toy", noise=name)
    image = torch.rand(1, 3, generator=torch.Generator().manual_seed(2))
    offset = float(image[0, 0]) - sigma * LAWS[name].ppf(p)
    sampler = Sampler(half_space([1.0, 0.0, 0.0], offset), num_classes=2, plan=plan)
    (finished,) = sampler.count(image, torch.tensor([sigma], dtype=torch.float64), [0])
    for counts in (finished.selection, finished.estimation):
        assert stats.binom.ppf(5e-7, n, p) <= counts[1] <= stats.binom.isf(5e-7, n, p)
    _, given = probe(group, steps=range(200), plan=plan)
    assert stats.kstest(torch.stack(given["draws"])[:, :, :7].flatten(), LAWS[name].cdf).pvalue > 1e-3


def test_images_and_blocks_are_independent():
    """The variance over 2,000 images of 200 samples each is the binomial one: noise shared anywhere would show."""
    images, n, sigma = 2000, 200, 0.25
    model = half_space([0.6, 0.8], 0.0)
    p = np.linspace(0.3, 0.9, images)
    points = torch.tensor([[0.6, 0.8]], dtype=torch.float64) * torch.tensor(sigma * stats.norm.ppf(p)).unsqueeze(1)
    sampler = Sampler(model, num_classes=2, plan=SamplingPlan(n, n, 11, "toy"))
    found = np.concatenate(
        [
            totals(sampler.count(points[i : i + GROUP].float(), torch.full((GROUP,), sigma), range(i, i + GROUP)))
            for i in range(0, images, GROUP)
        ]
    )
    z = (found[:, :, 1] - n * p[:, None]) / np.sqrt(n * p * (1 - p))[:, None]
    for column in z.T:
        assert 1e-3 < stats.chi2.sf((column**2).sum(), images) < 1 - 1e-3
        assert abs(column.sum()) < 4 * math.sqrt(images)
        assert abs(np.corrcoef(column[1:], column[:-1])[0, 1]) < 4 / math.sqrt(images)
    assert abs(np.corrcoef(z.T)[0, 1]) < 4 / math.sqrt(images)  # selection against estimation


# --- what they do not depend on


def test_which_rows_share_a_batch_does_not_depend_on_threads_or_interruptions(group):
    """For a model of which the last bits of each row depend on its whole batch, padding included."""
    model = CoupledRows(WEIGHT)
    for batch_size in (300, 1000, None):
        torch.set_num_threads(1)
        expected = count(model, group, batch_size=batch_size)
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            for start in range(len(group[0]) + 1):
                found = count(model, group, batch_size=batch_size, start=start)
                np.testing.assert_array_equal(found.reshape(-1, 2, CLASSES), expected[start:])
    assert (count(model, group, batch_size=300) != count(model, group, batch_size=400)).any()  # it does matter


def test_counts_of_a_network_do_not_depend_on_the_number_of_threads():
    spec = ModelSpec("small_cnn", (1, 8, 8), CLASSES)
    model = nn.Sequential(build(spec, seed=0).freeze(), LastBits())
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    group = images, torch.full((4,), 0.5), list(range(4))
    torch.set_num_threads(1)
    expected = count(model, group)
    for number in (2, 3):
        torch.set_num_threads(number)
        np.testing.assert_array_equal(count(model, group), expected)


class LastBits(nn.Module):
    """Classes that change with the last bit of a score: any difference in the arithmetic would show."""

    def forward(self, scores):
        return nn.functional.one_hot(scores.contiguous().view(torch.int32).sum(1) % CLASSES, CLASSES).float()


def test_forward_passes_run_side_by_side_with_one_thread_each(group, monkeypatch):
    torch.set_num_threads(2)
    both, meets = (
        threading.Barrier(2, timeout=60),
        iter([False, False, True, True]),
    )  # the first batch runs alone, twice
    seen = []

    def flatten(_, images):
        if next(meets, False):
            both.wait()  # returns only if two forward passes are under way
        seen.append((torch.get_num_threads(), threading.current_thread().name))
        return images.flatten(1)

    monkeypatch.setattr(nn.Flatten, "forward", flatten)
    count(nn.Sequential(nn.Flatten(), nn.Linear(4, CLASSES)), group, batch_size=100)
    assert {number for number, _ in seen} == {1}
    assert len({name for _, name in seen}) == 2
    assert torch.get_num_threads() == 2


def test_the_caller_keeps_its_threads_between_images(group):
    torch.set_num_threads(2)
    for _ in Sampler(RowLinear(WEIGHT), num_classes=CLASSES, plan=PLAN).count(*group):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as executor:  # so do threads that the caller starts later
        assert executor.submit(torch.get_num_threads).result() == 2


def test_a_policy_runs_with_one_thread_on_an_evaluated_model(group, training):
    torch.set_num_threads(2)
    seen = []

    def result(sigma):
        seen.append((torch.get_num_threads(), any(modes(training))))
        return sigma

    policy = Probe(0.5, 0, (), result, {})
    Sampler(training, num_classes=CLASSES, plan=PLAN).sigmas(policy, group[0], group[2])
    assert seen == [(1, False)]
    assert torch.get_num_threads() == 2


def test_default_batch_is_whole_blocks():
    for shape in [(1,), (1, 8, 8), (3, 32, 32), (3, 224, 224)]:
        for kind in ("cpu", "cuda"):
            size = default_batch_size(shape, torch.device(kind))
            assert size >= BLOCK
            assert size % BLOCK == 0


# --- the model's mode


class Recording(nn.Module):
    """Dropout and batch normalisation: both would change the scores in training mode."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.frozen = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
        self.dropout, self.linear = nn.Dropout(0.5), RowLinear(WEIGHT)
        self.norm.running_mean += 0.3

    def forward(self, images):
        return self.linear(self.dropout(self.frozen(self.norm(images.flatten(1)))))


@pytest.fixture
def training():
    model = Recording().train()
    model.frozen.eval()
    return model


def test_a_model_in_training_mode_is_evaluated(group, training):
    before, buffers = modes(training), {k: v.clone() for k, v in training.state_dict().items()}
    found = count(training, group)
    assert modes(training) == before
    assert all(torch.equal(value, buffers[name]) for name, value in training.state_dict().items())
    np.testing.assert_array_equal(found, naive(training.eval(), PLAN, *group))


@pytest.mark.parametrize(
    "policy", [Fixed(0.5), DataDependent(sigma=0.5, iterations=2, variant="class_held", class_samples=2)]
)
def test_sigma_is_that_of_the_evaluated_model(group, training, policy):
    before, buffers = modes(training), {k: v.clone() for k, v in training.state_dict().items()}
    sampler = Sampler(training, num_classes=CLASSES, plan=PLAN)
    found = sampler.sigmas(policy, group[0], group[2])
    assert modes(training) == before
    assert all(torch.equal(value, buffers[name]) for name, value in training.state_dict().items())
    training.eval()
    assert torch.equal(sampler.sigmas(policy, group[0], group[2]), found)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ModelError, RuntimeError])
def test_after_an_error_the_mode_and_the_threads_are_those_before(group, training, number, error):
    torch.set_num_threads(number)
    before = modes(training)
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) == 4:
            raise error("as it happens")

    training.linear.register_forward_hook(fail)
    with pytest.raises(error, match="as it happens"):
        count(training, group, batch_size=100)
    assert modes(training) == before
    assert torch.get_num_threads() == number
    assert not workers()


@pytest.mark.parametrize("interruption", ["close", "exception", "dropped"])
def test_a_run_that_is_left_stops_its_workers(group, training, interruption):
    torch.set_num_threads(2)
    before = modes(training)
    calls = []
    training.linear.register_forward_hook(lambda *_: calls.append(1))
    generator = Sampler(training, num_classes=CLASSES, plan=PLAN, batch_size=100).count(*group)
    if interruption == "close":
        next(generator)
        assert workers()
        generator.close()
    elif interruption == "dropped":
        next(generator)
        del generator
    else:
        with pytest.raises(KeyboardInterrupt):
            interrupted(generator)
    assert modes(training) == before
    assert torch.get_num_threads() == 2
    assert not workers()
    assert len(calls) < len(cut(PLAN.stretches(len(group[0])), 1))


def interrupted(generator):
    with contextlib.closing(generator):
        for _ in generator:
            raise KeyboardInterrupt


# --- errors


class Returning(nn.Module):
    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def forward(self, images):
        return self.scores(images)


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        (lambda x: x.new_zeros(len(x), 4), r"\(100, 4\).*\[100, 3\]"),
        (lambda x: x.new_zeros(len(x) + 1, 3), r"\(101, 3\).*\[100, 3\]"),
        (lambda x: x.new_zeros(len(x)), r"\(100,\).*\[100, 3\]"),
        (lambda x: x.new_zeros(len(x), 3, 1), r"\(100, 3, 1\).*\[100, 3\]"),
        (lambda x: (x.new_zeros(len(x), 3),), r"tuple.*\[100, 3\]"),
        (lambda _: None, r"NoneType.*\[100, 3\]"),
    ],
)
def test_other_outputs_than_one_score_per_class_are_refused(group, scores, found):
    with pytest.raises(ModelError, match=found):
        count(Returning(scores), group, batch_size=100)


@pytest.mark.parametrize("value", [0, 1, 2])
def test_nan_is_refused_and_the_image_named(group, value):
    images, sigma, identities = group
    images = images.clone()
    images[3] += 100.0  # the only one whose noisy copies are far away

    def scores(x):
        result = x.flatten(1)[:, :CLASSES].clone()
        result[result[:, 0] > 50, value] = math.nan
        return result

    finished = []
    with pytest.raises(ModelError, match="NaN for image image 3,"):
        for one in Sampler(Returning(scores), num_classes=CLASSES, plan=PLAN, batch_size=100).count(
            images, sigma, identities
        ):
            finished.append(one.position)
    assert finished == [0, 1, 2]


def test_nan_in_rows_that_do_not_count_is_no_error(group):
    """Of the one block of 30 samples, and of the padding."""
    images, sigma, identities = (part[:1] for part in group)
    plan = SamplingPlan(n0=30, n=1, seed=0, dataset="")
    block = torch.empty(1, BLOCK, 4)
    plan.streams().fill(block, ("selection", identities[0]), 0)
    left_out = (images[0].flatten() + float(sigma[0]) * block[0])[30:]

    def scores(x):
        result = x.flatten(1)[:, :CLASSES].clone()
        near = (x.flatten(1)[:, None] - left_out).abs().amax(2).amin(1) < 1e-5
        result[near] = math.nan
        seen.append(int(near.sum()))
        return result

    seen = []
    sampler = Sampler(Returning(scores), num_classes=CLASSES, plan=plan, batch_size=100)
    (finished,) = sampler.count(images, sigma, identities)
    assert (int(finished.selection.sum()), int(finished.estimation.sum())) == (30, 1)
    assert max(seen) == 70


def test_infinite_scores_are_numbers(group):
    def scores(x):
        return torch.full((len(x), CLASSES), -math.inf).index_fill(1, torch.tensor([1]), math.inf)

    assert (count(Returning(scores), group)[:, :, 1] == [PLAN.n0, PLAN.n]).all()


@pytest.mark.parametrize("value", [0.0, -0.5, math.nan, math.inf])
def test_a_sigma_that_is_not_positive_is_refused(group, value):
    images, sigma, identities = group
    sigma = sigma.clone()
    sigma[4] = value
    with pytest.raises(DataError, match=f"sigma.*{value}"):
        count(RowLinear(WEIGHT), (images, sigma, identities))


def test_more_images_than_a_group_or_another_number_of_sigmas_are_refused(group):
    images, sigma, identities = group
    many = images[:1].expand(GROUP + 1, 1, 2, 2)
    with pytest.raises(DataError, match=f"{GROUP + 1} images"):
        count(RowLinear(WEIGHT), (many, sigma[:1].expand(GROUP + 1), list(range(GROUP + 1))))
    with pytest.raises(DataError, match="7 images, 6 sigmas"):
        count(RowLinear(WEIGHT), (images, sigma[:6], identities))
    with pytest.raises(DataError, match="6 identities"):
        count(RowLinear(WEIGHT), (images, sigma, identities[:6]))


@pytest.mark.parametrize(("key", "value"), [("n", 0), ("n", -1), ("n0", 0), ("seed", -1)])
def test_bad_plans_are_refused(key, value):
    with pytest.raises(ConfigError, match=rf"{key}: {value};"):
        SamplingPlan(**{"n0": 1, "n": 1, "seed": 0, "dataset": "", key: value})


def test_bad_samplers_are_refused():
    for key, value in (("num_classes", 1), ("num_classes", 0), ("batch_size", 0), ("batch_size", -5)):
        with pytest.raises(ConfigError, match=f"{key}: {value};"):
            Sampler(RowLinear(WEIGHT), **{"num_classes": 3, "plan": PLAN, key: value})
    with pytest.raises(ConfigError, match="gaussian"):
        SamplingPlan(1, 1, 0, "", noise="gausian").streams()


# --- memory


class Greedy(RowLinear):
    """Runs out of memory above a number of rows, from some call on."""

    def __init__(self, limit, error, *, from_call=0):
        super().__init__(WEIGHT)
        self.limit, self.error, self.from_call = limit, error, from_call
        self.rows = []

    def forward(self, images):
        self.rows.append(len(images))
        if len(images) > self.limit and len(self.rows) > self.from_call:
            raise self.error
        return super().forward(images)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(("limit", "steps"), [(300, [500, 200]), (199, [500, 200, 100]), (30, [500, 200, 100, 50, 25])])
def test_out_of_memory_halves_the_batch(group, error, limit, steps):
    model = Greedy(limit, error)
    sampler = Sampler(model, num_classes=CLASSES, plan=PLAN, batch_size=550)
    with pytest.warns(UserWarning, match="out of memory") as warned:
        finished = list(sampler.count(*group))
    assert [str(w.message) for w in warned] == [
        f"out of memory: going on with batches of {s} images" for s in steps[1:]
    ]
    np.testing.assert_array_equal(totals(finished), naive(RowLinear(WEIGHT), PLAN, *group))
    assert {c.batch_size for c in finished} == {steps[-1]}
    assert max(size for size in model.rows if size <= limit) == steps[-1]
    assert [c.batch_size for c in sampler.count(*group)] == [steps[-1]] * 7  # and the next group begins with it


def test_images_finished_before_memory_ran_out_are_kept(group):
    model = Greedy(100, OUT_OF_MEMORY[0], from_call=7)  # 4 blocks an image, 2 a batch, the first twice: 3 are done
    sampler = Sampler(model, num_classes=CLASSES, plan=PLAN, batch_size=200)
    with pytest.warns(UserWarning, match="batches of 100 images"):
        finished = list(sampler.count(*group))
    assert [c.batch_size for c in finished] == [200] * 3 + [100] * 4
    assert [c.position for c in finished] == list(range(7))
    np.testing.assert_array_equal(totals(finished), naive(RowLinear(WEIGHT), PLAN, *group))


@pytest.mark.filterwarnings("ignore:out of memory")
@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_out_of_memory_for_one_image_is_an_error(group, error):
    model = Greedy(0, error)
    with pytest.raises(type(error)):
        count(model, group, batch_size=800)
    assert min(model.rows) == 1
    assert not workers()


def test_other_runtime_errors_are_not_about_memory(group):
    model = Greedy(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):  # and no warning, which would be an error
        count(model, group)


# --- sigma


@dataclass(frozen=True)
class Probe:
    """Returns what it is told to, and keeps what it was given."""

    sigma0: float
    samples: int
    steps: tuple[int, ...]
    result: object
    given: dict

    semi_elasticity = None

    def together(self, policies, model, images, sigma, draw):
        self.given.update(images=images, sigma=sigma, draws=[draw(step) for step in self.steps], model=model)
        found = self.result(sigma) if callable(self.result) else torch.full_like(sigma, self.result)
        return found.expand(len(policies), -1)


def probe(group, *, steps=(), samples=2, result=0.5, plan=PLAN):
    policy = Probe(0.5, samples, steps, result, {})
    images, _, identities = group
    found = Sampler(RowLinear(WEIGHT), num_classes=CLASSES, plan=plan).sigmas(policy, images, identities)
    return found, policy.given


def test_a_policy_sees_a_whole_group(group):
    found, given = probe(group, result=lambda sigma: torch.arange(1.0, len(sigma) + 1, dtype=torch.float64))
    assert given["images"].shape == (GROUP, 1, 2, 2)
    assert torch.equal(given["images"][:7], group[0])
    assert (given["sigma"] == 0.5).all()
    assert found.tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_noise_of_a_policy_is_that_of_stage_sigma(group):
    steps = tuple(range(130))
    _, given = probe(group, steps=steps)
    images, _, identities = group
    for step in (0, 1, 99, 100, 129):
        block, offset = divmod(step, 100)
        for i in range(len(images)):
            noise = torch.empty(1, 200, 4)
            PLAN.streams().fill(noise, ("sigma", identities[i]), block)
            expected = noise[0, 2 * offset : 2 * offset + 2].view(2, 1, 2, 2)
            assert torch.equal(given["draws"][step][:, i], expected)
    flat = torch.stack(given["draws"])[:, :, :7].flatten()
    assert len(flat.unique()) > 0.99 * len(flat)  # no two steps or images share noise
    counted = torch.empty(2, BLOCK, 4)
    for row, stage in zip(counted.unsqueeze(1), ("selection", "estimation"), strict=True):
        PLAN.streams().fill(row, (stage, identities[0]), 0)
    assert not torch.isin(counted, torch.stack(given["draws"])[:, :, 0]).any()


def test_noise_of_a_step_does_not_depend_on_the_steps_asked_for(group):
    _, given = probe(group, steps=tuple(range(230)))
    _, again = probe(group, steps=(0, 229, 100, 5, 0))
    for step, noise in zip((0, 229, 100, 5, 0), again["draws"], strict=True):
        assert torch.equal(noise, given["draws"][step])


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, 1e-60])
def test_a_policy_must_return_positive_sigmas(group, value):
    with pytest.raises(ModelError, match="must be > 0"):
        probe(group, result=value)


def test_sigma_is_a_number_that_the_noise_can_be_scaled_by(group):
    found, _ = probe(group, result=0.1)
    assert found.dtype == torch.float64
    assert (found == float(np.float32(0.1))).all()


def test_sigma_of_an_image_does_not_depend_on_its_group(group):
    images, _, identities = group
    sampler = Sampler(RowLinear(WEIGHT), num_classes=CLASSES, plan=PLAN)
    policy = DataDependent(sigma=0.5, iterations=20, samples=2, step=0.01, variant="class_held", class_samples=8)
    together = sampler.sigmas(policy, images, identities)
    assert len(together.unique()) == 7
    for i in range(7):
        assert sampler.sigmas(policy, images[i : i + 1], identities[i : i + 1]) == together[i]
    full = images[torch.arange(GROUP) % 7]
    names = [f"{identity}, {k}" if k else identity for k in range(8) for identity in identities][:GROUP]
    assert torch.equal(sampler.sigmas(policy, full, names)[:7], together)


@pytest.mark.parametrize("variant", ["published_program", "class_held"])
def test_sigmas_of_several_numbers_of_steps_are_those_of_each(group, variant):
    """Also at 1e-4 a step: the path is not rounded where one of them ends."""
    images, _, identities = group
    sampler = Sampler(RowLinear(WEIGHT), num_classes=CLASSES, plan=PLAN)
    policies = [DataDependent(sigma=0.5, iterations=k, variant=variant, class_samples=8) for k in (130, 0, 7, 30)]
    together = sampler.sigmas_together(policies, images, identities)
    assert torch.equal(together, torch.stack([sampler.sigmas(policy, images, identities) for policy in policies]))
    assert (together.std(1) > 0).tolist() == [True, False, True, True]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_sigma_can_be_optimised_where_the_caller_wants_no_gradients(group, mode):
    sampler = Sampler(RowLinear(WEIGHT), num_classes=CLASSES, plan=PLAN)
    policy = DataDependent(sigma=0.5, iterations=3, step=0.01, variant="class_held", class_samples=2)
    expected = sampler.sigmas(policy, group[0], group[2])
    with mode():
        images = group[0] * 1
        assert torch.equal(sampler.sigmas(policy, images, group[2]), expected)


# --- until it is decided


def until(model, group, most, next_look, *, batch_size=None, known=None):
    """Count until ``next_look`` asks for no more: [images, 2, classes], and what every look showed."""
    plan = SamplingPlan(PLAN.n0, most, PLAN.seed, PLAN.dataset)
    sampler = Sampler(model, num_classes=CLASSES, plan=plan, batch_size=batch_size)
    looks, found = [], np.zeros((len(group[0]), 2, CLASSES), int)
    for looked in sampler.count_until(*group, next_look, known=known):
        looks.append(looked)
        found[looked.positions] = np.stack([looked.selection, looked.estimation], axis=1)
    return found, looks


def up_to(targets):
    """Draw a block more at each look, until each image has its own number of samples."""
    return lambda at, selection, estimation: np.minimum(estimation.sum(axis=1) + BLOCK, targets[at])


TARGETS = np.array([100, 550, 200, 300, 1000, 100, 700])


@pytest.mark.parametrize("batch_size", [None, 100, 250, 64])
def test_stopped_counts_are_the_beginning_of_the_fixed_ones(group, batch_size):
    model = RowLinear(WEIGHT)
    found, looks = until(model, group, 1000, up_to(TARGETS), batch_size=batch_size)
    assert (found[:, 1].sum(axis=1) == TARGETS).all()
    for image, n in enumerate(TARGETS):
        alone = group[0][image : image + 1], group[1][image : image + 1], group[2][image : image + 1]
        np.testing.assert_array_equal(found[image], naive(model, replace(PLAN, n=int(n)), *alone)[0])
    finished = np.concatenate([looked.positions[looked.finished] for looked in looks])
    assert sorted(finished) == list(range(7))  # each once
    assert sum(looked.drawn.sum() for looked in looks) == TARGETS.sum() + 7 * PLAN.n0


def test_a_look_is_gone_on_from(group):
    """Whatever look a run was left after, the rest gives the same counts, in the same batches."""
    model = RowLinear(WEIGHT)
    whole, looks = until(model, group, 1000, up_to(TARGETS))
    for left in range(1, len(looks)):
        selection, estimation = np.zeros((2, 7, CLASSES), int)
        for looked in looks[:left]:
            selection[looked.positions], estimation[looked.positions] = looked.selection, looked.estimation
        done = estimation.sum(axis=1) == TARGETS
        rest, _ = until(model, group, 1000, up_to(TARGETS), known=(selection, estimation))
        np.testing.assert_array_equal(rest[~done], whole[~done])


def test_stopped_counts_do_not_depend_on_threads(group):
    model, before = build(ModelSpec("mlp", (1, 2, 2), CLASSES), seed=0).freeze(), torch.get_num_threads()
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        try:
            found.append(until(model, group, 1000, up_to(TARGETS), batch_size=100)[0].tolist())
        finally:
            torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_stopped_sampling_goes_on_with_smaller_batches_when_memory_runs_out(group):
    class Hungry(RowLinear):
        def forward(self, images):
            if len(images) > 150:
                raise MemoryError
            return super().forward(images)

    right, _ = until(RowLinear(WEIGHT), group, 1000, up_to(TARGETS))
    with pytest.warns(UserWarning, match="out of memory"):
        found, looks = until(Hungry(WEIGHT), group, 1000, up_to(TARGETS), batch_size=400)
    np.testing.assert_array_equal(found, right)
    assert {looked.batch_size for looked in looks} == {100}
