"""What a smoothed classifier takes for a model, for images and for sigma; and what it says where it does not."""

from __future__ import annotations

import functools
import threading

import numpy as np
import pytest
import torch
from torch import nn

from certsmooth import (
    CohenCertificate,
    DataDependentSigma,
    FixedSigma,
    Memory,
    MultiStartSigma,
    NearestNeighbourSigma,
    SmoothedClassifier,
    TwoSidedCertificate,
)
from certsmooth._internal.out_of_memory import is_out_of_memory
from certsmooth.errors import ConfigError, DataError, ModelError
from certsmooth.science.models import ModelSpec, build
from factories import RowLinear

FEW = {"n0": 100, "n": 900, "seed": 0}
IMAGES = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
ASCENT = DataDependentSigma(sigma=0.3, iterations=3, step=0.01, variant="class_held", class_samples=4)
WEIGHT = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))


def smooth(model, sigma=0.25, **options):
    return SmoothedClassifier(model, num_classes=3, sigma=sigma, **options)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3))


# --- sigma


@pytest.mark.parametrize("sigma", [0.5, np.float32(0.5), np.float64(0.5)])
def test_a_number_is_a_fixed_sigma(sigma):
    found = smooth(RowLinear(WEIGHT), sigma=sigma)
    assert found.sigma == FixedSigma(0.5)
    assert found.certify(IMAGES, **FEW).equals(smooth(RowLinear(WEIGHT), sigma=FixedSigma(0.5)).certify(IMAGES, **FEW))
    assert smooth(RowLinear(WEIGHT), sigma=1).sigma == FixedSigma(1.0)


@pytest.mark.parametrize("sigma", [0.0, -1, float("nan"), float("inf"), True, "0.25", None, FixedSigma, torch.ones(1)])
def test_what_is_no_sigma_is_refused(sigma):
    with pytest.raises(ConfigError, match=r"^sigma: .*; must be a (finite )?number"):
        smooth(RowLinear(WEIGHT), sigma=sigma)


# --- images


@pytest.mark.parametrize("dtype", [np.float64, np.float32, ">f8", ">f4", np.longdouble])
def test_numpy_images(dtype):
    expected = smooth(RowLinear(WEIGHT)).certify(IMAGES, **FEW)
    images = IMAGES.numpy().astype(dtype)
    images.setflags(write=False)
    assert smooth(RowLinear(WEIGHT)).certify(images, **FEW).equals(expected)
    assert smooth(RowLinear(WEIGHT)).certify(images[::-1], **FEW).equals(expected[::-1].reset_index(drop=True))
    memory = Memory()
    assert smooth(RowLinear(WEIGHT), memory=memory).certify(images, **FEW)["predict"].equals(expected["predict"])
    answers = smooth(RowLinear(WEIGHT)).predict(images, n=100, seed=0)
    np.testing.assert_array_equal(answers, smooth(RowLinear(WEIGHT)).predict(IMAGES, n=100, seed=0))


@pytest.mark.parametrize("images", [torch.ones(2, 1, 8, 8, dtype=torch.uint8), np.ones((2, 1, 8, 8), np.uint8)])
def test_integers_are_refused_and_told_what_to_do(images):
    for call in (smooth(RowLinear(WEIGHT)).certify, smooth(RowLinear(WEIGHT)).sample):
        with pytest.raises(DataError, match=r"images: .*uint8 \[2, 1, 8, 8\]; must be floating.*divided by 255$"):
            call(images, **FEW)


@pytest.mark.parametrize("images", [[[0.5, 0.5]], None, "images", np.array([["a"]]), np.array([[None]])])
def test_what_is_no_array_of_numbers_is_refused(images):
    with pytest.raises(DataError, match=r"^images: "):
        smooth(RowLinear(WEIGHT)).certify(images, **FEW)


@pytest.mark.parametrize("model", [network(), build(ModelSpec("small_cnn", (1, 8, 8), 3), seed=0)])
def test_one_image_without_a_batch_axis_is_one_line(model):
    for image in (IMAGES[0, 0], IMAGES.repeat(1, 3, 1, 1)[0]):  # [8, 8], [3, 8, 8]
        with pytest.raises((ModelError, ConfigError), match=r"^images: [^\n]*8.*$") as raised:
            smooth(model).certify(image, **FEW)
        assert "\n" not in str(raised.value)


def test_the_line_says_what_to_do():
    with pytest.raises(ModelError, match=r"images: torch.float32 \[3, 8, 8\]; the model fails.*one image is x\[None\]"):
        smooth(network()).certify(IMAGES.repeat(1, 3, 1, 1)[0], **FEW)


def test_any_error_of_a_model_is_one_line():
    class Failing(nn.Module):
        def forward(self, x):
            raise KeyError

    with pytest.raises(ModelError, match=r"the model fails on them \(KeyError\)") as raised:
        smooth(Failing()).certify(IMAGES, **FEW)
    assert isinstance(raised.value.__cause__, KeyError)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), KeyboardInterrupt()])
def test_errors_that_are_not_about_the_images_stay(error):
    class Failing(nn.Module):
        def forward(self, x):
            raise error

    with pytest.raises(type(error)):
        smooth(Failing()).certify(IMAGES, **FEW)


# --- functions


class Callable:
    def __init__(self):
        self.weight = WEIGHT

    def __call__(self, x):
        return x.flatten(1) @ self.weight.T

    def scores(self, x):
        return self(x)


@pytest.mark.parametrize("sigma", [0.25, ASCENT])
def test_functions_and_callables_are_models(sigma):
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 3, bias=False))
    linear[1].weight.data = WEIGHT
    expected = smooth(linear, sigma).certify(IMAGES, **FEW)
    one = Callable()
    for model in (lambda x: x.flatten(1) @ WEIGHT.T, one, one.scores, linear.eval().forward, lambda x: linear(x)):
        assert smooth(model, sigma).certify(IMAGES, **FEW).equals(expected)


@pytest.mark.parametrize("model", [None, 3, "model", nn.Linear, RowLinear])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(ConfigError, match=r"^model: .*; must be a torch module, or a function"):
        smooth(model)


# --- modules of other makes


def exported():
    model, rows = network().eval(), torch.export.Dim("rows", min=2)
    return torch.export.export(model, (IMAGES,), dynamic_shapes=({0: rows},)).module()


MAKES = {
    "exported": exported,
    "scripted": lambda: torch.jit.script(network()),
    "frozen": lambda: torch.jit.freeze(torch.jit.script(network().eval())),
    "traced": lambda: torch.jit.trace(network().eval(), IMAGES),
    "a graph": lambda: torch.fx.symbolic_trace(network()),
    "data parallel": lambda: nn.DataParallel(network()),
    "no gradients": lambda: network().requires_grad_(False),
}


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
@pytest.mark.parametrize("sigma", [0.25, ASCENT, MultiStartSigma(sigma=0.25, starts=2, steps=2)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_modules_of_other_makes_give_the_certificates_of_the_module(make, sigma):
    expected, model = smooth(network(), sigma).certify(IMAGES, **FEW), make()
    modes = [getattr(module, "training", None) for module in model.modules()]
    for _ in range(2):
        found = smooth(model, sigma).certify(IMAGES, **FEW)
        assert found["predict"].equals(expected["predict"])
        np.testing.assert_allclose(found["radius"], expected["radius"], rtol=1e-4)
        assert [getattr(module, "training", None) for module in model.modules()] == modes


def test_an_exported_program_in_training_mode_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 3)).train()
    rows = torch.export.Dim("rows", min=2)
    program = torch.export.export(model, (IMAGES,), dynamic_shapes=({0: rows},)).module()
    with pytest.raises(ModelError, match="beside other rows"):
        smooth(program).certify(IMAGES, **FEW)


# --- other numeric types


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sigma", [0.25, ASCENT])
def test_models_of_another_numeric_type_get_images_of_it(dtype, sigma):
    model = network().to(dtype)

    class Told(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x.to(dtype))

    found = smooth(model, sigma).certify(IMAGES, **FEW)
    assert found.equals(smooth(Told(), sigma).certify(IMAGES, **FEW))
    assert found["sigma"].nunique() == (5 if sigma is ASCENT else 1)


def test_a_model_of_mixed_types():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)).bfloat16()
    model[2].float()
    assert smooth(model).sample(IMAGES, **FEW).estimation.sum() == 4500


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_nan_and_minus_infinity_are_found_in_every_type(dtype):
    for value in (torch.nan, -torch.inf):
        with pytest.raises(ModelError, match=r"-inf for every class, or NaN for image .*; scores must be numbers"):
            smooth(functools.partial(torch.full_like, fill_value=value, dtype=dtype)).certify(
                IMAGES[:, 0, 0, :3], **FEW
            )


def test_minus_infinity_for_some_classes_and_infinity_are_scores():
    def scores(x):
        rows = torch.tensor([[-torch.inf, 0.0, -1.0], [torch.inf, 0.0, 1.0], [torch.inf, torch.inf, -torch.inf]])
        return rows[(x[:, 0, 0, 0] * 3).long().clamp(0, 2)]

    images = torch.tensor([1 / 6, 3 / 6, 5 / 6]).view(3, 1, 1, 1)
    found = smooth(scores, sigma=0.01).certify(images, **FEW)
    assert found["predict"].tolist() == [1, 0, 0]


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_scores_that_are_integers_are_compared_as_such(dtype):
    def votes(x):
        return torch.nn.functional.one_hot((x.flatten(1) @ WEIGHT.T).argmax(1), 3).to(dtype)

    assert smooth(votes).certify(IMAGES, **FEW).equals(smooth(RowLinear(WEIGHT)).certify(IMAGES, **FEW))


def test_complex_scores_are_refused():
    with pytest.raises(ModelError, match=r"complex64; must be scores that can be compared"):
        smooth(lambda x: x.flatten(1)[:, :3].to(torch.complex64)).certify(IMAGES, **FEW)


# --- modules that differentiate


class Differentiating(nn.Module):
    """Scores are slopes of a smooth function along the image."""

    def __init__(self, mode):
        super().__init__()
        self.mode = mode
        self.register_buffer("weight", WEIGHT)

    def forward(self, x):
        with self.mode():
            x = x.flatten(1).detach().requires_grad_(True)
            height = (x @ self.weight.T).square() / 2
            slopes = [torch.autograd.grad(h, x, retain_graph=True)[0].sum(1) for h in height.sum(0)]
        return torch.stack(slopes, 1)


@pytest.mark.parametrize("outside", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_module_that_differentiates(outside):
    def slopes(x):
        return (x.flatten(1) @ WEIGHT.T) * WEIGHT.sum(1)

    expected = smooth(slopes).certify(IMAGES, **FEW)
    with outside():
        found = smooth(Differentiating(torch.enable_grad)).certify(IMAGES * 1, **FEW)
    assert found["predict"].equals(expected["predict"])
    np.testing.assert_allclose(found["radius"], expected["radius"], rtol=0.02)


def test_a_module_that_differentiates_without_saying_so_is_told_how():
    with pytest.raises(ModelError, match=r"must be under torch.enable_grad\(\)$"):
        smooth(Differentiating(torch.no_grad)).certify(IMAGES, **FEW)


@pytest.mark.parametrize("detached", [lambda x: x.detach(), torch.Tensor.round])
def test_sigma_is_not_optimised_by_scores_without_gradients(detached):
    linear = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 3)
    )  # its parameters have gradients: those of the scores are there

    class Detached(nn.Module):
        def forward(self, x):
            return linear(detached(x))

    if detached is torch.Tensor.round:  # its gradient is there, and 0
        assert set(smooth(Detached(), ASCENT).sample(IMAGES, **FEW).sigma) != {0.3}
    else:
        with pytest.raises(ModelError, match="scores do not depend on the images in a way that torch differentiates"):
            smooth(Detached(), ASCENT).certify(IMAGES, **FEW)


@pytest.mark.parametrize("variant", ["class_held", "algorithm_1", "published_program"])
def test_sigma_is_not_optimised_by_a_forward_pass_without_gradients(variant):
    class NoGrad(RowLinear):
        @torch.no_grad()
        def forward(self, x):
            return x.flatten(1) @ self.weight.T

    ascent = DataDependentSigma(sigma=0.3, iterations=3, variant=variant)
    with pytest.raises(ModelError, match="scores do not depend on the images in a way that torch differentiates"):
        smooth(NoGrad(WEIGHT), ascent).certify(IMAGES, **FEW)
    assert smooth(NoGrad(WEIGHT)).sample(IMAGES, **FEW).estimation.sum() == 4500


# --- devices


def test_a_model_of_buffers_lives_where_they_are():
    class OnMeta(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", WEIGHT.to("meta"))

        def forward(self, x):
            if x.device.type != "meta":
                pytest.fail("images are on another device")
            raise KeyError

    with pytest.raises(ModelError, match="KeyError"):
        smooth(OnMeta()).certify(IMAGES, **FEW)


# --- a memory


def test_a_memory_belongs_to_one_classifier():
    model, other, memory = RowLinear(WEIGHT), RowLinear(WEIGHT), Memory()
    first = smooth(model, ASCENT, memory=memory)
    first.certify(IMAGES[:2], **FEW)
    again = smooth(model, DataDependentSigma(**vars(ASCENT)), memory=memory)  # equal settings
    assert again.certify(IMAGES, **FEW)["guarantee"].tolist() == ["memory"] * 5
    for model_, sigma, options in (
        (other, ASCENT, {}),
        (model, 0.25, {}),
        (model, DataDependentSigma(sigma=0.3, iterations=4), {}),
        (model, ASCENT, {"certificate": TwoSidedCertificate(split=0.5)}),
    ):
        with pytest.raises(ConfigError, match=r"memory: of another smoothed classifier.*must be a new Memory"):
            smooth(model_, sigma, memory=memory, **options)
    assert smooth(model, ASCENT, memory=memory, certificate=CohenCertificate()).memory is memory


def test_a_memory_tells_policies_apart_that_are_fitted_to_other_images():
    policy, memory, model = NearestNeighbourSigma(sigma=0.25, rate=0.1, neighbours=2), Memory(), RowLinear(WEIGHT)
    fitted = [policy.fit(IMAGES + shift) for shift in (0.0, 0.5)]
    assert fitted[0] == fitted[1]
    for _ in range(2):
        smooth(model, fitted[0], memory=memory)
    with pytest.raises(ConfigError, match="memory: of another"):
        smooth(model, fitted[1], memory=memory)


def test_a_memory_answers_no_negative_zero():
    memory, points = Memory(), np.float32([[0.0, 0.0], [0.5, 0.0], [0.5, 0.5], [1.0, 0.0]])
    _, radius = memory.enter(points, np.array([0, 1, -1, 1]), np.array([0.5, -0.0, -0.0, 0.75]))
    np.testing.assert_allclose(radius, [0.5, 0.0, 0.0, 0.5], rtol=1e-14)
    assert not np.signbit(radius).any()
    _, radius = memory.enter(points[:1], np.array([1]), np.array([-0.0]))
    assert not np.signbit(radius).any()


# --- out of memory


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA driver error: out of memory",
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "HIP out of memory. Tried to allocate 2.00 GiB",
        "MPS backend out of memory (MPS allocated: 1 GB)",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes",
        "std::bad_alloc",
    ],
)
def test_what_says_that_memory_ran_out(message):
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(ValueError(message))


@pytest.mark.parametrize("message", ["CUDA error: invalid argument", "memory format is not supported", ""])
def test_what_does_not(message):
    assert not is_out_of_memory(RuntimeError(message))


def test_memory_that_runs_out_in_the_check_takes_smaller_batches():
    calls, lock = [], threading.Lock()

    class Greedy(RowLinear):
        def forward(self, x):
            with lock:
                calls.append(len(x))
            if len(x) > 1000:
                raise RuntimeError("CUDA error: out of memory")
            return super().forward(x)

    with pytest.warns(UserWarning, match="out of memory: going on with batches of"):
        found = smooth(Greedy(WEIGHT)).certify(IMAGES, **FEW)
    assert found.equals(smooth(RowLinear(WEIGHT)).certify(IMAGES, **FEW))
    assert max(calls) > 1000
