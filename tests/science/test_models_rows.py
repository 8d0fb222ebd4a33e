"""A base classifier is a function of one row: one whose rows depend on each other is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from certsmooth import DataDependentSigma, FixedSigma, SmoothedClassifier
from certsmooth.errors import ModelError
from certsmooth.science.models import ModelSpec, build
from certsmooth.science.sampling.rows import beside_others, check_rows, far_images, mixed
from certsmooth.science.sampling.sampler import Sampler, SamplingPlan
from factories import RowLinear, half_space

REFUSED = "another class beside other rows: the class of a row depends on the other rows of its batch"
FEW = {"n0": 100, "n": 900, "seed": 0}


class Scores(nn.Module):
    """Class 1 where a number of each row is above 0."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def forward(self, x):
        number = self.number(x.flatten(1))
        return torch.stack([-number, number], 1)


class BatchNormalised(nn.Module):
    """The same image, beside a brighter and beside a darker one, would get two classes."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1, track_running_stats=False)

    def forward(self, x):
        score = self.norm(x.flatten(1).mean(1, keepdim=True))
        return torch.cat([-score, score], 1)


class ActiveDropout(nn.Module):
    def __init__(self, number=64):
        super().__init__()
        self.linear = nn.Linear(number, 2)

    def forward(self, x):
        return self.linear(nn.functional.dropout(x.flatten(1), 0.5))


class StaysInTraining(nn.Module):
    """Batch normalisation that evaluation mode does not reach."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def forward(self, x):
        self.norm.train()
        score = self.norm(x.flatten(1).mean(1, keepdim=True))
        return torch.cat([-score, score], 1)


class AcrossTheBatch(nn.Module):
    """A transformer that takes the batch for the sequence, as without batch_first."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(64, 4)
        self.head = nn.Linear(64, 2)

    def forward(self, x):
        tokens = 10 * x.flatten(1).unsqueeze(1)
        return self.head(self.attention(tokens, tokens[:200], tokens[:200])[0].squeeze(1))


class ByPlace(nn.Module):
    """A sinusoid of the place in the batch is added, as a positional encoding along the wrong axis would."""

    def forward(self, x):
        number = x.flatten(1).mean(1) - 0.5 + torch.sin(torch.arange(len(x)))
        return torch.stack([-number, number], 1)


def mean_of_batch(x):
    return x.mean(1) - x.mean()


def rank_in_batch(x):
    return (x.mean(1).argsort().argsort() - (len(x) - 1) / 2).float()


def top_of_batch(x):
    return torch.zeros(len(x)).index_fill(0, x.mean(1).topk(len(x) // 4).indices, 2.0) - 1


def largest_of_batch(x):
    return x[:, 0] / x.max() - 0.3


def first_of_batch(x):
    return x.mean(1) - x[0].mean()


def spread_of_batch(x):
    return (x[:, 0] - x[:, 1]).abs() - x.std()


DEPENDENT = {
    "BatchNorm1d without statistics": BatchNormalised,
    "BatchNorm1d in training": StaysInTraining,
    "active dropout": ActiveDropout,
    "attention": AcrossTheBatch,
    "place": ByPlace,
    **{
        each.__name__: lambda each=each: Scores(each)
        for each in (mean_of_batch, rank_in_batch, top_of_batch, largest_of_batch, first_of_batch, spread_of_batch)
    },
}
GREY = torch.full((1, 1, 8, 8), 0.5)
TEXTURED = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
COMPANIES = {
    "alone": GREY,
    "beside a brighter one": torch.cat([GREY, GREY + 0.3]),
    "beside a darker one": torch.cat([GREY, GREY - 0.3]),
    "black": torch.zeros(1, 1, 8, 8),
    "white": torch.ones(1, 1, 8, 8),
    "black and white": torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8),
    "textured": TEXTURED,
}


def smooth(model):
    return SmoothedClassifier(model, num_classes=2, sigma=FixedSigma(0.25))


@pytest.mark.parametrize("images", COMPANIES.values(), ids=COMPANIES)
@pytest.mark.parametrize("make", DEPENDENT.values(), ids=DEPENDENT)
def test_rows_that_depend_on_their_batch_are_refused(make, images):
    torch.manual_seed(0)
    model = make()
    for call in (lambda: smooth(model).certify(images, **FEW), lambda: smooth(model).predict(images, n=900, seed=0)):
        with pytest.raises(ModelError, match=REFUSED):
            call()


@pytest.mark.parametrize(
    "images", [images for name, images in COMPANIES.items() if "beside" in name or name == "alone"]
)
def test_a_normalisation_over_the_batch_gives_no_certificate(images):
    """One pixel: it abstained alone, and was class 0 or 1 with radius 0.6 beside others."""
    for seed in range(20):
        with pytest.raises(ModelError, match=rf"{REFUSED}.*norm \(BatchNorm1d without running statistics\)$"):
            smooth(BatchNormalised()).certify(images[:, :, :1, :1], n0=100, n=3900, seed=seed)


@pytest.mark.parametrize("device_rows", [1, 30, 64, 100, 250, 1000])
def test_it_is_found_in_batches_of_more_than_one_row(device_rows):
    plan, sigma = SamplingPlan(100, 900, 0, "toy"), torch.tensor([0.25])
    sampler = Sampler(Scores(mean_of_batch), num_classes=2, plan=plan, batch_size=device_rows)
    if device_rows == 1:  # a batch of one row is a function of that row
        assert len(list(sampler.count(GREY, sigma, [0]))) == 1
    else:
        with pytest.raises(ModelError, match=REFUSED):
            list(sampler.count(GREY, sigma, [0]))


def test_layers_in_training_mode_are_named():
    class Stubborn(nn.Dropout):
        def train(self, mode=True):
            return super().train(True)

    model = nn.Sequential(nn.Flatten(), Stubborn(0.5), nn.Linear(64, 2))
    with pytest.raises(ModelError, match=rf"{REFUSED}.*1 \(Stubborn in training mode\)$"):
        smooth(model).certify(GREY, **FEW)


@pytest.mark.parametrize(
    "policy", [FixedSigma(0.25), DataDependentSigma(sigma=0.25, iterations=2, variant="class_held", class_samples=2)]
)
def test_each_call_checks(policy):
    """A model that becomes dependent is found by the next call."""
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 2))
    smoothed = SmoothedClassifier(model, num_classes=2, sigma=policy)
    smoothed.certify(TEXTURED, **FEW)
    model[1] = nn.BatchNorm1d(64, track_running_stats=False)
    with pytest.raises(ModelError, match=REFUSED):
        smoothed.certify(TEXTURED, **FEW)


# --- what is no dependence


class Normalised(nn.Module):
    """Normalisation of each row by itself."""

    def __init__(self, norm):
        super().__init__()
        self.norm, self.head = norm, nn.Linear(64, 2)

    def forward(self, x):
        return self.head(self.norm(x.expand(-1, 2, -1, -1))[:, 0].flatten(1))


class SharedShift(nn.Module):
    """Scores less the largest of the batch, as for a stable softmax: no class depends on it."""

    def forward(self, x):
        number = x.flatten(1).mean(1) - 0.5
        scores = torch.stack([-number, number], 1)
        return scores - scores.max()


INDEPENDENT = {
    "InstanceNorm2d": lambda: Normalised(nn.InstanceNorm2d(2)),
    "GroupNorm": lambda: Normalised(nn.GroupNorm(2, 2)),
    "LayerNorm": lambda: Normalised(nn.LayerNorm([2, 8, 8])),
    "BatchNorm2d": lambda: Normalised(nn.BatchNorm2d(2)),
    "small_cnn": lambda: build(ModelSpec("small_cnn", (1, 8, 8), 2), seed=0),
    "bfloat16": lambda: build(ModelSpec("small_cnn", (1, 8, 8), 2, numeric_type="bfloat16"), seed=0).freeze(),
    "dropout": lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 2)),
    "attention": lambda: nn.Sequential(
        nn.Flatten(2), nn.TransformerEncoderLayer(64, 4, 64, batch_first=True), nn.Flatten(), nn.Linear(64, 2)
    ),
    "a shift that all share": SharedShift,
    "half space": lambda: half_space(torch.ones(64) / 8, 4.0),
    "constant": lambda: Scores(lambda x: torch.zeros(len(x))),
}


@pytest.mark.parametrize("images", COMPANIES.values(), ids=COMPANIES)
@pytest.mark.parametrize("make", INDEPENDENT.values(), ids=INDEPENDENT)
def test_rows_that_do_not_are_taken(make, images):
    torch.manual_seed(0)
    counts = smooth(make()).sample(images, **FEW)
    assert counts.estimation.sum() == 900 * len(images)


def test_the_check_does_not_change_the_counts():
    torch.manual_seed(0)
    model, plan, sigma = build(ModelSpec("small_cnn", (1, 8, 8), 2), seed=0), SamplingPlan(30, 350, 0, "toy"), [0.3] * 3
    checked = Sampler(model, num_classes=2, plan=plan, batch_size=200)
    twice = [list(checked.count(TEXTURED, torch.tensor(sigma), range(3))) for _ in range(2)]  # only the first checks
    for one, other in zip(*twice, strict=True):
        np.testing.assert_array_equal(one.estimation, other.estimation)
        np.testing.assert_array_equal(one.selection, other.selection)


def test_it_costs_one_batch_a_call():
    rows = []

    class Counting(RowLinear):
        def forward(self, x):
            rows.append(len(x))
            return super().forward(x)

    plan = SamplingPlan(100, 900, 0, "toy")
    sampler = Sampler(Counting(torch.rand(2, 64)), num_classes=2, plan=plan, batch_size=300)
    for _ in range(2):
        list(sampler.count(TEXTURED, torch.full((3,), 0.25), range(3)))
    assert rows == [300] * (2 * 10 + 1)


# --- the comparison


@given(counted=st.lists(st.integers(0, 199), min_size=1, unique=True), rows=st.integers(1, 200))
def test_rows_go_to_places_of_their_own(counted, rows):
    chosen, places = beside_others(torch.tensor(sorted(counted)), rows)
    among = [row for row in sorted(counted) if row < rows]
    assert set(chosen.tolist()) <= set(among)
    assert bool(among) == (len(chosen) > 0)
    assert len(chosen) <= min(100, (len(among) + 1) / 2)
    assert len(set(places.tolist())) == len(places)
    assert all(0 <= place < rows for place in places.tolist())
    assert (chosen == places).sum() <= 1  # the middle


@given(level=st.floats(0, 1), contrast=st.floats(0, 0.5))
def test_far_images_are_more_than_the_whole_range_away(level, contrast):
    images = torch.full((2, 1, 2, 2), level).clamp(contrast, 1 - contrast)
    images[0] += contrast
    images[1] -= contrast
    far = far_images(images)
    assert far.shape == images.shape
    assert far.unique().tolist() in ([-1.0], [2.0])
    assert abs(far.mean() - images.mean()) >= 1.5 - 1e-6


def test_mixed_rows():
    rows = torch.arange(20.0).view(20, 1)
    found = mixed(rows)[:, 0].tolist()
    assert found == [1.0 - (19 - i) if i % 8 == 0 else 19.0 - i for i in range(20)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_what_is_nearly_tied(dtype):
    model, root = nn.Identity(), torch.finfo(dtype).eps ** 0.5
    for gap, refused in ((root / 4, False), (4 * root, True)):
        scores = torch.tensor([[1.0, 1.0 + gap], [1.0, 1.0 - gap]], dtype=torch.float64).repeat(10, 1).to(dtype)
        again = scores.flip(1)
        check_rows(model, scores, scores)
        if refused and len(scores.unique()) > 1:
            with pytest.raises(ModelError, match=r"20 of 20"):
                check_rows(model, scores, again)
        else:
            check_rows(model, scores, again)


def test_rounding_near_zero_is_small_beside_the_scores_of_other_rows():
    """A margin in two scores (-s, s) is as large as they are; what it is small beside is the other rows'."""
    margins = torch.linspace(-2, 2, 41)
    margins[20] = 1e-7
    scores = torch.stack([-margins, margins], 1)
    again = scores.clone()
    again[20] *= -1
    check_rows(nn.Identity(), scores, again)
    again[21] *= -1
    with pytest.raises(ModelError, match="1 of 41"):
        check_rows(nn.Identity(), scores, again)


@pytest.mark.parametrize(
    ("scores", "again", "refused"),
    [
        ([0.0, 1.0], [0.0, math.nan], False),  # NaN where it is the largest already
        ([0.0, 1.0], [math.nan, 1.0], True),
        ([math.nan, 1.0], [1.0, 0.0], False),  # has no class, which is another error
        ([-math.inf, -math.inf], [0.0, 1.0], False),
        ([-math.inf, 1.0], [1.0, -math.inf], True),
        ([0.0, math.inf], [math.inf, 0.0], True),
        ([math.inf, math.inf], [math.inf, 0.0], False),
        ([-math.inf, 1.0], [-math.inf, 2.0], False),
    ],
)
def test_scores_that_are_not_finite(scores, again, refused):
    arguments = nn.Identity(), torch.tensor([scores]), torch.tensor([again])
    if refused:
        with pytest.raises(ModelError, match="1 of 1"):
            check_rows(*arguments)
    else:
        check_rows(*arguments)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_scores_that_are_no_floats(dtype):
    scores = torch.tensor([[0, 1], [1, 0]], dtype=dtype)
    check_rows(nn.Identity(), scores, scores)
    with pytest.raises(ModelError, match="2 of 2"):
        check_rows(nn.Identity(), scores, scores.flip(1))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_a_linear_model_in_another_order_of_summation_is_nearly_tied(seed):
    generator = torch.Generator().manual_seed(seed)
    rows, weight = torch.randn(100, 3000, generator=generator), torch.randn(3, 3000, generator=generator)
    order = torch.randperm(3000, generator=generator)
    check_rows(nn.Identity(), rows @ weight.T, rows[:, order] @ weight[:, order].T)
