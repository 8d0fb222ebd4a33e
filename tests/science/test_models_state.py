"""Base classifiers that keep something from one row to another: the numbers of one thread, always."""

from __future__ import annotations

import asyncio
import functools
import threading
import types
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm

from certsmooth import FixedSigma, SmoothedClassifier
from certsmooth._internal.modes import evaluation
from certsmooth._internal.reach import Reach, reach
from certsmooth._internal.replicas import Replicas
from certsmooth.errors import ModelError
from certsmooth.science.models import ModelSpec, build
from certsmooth.science.sampling.sampler import Sampler, SamplingPlan
from certsmooth.science.sigma.data_dependent import DataDependentSigma as DataDependent
from factories import modes

CPU = torch.device("cpu")
SEEN = []  # what a forward pass may write to from outside of its module
LIMIT = 0.5


@pytest.fixture(autouse=True)
def two_threads():
    torch.set_num_threads(2)


def above(x):
    """Class 1 where the mean of an image is above 1/2."""
    mean = x.flatten(1).mean(1)
    return torch.stack([0.5 - mean, mean - 0.5], 1)


class Slow(nn.Module):
    """Three layers that leave time for another thread."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(64, 64) for _ in range(3)))

    def work(self, x):
        return 0 * self.layers(x.flatten(1)).sum()


class OnSelf(Slow):
    """The input is kept on the module, and read later."""

    def forward(self, x):
        self.x = x
        later = self.work(x)
        return above(self.x) + later


class InABuffer(Slow):
    def __init__(self):
        super().__init__()
        self.register_buffer("kept", torch.zeros(0))

    def forward(self, x):
        self.kept.resize_(x.shape).copy_(x)
        later = self.work(x)
        return above(self.kept) + later


class InADict(Slow):
    def __init__(self):
        super().__init__()
        self.kept = {"x": []}

    def forward(self, x):
        self.kept["x"].append(x)
        later = self.work(x)
        return above(self.kept["x"].pop()) + later


class InAGlobal(Slow):
    def forward(self, x):
        SEEN[:] = [x]
        later = self.work(x)
        return above(SEEN[0]) + later


class InItsClass(Slow):
    def forward(self, x):
        type(self).x = x
        later = self.work(x)
        return above(self.x) + later


class InAListOfItsClass(Slow):
    kept = [None]  # noqa: RUF012 - that is what is tested

    def forward(self, x):
        self.kept[0] = x
        later = self.work(x)
        return above(self.kept[0]) + later


class InAnObject(Slow):
    def __init__(self):
        super().__init__()
        self.kept = types.SimpleNamespace()

    def forward(self, x):
        self.kept.x = x
        later = self.work(x)
        return above(self.kept.x) + later


class InADefault(Slow):
    def forward(self, x, kept=[None]):  # noqa: B006 - that is what is tested
        kept[0] = x
        later = self.work(x)
        return above(kept[0]) + later


class Recurrent(Slow):
    """What a forward pass leaves is seen by the next one."""

    def __init__(self):
        super().__init__()
        self.hidden = 0.5

    def forward(self, x):
        scores = above(x - 0.5 + self.hidden)
        self.hidden = float(x.mean())
        return scores + self.work(x)


def in_a_closure():
    kept = []

    class InAClosure(Slow):
        def forward(self, x):
            kept[:] = [x]
            later = self.work(x)
            return above(kept[0]) + later

    return InAClosure()


class Plain(Slow):
    def forward(self, x):
        return above(x) + self.work(x)


class ReadsKept(Slow):
    """Reads after its layers what a hook kept before them."""

    def forward(self, x):
        later = self.work(x)
        return above(self.kept.view(len(x), -1)) + later


def hooked(register, hook):
    model = ReadsKept()
    register(model)(functools.partial(hook, model) if isinstance(hook, types.FunctionType) else hook)
    return model


def kept_by_a_forward_pre_hook():
    def keep(module, args):
        module.kept = args[0]

    return hooked(lambda model: model.register_forward_pre_hook, lambda _, module, args: keep(module, args))


def kept_by_a_hook_of_a_part():
    """The hook closes over the whole model: a copy's hook would write to the original."""
    model = ReadsKept()
    model.layers[0].register_forward_hook(lambda _, args, __: setattr(model, "kept", args[0]))
    return model


def kept_by_a_bound_method():
    model = OnlyReads()
    model.layers[0].register_forward_hook(model.keep)
    return model


class OnlyReads(ReadsKept):
    def keep(self, _, args, __):
        self.kept = args[0]


class Outside:
    def keep(self, module, args):
        self.x = args[0]

    def read(self, module, args, output):
        return above(self.x) + 0 * output


def kept_by_an_outside_object():
    model, outside = Plain(), Outside()
    model.register_forward_pre_hook(outside.keep)
    model.register_forward_hook(outside.read)
    return model


def forward_of_the_instance():
    model = OnSelf()
    model.forward = types.MethodType(OnSelf.forward, model)
    return model


def partial_forward():
    model = OnSelf()
    model.forward = functools.partial(OnSelf.forward, model)
    return model


def forward_that_closes_over_another():
    model = OnSelf()
    inner = model.forward
    model.forward = lambda x: inner(x)
    return model


def function_over_a_module():
    model = OnSelf().eval()
    return lambda x: model(x)


KEEPING = [
    OnSelf,
    InABuffer,
    InADict,
    InAGlobal,
    InItsClass,
    InAListOfItsClass,
    InAnObject,
    InADefault,
    in_a_closure,
    kept_by_a_forward_pre_hook,
    kept_by_a_hook_of_a_part,
    kept_by_a_bound_method,
    kept_by_an_outside_object,
    forward_of_the_instance,
    partial_forward,
    forward_that_closes_over_another,
    function_over_a_module,
]
DARK_AND_BRIGHT = torch.tensor([0.2, 0.8]).repeat(10).view(20, 1, 1, 1).expand(20, 1, 8, 8)
CLASSES = [0, 1] * 10


def certified(model, **options):
    smoothed = SmoothedClassifier(model, num_classes=2, sigma=FixedSigma(0.25), **options)
    return smoothed.certify(DARK_AND_BRIGHT, n0=100, n=3900, seed=0)


# --- the numbers of one thread


@pytest.mark.slow
@pytest.mark.parametrize("make", KEEPING)
def test_no_wrong_certificate_where_a_model_keeps_something(make):
    torch.manual_seed(0)
    model = make()
    for _ in range(20 if make is OnSelf else 3):
        found = certified(model)
        assert found["predict"].tolist() == CLASSES
        assert (found["radius"] > 0.7).all()


@pytest.mark.slow
@pytest.mark.parametrize("make", KEEPING)
def test_no_wrong_certificate_where_two_callers_share_such_a_model(make):
    torch.manual_seed(0)
    model = make()
    with ThreadPoolExecutor(2) as executor:
        for found in executor.map(lambda _: certified(model), range(4)):
            assert found["predict"].tolist() == CLASSES


def test_what_one_forward_pass_leaves_on_a_module_is_not_seen_by_the_next():
    torch.manual_seed(0)
    model = Recurrent().eval()
    before = dict(vars(model))
    plan = SamplingPlan(100, 700, 0, "toy")
    images, sigma = DARK_AND_BRIGHT[:5] * 0.6 + 0.2, torch.full((5,), 0.5)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        sampler = Sampler(model, num_classes=2, plan=plan, batch_size=100)
        found.append([c.estimation.tolist() for c in sampler.count(images, sigma, range(5))])
    assert found[0] == found[1] == found[2]
    assert vars(model) == before


@pytest.mark.parametrize("make", [OnSelf, InABuffer, kept_by_a_bound_method, forward_of_the_instance])
def test_the_callers_module_is_as_before(make):
    torch.manual_seed(0)
    model = make()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    names, parameters = set(vars(model)), [id(parameter) for parameter in model.parameters()]
    certified(model)
    assert set(vars(model)) == names
    assert [id(parameter) for parameter in model.parameters()] == parameters
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_sigma_policy_runs_such_a_model_by_itself():
    torch.manual_seed(0)
    model, policy = OnSelf(), DataDependent(sigma=0.3, iterations=3, step=0.01, variant="class_held", class_samples=4)
    smoothed = SmoothedClassifier(model, num_classes=2, sigma=policy)
    expected = smoothed.sample(DARK_AND_BRIGHT[:4], n0=10, n=100, seed=0).sigma
    with ThreadPoolExecutor(3) as executor:
        for counts in executor.map(lambda _: smoothed.sample(DARK_AND_BRIGHT[:4], n0=10, n=100, seed=0), range(6)):
            np.testing.assert_array_equal(counts.sigma, expected)
    assert not hasattr(model, "x")


def test_a_forward_pass_that_changes_parameters_is_refused():
    class Drifting(Slow):
        def forward(self, x):
            self.layers[0].weight.mul_(0.5)
            return above(x) + self.work(x)

    with pytest.raises(ModelError, match="parameters were changed while it ran"):
        certified(Drifting())


def test_a_model_that_draws_random_numbers_draws_them_in_order():
    """A row's class is random for a few rows only, so few that no row of the check shows it."""

    class Rarely(nn.Module):
        def forward(self, x):
            flips = torch.rand(len(x)) < 0.02
            return torch.where(flips[:, None], above(x).flip(1), above(x)) * 1e-7 + 1  # all nearly tied

    found = []
    for threads in (1, 2, 2):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        smoothed = SmoothedClassifier(Rarely(), num_classes=2, sigma=0.25)
        found.append(smoothed.sample(DARK_AND_BRIGHT, n0=100, n=3900, seed=0).estimation.tolist())
    assert found[0] == found[1] == found[2]


# --- who may run side by side


class Ordinary(nn.Module):
    """As many are written: layers, functions of torch, a loop, a constant of the module."""

    def __init__(self, *, act=nn.functional.relu):
        super().__init__()
        self.first, self.blocks = nn.Linear(4, 4), nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.act, self.scale = act, 2.0
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x):
        x = self.first((torch.flatten(x, 1) - self.mean) * self.scale)
        for block in self.blocks:
            x = x + self.act(block(x))
        if x.ndim != 2:
            raise ValueError(f"{x.ndim} dimensions")
        return self.head(x)

    @staticmethod
    def head(x):
        return torch.stack([2 * row for row in (x[:, 0], x[:, 1])], dim=1) * LIMIT


class Overriding(nn.TransformerEncoderLayer):
    """Torch's forward calls a function of this class."""

    def _ff_block(self, x):
        SEEN.append(x)
        return super()._ff_block(x)


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def parametrized():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    nn.utils.parametrize.register_parametrization(model[1], "weight", Doubled())
    return model


def with_hook(hook):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model[1].register_forward_hook(hook)
    return model


REACHES = {
    Reach.NOTHING: {
        "small_cnn": lambda: build(ModelSpec("small_cnn", (1, 8, 8), 2), seed=0),
        "resnet20": lambda: build(ModelSpec("resnet20", (3, 32, 32), 2), seed=0),
        "resnet50": lambda: build(ModelSpec("resnet50", (3, 32, 32), 2), seed=0),
        "transformer": lambda: nn.TransformerEncoderLayer(4, 2, batch_first=True),
        "spectral_norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 2)),
        "weight_norm": lambda: parametrizations.weight_norm(nn.Linear(4, 2)),
    },
    Reach.ITSELF: {
        "ordinary": Ordinary,
        "with a function": lambda: Ordinary(act=lambda x: x.clamp(min=0)),
        "with a compiled function": lambda: Ordinary(act=nn.functional.gelu),
        "as a part": lambda: nn.Sequential(nn.Flatten(), Ordinary()),
        "parametrized": parametrized,
        "a hook": lambda: with_hook(lambda module, args, output: output * 2),
        **{make.__name__: make for make in (OnSelf, InABuffer, InADict, Recurrent)},
        **{make.__name__: make for make in (kept_by_a_bound_method, forward_of_the_instance)},
    },
    Reach.MORE: {
        "a hook to a global": lambda: with_hook(lambda *_: SEEN.append(1)),
        "an object as a hook": lambda: with_hook(Counter()),
        "old weight_norm": lambda: old_weight_norm(nn.Linear(4, 2)),
        "old spectral_norm": lambda: old_spectral_norm(nn.Linear(4, 2)),
        "lazy": lambda: nn.LazyLinear(2),
        "LSTM": lambda: nn.LSTM(2, 2),
        "scripted": lambda: torch.jit.script(nn.Linear(4, 2)),
        "traced": lambda: torch.jit.trace(nn.Linear(4, 2), torch.zeros(1, 4)),
        "compiled": lambda: torch.compile(nn.Linear(4, 2)),
        "a graph": lambda: torch.fx.symbolic_trace(nn.Linear(4, 2)),
        "a function that torch calls": lambda: Overriding(4, 2, batch_first=True),
        "a lock": lambda: Ordinary(act=threading.Lock()),
        **{make.__name__: make for make in (InAGlobal, InItsClass, InAListOfItsClass, InAnObject, InADefault)},
        **{make.__name__: make for make in (in_a_closure, kept_by_a_hook_of_a_part, kept_by_an_outside_object)},
        "a partial function": partial_forward,
        "a closure over forward": forward_that_closes_over_another,
    },
}


@pytest.mark.parametrize(
    ("make", "expected"),
    [pytest.param(make, expected, id=name) for expected, makes in REACHES.items() for name, make in makes.items()],
)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore:.*Lazy:UserWarning")
def test_reach(make, expected):
    assert reach(make().eval()) is expected


def keep_on(weight):
    weight.kept = 1


CODES = {
    "a global": "global kept\n    kept = x",
    "an attribute of a module": "torch.kept = x",
    "an attribute of a local name": "torch_ = torch\n    torch_.kept = x",
    "a flag of torch": "torch.backends.cudnn.enabled = True",
    "a setting of torch": "torch.set_num_threads(1)",
    "the seed": "torch.manual_seed(0)",
    "setattr": "setattr(torch, 'kept', x)",
    "the dict of a module": "vars(torch)['kept'] = x",
    "its dunders": "torch.__dict__['kept'] = x",
    "its class": "self.__class__.kept = x",
    "the class of super()": "__class__.kept = x",
    "exec": "exec('')",
    "an import": "import random",
    "data": "self.layers[0].weight.data = x",
    "a class": "class Inner:\n        pass",
    "a nested function": "(lambda: SEEN.append(x))()",
    "a list of the module": "SEEN.append(x)",
    "a deleted global": "global kept\n    del kept",
    "an attribute of a parameter": "self.layers[0].weight.kept = x",
    "an attribute of a parameter that is a local name": "weight = self.layers[0].weight\n    weight.kept = x",
    "an attribute of a helper's argument": "keep(self.layers[0].weight)",
    "the seed by another name": "seed_it(0)",
    "gradients of the parameters": "x.backward()",
}


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
def test_code_that_may_reach_further_has_one_worker(code):
    space = {"torch": torch, "nn": nn, "SEEN": SEEN, "Slow": Slow, "keep": keep_on, "seed_it": torch.manual_seed}
    indented = code.replace("\n    ", "\n        ")
    exec(f"class Model(Slow):\n    def forward(self, x):\n        {indented}\n        return x", space)
    assert reach(space["Model"]().eval()) is Reach.MORE
    exec("class Model(Slow):\n    def forward(self, x):\n        self.kept = x\n        return x", space)
    assert reach(space["Model"]().eval()) is Reach.ITSELF


def test_a_hook_for_all_modules_has_one_worker():
    model = nn.Linear(4, 2).eval()
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert reach(model) is Reach.MORE
    finally:
        handle.remove()
    assert reach(model) is Reach.NOTHING


def test_a_module_in_training_mode_has_one_worker():
    assert reach(nn.BatchNorm1d(2)) is Reach.MORE


def test_a_copy_shares_the_parameters_and_nothing_else():
    model = Ordinary().eval()
    with Replicas(model, CPU).lend() as first, Replicas(model, CPU).lend() as second:
        assert first is not second
        for one, other, its in zip(first.parameters(), second.parameters(), model.parameters(), strict=True):
            assert one is other is its
        assert len({first.mean.data_ptr(), second.mean.data_ptr(), model.mean.data_ptr()}) == 3


def test_a_module_that_cannot_be_copied_is_run_as_it_is():
    model = Ordinary().eval()
    model.kept = model.first.weight * 2  # no leaf: torch does not copy it
    replicas = Replicas(model, CPU)
    assert replicas.is_one
    with replicas.lend() as lent:
        assert lent is model


def test_a_forward_pass_may_smooth_another_classifier():
    """Both run one forward pass at a time."""
    inner = SmoothedClassifier(InAGlobal(), num_classes=2, sigma=0.1)

    def outer(x):
        SEEN.append(inner.predict(DARK_AND_BRIGHT[:1], n=20, alpha=0.1, seed=0))
        return above(x)

    found = SmoothedClassifier(outer, num_classes=2, sigma=0.25).certify(DARK_AND_BRIGHT[:2], n0=10, n=100, seed=0)
    assert found["predict"].tolist() == [0, 1]


# --- two callers of one model in training mode


def training_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5), Above()).train()


class Above(nn.Module):
    def forward(self, x):
        return above(x)


def staggered(model):
    """Certify more and less at the same time: the shorter call ends while the longer one runs."""

    def call(n):
        smoothed = SmoothedClassifier(model, num_classes=2, sigma=FixedSigma(0.25))
        return smoothed.certify(DARK_AND_BRIGHT, n0=100, n=n, seed=0)

    return call


@pytest.mark.slow
@pytest.mark.parametrize("way", ["threads", "asyncio"])
def test_two_callers_of_a_model_in_training_mode(way):
    model = training_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    call, sizes = staggered(model), (300, 2900, 900)
    expected = {n: call(n) for n in sizes}
    for _ in range(20):
        if way == "threads":
            with ThreadPoolExecutor(3) as executor:
                results = list(executor.map(call, sizes))
        else:

            async def together():
                return await asyncio.gather(*(asyncio.to_thread(call, n) for n in sizes))

            results = asyncio.run(together())
        for n, found in zip(sizes, results, strict=True):
            assert found.equals(expected[n])
        assert modes(model) == [True] * 5
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_last_user_puts_the_model_back():
    model = training_model()
    model[1].eval()
    first, second, part = evaluation(model), evaluation(model), evaluation(model[2])
    with part:
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert modes(model) == [False] * 5
        second.__exit__(None, None, None)
        assert modes(model) == [True, True, False, False, True]  # one part has another user
    assert modes(model) == [True, True, False, True, True]


def test_an_evaluated_model_is_not_held():
    from certsmooth._internal.modes import _USES

    with evaluation(training_model()):
        pass
    assert not _USES
