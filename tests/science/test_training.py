"""The training loop: against a loop written by hand, on real digits, and killed in every way."""

from __future__ import annotations

import csv
import dataclasses
import math
import multiprocessing
import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from certsmooth._internal.registry import member
from certsmooth._internal.seeds import derive_seed
from certsmooth.artefacts.training_state import StateFile
from certsmooth.errors import CertsmoothError, CheckpointError, ConfigError, ModelError
from certsmooth.science.datasets import Split, array_split
from certsmooth.science.models import ModelSpec, Normalisation, build
from certsmooth.science.objectives import gaussian
from certsmooth.science.sigma import SigmaPolicy, data_dependent, fixed
from certsmooth.science.training.batches import augment
from certsmooth.science.training.loop import train
from certsmooth.science.training.recipe import Recipe
from factories import LazyImages

FIXED = fixed.FixedSigma(0.25)
ADAPTIVE = data_dependent.DataDependentSigma(sigma=0.25, iterations=2, step=0.05, variant="class_held", class_samples=2)
SGD = Recipe(epochs=4, batch_size=20, learning_rate=0.05, schedule="step", milestones=(2,))
ADAMW = dataclasses.replace(SGD, optimizer="adamw", learning_rate=0.01, augmentation=("crop", "flip"), padding=1)


def digits(first=0, last=70):
    """Real 8x8 digits, uint8 as most image data sets."""
    data = load_digits()
    images = (data.images[first:last, None] * 15.9375).astype(np.uint8)
    return array_split(images, data.target[first:last], name="digits", num_classes=10)


def make_model(seed=0):
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    torch.set_rng_state(state)
    return model


def run(folder, **changes):
    """Train with paths in ``folder``; the rest has defaults."""
    options = {
        "model": make_model(),
        "training": digits(),
        "validation": digits(70, 100),
        "objective": gaussian.GaussianAugmentation(),
        "policy": FIXED,
        "recipe": SGD,
        "seed": 5,
        "device": "cpu",
        "keeper": StateFile(folder / "state.safetensors", folder / "log.csv"),
    } | changes
    folder.mkdir(exist_ok=True)
    return train(options.pop("model"), options.pop("training"), sigma=options.pop("policy"), **options)


def weights(result):
    return {name: tensor.numpy().tobytes() for name, tensor in result.model.state_dict().items()}


def rows(folder):
    """Return the log's rows without the column of seconds, which is the only one that may differ."""
    with (folder / "log.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@dataclass(frozen=True)
class Failing:
    """The Gaussian objective, until it fails at a call (from 0), in one of several ways."""

    at: int
    how: str
    calls: list[int] = dataclasses.field(default_factory=list, repr=False)

    def __repr__(self):
        return repr(gaussian.GaussianAugmentation())  # so that the run is the same run

    def __call__(self, model, batch):
        loss = gaussian.GaussianAugmentation()(model, batch)
        self.calls.append(len(self.calls))
        if self.calls[-1] == self.at:
            if self.how == "interrupt":
                raise KeyboardInterrupt
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            return loss * math.nan
        return loss


# --- the loop ---


def normal(shape, generator):
    return torch.randn(shape, generator=generator)


def uniform(shape, generator):
    """Odd multiples of 2^-31 in (-1, 1), rounded."""
    words = torch.randint(-(2**31), 2**31, shape, generator=generator, dtype=torch.int32).numpy()
    return torch.from_numpy(((words // 2 * 2 + 1) / 2.0**31).astype(np.float32))


LAWS = {"gaussian": normal, "uniform": uniform}


def by_hand(recipe, policy, training, seed, noise_of):
    """Train with SGD as written in a textbook; the streams of randomness are those of the loop."""
    model = make_model().train()
    sigma = torch.full((len(training),), policy.sigma0, dtype=torch.float64)
    velocity, losses = {}, []
    for epoch in range(recipe.epochs):
        streams = {
            name: torch.Generator().manual_seed(derive_seed(seed, name, epoch))
            for name in ("order", "augmentation", "noise")
        }
        losses.append(0.0)
        rate = recipe.learning_rate * (0.1 if epoch >= 2 else 1.0)
        order = torch.randperm(len(training), generator=streams["order"]).numpy()
        for batch, first in enumerate(range(0, len(training), recipe.batch_size)):
            chosen = order[first : first + recipe.batch_size]
            images = training.batch(chosen)
            images = augment(images, recipe.augmentation, padding=1, generator=streams["augmentation"])
            if epoch >= recipe.adaptive_from_epoch:

                def draw(step, images=images, names=("sigma", epoch, batch)):
                    generator = torch.Generator().manual_seed(derive_seed(seed, *names, step))
                    return noise_of((policy.samples, *images.shape), generator)

                sigma[chosen] = policy(model, images, sigma[chosen], draw)
            noise = noise_of(images.shape, streams["noise"])
            logits = model(images + sigma[chosen].float()[:, None, None, None] * noise)
            loss = F.cross_entropy(logits, torch.from_numpy(training.labels[chosen]))
            losses[-1] += loss.item() * len(chosen) / len(training)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for p, g in zip(model.parameters(), gradients, strict=True):
                    step = g + recipe.weight_decay * p
                    velocity[p] = step if p not in velocity else recipe.momentum * velocity[p] + step
                    p -= rate * velocity[p]
    return model, sigma, losses


@pytest.mark.parametrize("policy", [FIXED, ADAPTIVE])
@pytest.mark.parametrize("augmentation", [(), ("crop", "flip")])
@pytest.mark.parametrize("noise", LAWS)
def test_equals_a_loop_written_by_hand(tmp_path, policy, augmentation, noise):
    recipe = dataclasses.replace(SGD, augmentation=augmentation, padding=1, adaptive_from_epoch=1)
    result = run(tmp_path, policy=policy, recipe=recipe, model=make_model().eval(), noise=noise)
    model, sigma, losses = by_hand(recipe, policy, digits(), 5, LAWS[noise])
    for found, expected in zip(result.model.state_dict().values(), model.state_dict().values(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.sigma, sigma, rtol=1e-4, atol=0)
    assert [row.loss for row in result.log] == pytest.approx(losses, rel=1e-4)
    assert (sigma.unique().numel() > 1) == (policy is ADAPTIVE)


def test_learns_real_digits(tmp_path):
    recipe = Recipe(epochs=6, batch_size=50, learning_rate=0.1, schedule="cosine")
    result = run(tmp_path, training=digits(0, 1400), validation=digits(1400, 1797), recipe=recipe)
    accuracy = [row.validation_accuracy for row in result.log]
    assert accuracy[-1] > 0.8  # a tenth by chance
    assert result.log[-1].loss < 0.5 * result.log[0].loss


def test_log_says_what_happened(tmp_path):
    recipe = dataclasses.replace(SGD, adaptive_from_epoch=2)
    result = run(tmp_path, policy=ADAPTIVE, recipe=recipe)
    found = rows(tmp_path)
    assert found == [{k: str(v) for k, v in dataclasses.asdict(row).items() if k != "seconds"} for row in result.log]
    assert [int(row["epoch"]) for row in found] == [0, 1, 2, 3]
    assert [float(row["learning_rate"]) for row in found] == pytest.approx([0.05, 0.05, 0.005, 0.005])
    assert [row["sigma_min"] == row["sigma_max"] == "0.25" for row in found] == [True, True, False, False]
    last = result.log[-1]
    assert (last.sigma_min, last.sigma_max) == (result.sigma.min().item(), result.sigma.max().item())
    assert last.sigma_mean == pytest.approx(result.sigma.mean().item(), rel=1e-12)
    assert all(row.seconds > 0 for row in result.log)


@pytest.mark.parametrize("law", LAWS)
def test_validation_accuracy_is_that_of_the_final_model_under_noise(tmp_path, law):
    result = run(tmp_path, noise=law)
    validation = digits(70, 100)
    noise = torch.Generator().manual_seed(derive_seed(5, "validation"))
    right = 0
    for positions in np.array_split(np.arange(30), [20]):
        images = validation.batch(positions)
        noisy = images + 0.25 * LAWS[law](images.shape, noise)
        right += int((result.model(noisy).argmax(1).numpy() == validation.labels[positions]).sum())
    assert result.log[-1].validation_accuracy == right / 30
    assert not result.model.training


def test_another_noise_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"noise: unknown name 'uniformly'; did you mean 'uniform'"):
        run(tmp_path, noise="uniformly")


@dataclass(frozen=True)
class Brighter(SigmaPolicy):
    """Adds to sigma the mean pixel of the image: it shows which example was asked for, and how often."""

    sigma0: float = 0.1
    uses_model = True

    def _choose(self, model, images, sigma, draw):
        return sigma + images.flatten(1).mean(1).double()


@dataclass(frozen=True)
class Recording:
    """Remembers the sigma that the objective is given."""

    seen: list = dataclasses.field(default_factory=list, repr=False)

    def __call__(self, model, batch):
        self.seen.append((batch.images, batch.sigma))
        return F.cross_entropy(model(batch.images), batch.labels, reduction="none")


def test_each_example_keeps_its_sigma_from_epoch_to_epoch(tmp_path):
    objective = Recording()
    recipe = dataclasses.replace(SGD, adaptive_from_epoch=1)
    result = run(tmp_path, objective=objective, policy=Brighter(), recipe=recipe)
    means = digits().batch(np.arange(70)).flatten(1).mean(1).double()
    torch.testing.assert_close(result.sigma, 0.1 + 3 * means, rtol=1e-6, atol=0)
    per_epoch = len(objective.seen) // 4
    for call, (images, sigma) in enumerate(objective.seen):
        expected = 0.1 + (call // per_epoch) * images.flatten(1).mean(1).double()
        torch.testing.assert_close(sigma, expected, rtol=1e-6, atol=0)


def test_every_epoch_takes_each_example_once_in_a_new_order(tmp_path):
    objective = Recording()
    run(tmp_path, objective=objective)
    images = digits().batch(np.arange(70)).flatten(1)
    orders = []
    for epoch in range(4):
        taken = torch.cat([seen for seen, _ in objective.seen[4 * epoch : 4 * epoch + 4]]).flatten(1)
        orders.append(torch.cdist(taken, images).argmin(1).tolist())
        assert sorted(orders[-1]) == list(range(70))
    assert len({tuple(order) for order in orders}) == 4


@dataclasses.dataclass(frozen=True)
class Halved:
    """Cross entropy, of which large classes have half."""

    def __call__(self, model, batch):
        losses = F.cross_entropy(model(batch.images + batch.noise(1)[0]), batch.labels, reduction="none")
        return torch.where(batch.labels >= 5, 0.5, 1.0) * losses


def test_weights_are_factors_of_the_losses_of_their_examples(tmp_path):
    halves = np.where(digits().labels >= 5, 0.5, 1.0)
    found = run(tmp_path / "weights", weights=halves)
    assert weights(found) == weights(run(tmp_path / "objective", objective=Halved()))
    assert weights(found) != weights(run(tmp_path / "ones"))
    with pytest.warns(UserWarning, match="belongs to another run"):
        run(tmp_path / "weights", weights=halves / 2)


@pytest.mark.parametrize("wrong", [np.ones(69), np.ones((70, 1)), np.full(70, -1.0), np.full(70, np.nan)])
def test_weights_that_are_none_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match=r"^weights: shape .*; must be 70 finite numbers >= 0, one per image"):
        run(tmp_path, weights=wrong)


def test_images_from_files_train_the_same_model(tmp_path):
    arrays, files = digits(), digits(70, 100)
    lazy = Split(LazyImages(arrays.images), arrays.labels, arrays.index, arrays.fingerprint)
    validation = Split(LazyImages(files.images), files.labels, files.index, files.fingerprint)
    (tmp_path / "lazy").mkdir()
    (tmp_path / "array").mkdir()
    found = run(tmp_path / "lazy", training=lazy, validation=validation, recipe=ADAMW)
    assert weights(found) == weights(run(tmp_path / "array", recipe=ADAMW))
    assert rows(tmp_path / "lazy") == rows(tmp_path / "array")


def test_depends_on_the_seed_and_not_on_the_global_one(tmp_path):
    torch.manual_seed(1)
    first = run(tmp_path / "a")
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = run(tmp_path / "b")
    assert torch.equal(torch.get_rng_state(), state)
    assert weights(first) == weights(again)
    assert weights(run(tmp_path / "c", seed=6)) != weights(first)


def test_settings_of_cudnn_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)

    @dataclass(frozen=True)
    class Check:
        def __call__(self, model, batch):
            assert torch.backends.cudnn.deterministic
            assert not torch.backends.cudnn.benchmark
            return F.cross_entropy(model(batch.images), batch.labels, reduction="none")

    run(tmp_path, objective=Check())
    assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.deterministic


def test_progress_is_shown_on_the_error_stream(tmp_path, capsys):
    run(tmp_path / "a", progress=True)
    shown = capsys.readouterr()
    assert "16/16" in shown.err
    assert not shown.out
    run(tmp_path / "b")
    assert not capsys.readouterr().err


def test_augmentation_of_vectors_is_refused(tmp_path):
    flat = array_split(np.zeros((30, 3), np.float32), np.zeros(30, np.int64), name="toy", num_classes=2)
    with pytest.raises(ConfigError, match=r"augmentation: .* must be \(\) for data of shape \[3\]"):
        run(tmp_path, model=nn.Linear(3, 2), training=flat, validation=flat, recipe=ADAMW)


# --- interruption ---


RUNS = {
    "sgd": {"recipe": SGD, "policy": FIXED},
    "adamw": {"recipe": ADAMW, "policy": ADAPTIVE},
}


def assert_same_run(folder, whole_folder, result, whole):
    assert weights(result) == weights(whole)
    assert torch.equal(result.sigma, whole.sigma)
    assert rows(folder) == rows(whole_folder)
    assert len(rows(folder)) == 4


@pytest.mark.parametrize("name", RUNS)
def test_killed_for_real_and_started_again_ends_with_the_same_bytes(tmp_path, name):
    whole = run(tmp_path / "whole", **RUNS[name])
    options = {"objective": Failing(9, "kill")} | RUNS[name]
    child = multiprocessing.get_context("fork").Process(target=run, args=(tmp_path / "part",), kwargs=options)
    child.start()
    child.join(timeout=120)
    assert child.exitcode == -signal.SIGKILL
    assert len(rows(tmp_path / "part")) == 2
    assert_same_run(tmp_path / "part", tmp_path / "whole", run(tmp_path / "part", **RUNS[name]), whole)


def classifier(mean):
    spec = ModelSpec(
        architecture="small_cnn",
        image_shape=(1, 8, 8),
        num_classes=10,
        normalisation=Normalisation((mean,), (0.25,)),
        channels_last=True,
    )
    return build(spec, seed=1)


def test_base_classifiers_go_on_too_unless_the_normalisation_differs(tmp_path):
    whole = run(tmp_path / "whole", model=classifier(0.5))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "part", model=classifier(0.5), objective=Failing(9, "interrupt"))
    part = run(tmp_path / "part", model=classifier(0.5))
    assert_same_run(tmp_path / "part", tmp_path / "whole", part, whole)
    with pytest.warns(UserWarning, match="belongs to another run"):
        other = run(tmp_path / "part", model=classifier(0.4))
    assert weights(other) != weights(whole)


@pytest.mark.slow
@pytest.mark.parametrize("call", [0, 3, 4, 9, 15])
@pytest.mark.parametrize("name", RUNS)
def test_interrupted_anywhere_and_started_again_ends_with_the_same_bytes(tmp_path, name, call):
    whole = run(tmp_path / "whole", **RUNS[name])
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "part", objective=Failing(call, "interrupt"), **RUNS[name])
    assert len(rows(tmp_path / "part")) == call // 4
    rest = Failing(-1, "never")
    result = run(tmp_path / "part", objective=rest, **RUNS[name])
    assert len(rest.calls) == 16 - 4 * (call // 4)  # finished epochs are not repeated
    assert_same_run(tmp_path / "part", tmp_path / "whole", result, whole)


def test_log_is_complete_after_a_kill_between_state_and_log(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole")

    def interrupted(path, log):
        if len(log) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("certsmooth.artefacts.training_state.write_log", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "part")
    assert_same_run(tmp_path / "part", tmp_path / "whole", run(tmp_path / "part"), whole)


def test_a_finished_run_returns_at_once(tmp_path):
    first = run(tmp_path, policy=ADAPTIVE)
    objective = Failing(0, "interrupt")
    again = run(tmp_path, objective=objective, policy=ADAPTIVE)
    assert not objective.calls
    assert again.log == first.log
    assert_same_run(tmp_path, tmp_path, again, first)


OTHERS = {
    "seed": lambda: {"seed": 6},
    "noise": lambda: {"noise": "uniform"},
    "policy": lambda: {"policy": fixed.FixedSigma(0.5)},
    "recipe": lambda: {"recipe": dataclasses.replace(SGD, weight_decay=0.0)},
    "objective": lambda: {"objective": Recording()},
    "training": lambda: {"training": digits(0, 60)},
    "validation": lambda: {"validation": digits(70, 99)},
    "weights": lambda: {"model": make_model(seed=1)},
    "architecture": lambda: {"model": nn.Sequential(*make_model()[:3], nn.Tanh(), make_model()[4])},
}


@pytest.mark.slow
@pytest.mark.parametrize("what", OTHERS)
def test_the_state_of_another_run_is_set_aside(tmp_path, what):
    short = dataclasses.replace(SGD, epochs=3)
    run(tmp_path, recipe=short)
    stored = (tmp_path / "state.safetensors").read_bytes()
    with pytest.warns(UserWarning, match=r"state.safetensors: belongs to another run .* set aside as"):
        found = run(tmp_path, **({"recipe": short} | OTHERS[what]()))
    aside = [path for path in tmp_path.iterdir() if path.name.startswith("state.safetensors.")]
    assert [path.read_bytes() for path in aside] == [stored]
    clean = run(tmp_path / "clean", **({"recipe": short} | OTHERS[what]()))
    assert weights(found) == weights(clean)
    assert rows(tmp_path) == rows(tmp_path / "clean")


def test_a_corrupt_state_is_named(tmp_path):
    run(tmp_path)
    path = tmp_path / "state.safetensors"
    good = path.read_bytes()
    middle = len(good) // 2
    flipped = good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
    for bad in (b"", good[:100], good[:-1], good + b"x", b"\0" * 500, flipped, b"PK\x03\x04" + good):
        path.write_bytes(bad)
        with pytest.raises(CheckpointError, match=r"state.safetensors: truncated(, or| or|,) altered.* delete it"):
            run(tmp_path)
        assert path.read_bytes() == bad
    log = good.replace(b"validation_accuracy", b"validation_accuracz")
    path.write_bytes(log)
    with pytest.raises(CheckpointError, match="altered: its content does not match its checksum"):
        run(tmp_path)
    path.write_bytes(good.replace(b"training state 2", b"training state 1"))
    with pytest.raises(CheckpointError, match="holds 'training state 1'; must be 'training state 2'; delete it"):
        run(tmp_path)


@pytest.mark.parametrize(("call", "epoch", "batch"), [(0, 0, 0), (3, 0, 3), (9, 2, 1), (11, 2, 3)])
def test_a_loss_that_is_not_finite_stops_training(tmp_path, call, epoch, batch):
    with pytest.raises(CertsmoothError, match=rf"^epoch {epoch}, batch {batch}: loss is nan") as error:
        run(tmp_path, objective=Failing(call, "nan"))
    kept = f"state after epoch {epoch - 1} is kept in {tmp_path / 'state.safetensors'}"
    assert (kept if epoch else "no epoch was finished") in str(error.value)
    assert len(rows(tmp_path)) == epoch
    assert (tmp_path / "state.safetensors").exists() == (epoch > 0)
    # The state that was kept is good: it goes on to the end.
    assert weights(run(tmp_path)) == weights(run(tmp_path / "whole"))


def test_weights_that_blow_up_are_not_stored(tmp_path):
    huge = dataclasses.replace(SGD, learning_rate=1e30, momentum=0.0, schedule="constant", milestones=())
    with pytest.raises(CertsmoothError, match=r"not finite|loss is"):
        run(tmp_path, recipe=huge)
    last_step = dataclasses.replace(huge, batch_size=70)  # one step per epoch: the loss before it is finite
    with pytest.raises(CertsmoothError, match=r"^epoch 0: validation logits are not finite"):
        run(tmp_path / "b", recipe=last_step, model=make_model()[:2].append(nn.Linear(32, 10)))
    assert not (tmp_path / "b" / "state.safetensors").exists()


def test_an_error_of_the_policy_names_epoch_and_batch(tmp_path):
    model = make_model()
    model[4].bias.data[0] = math.nan
    with pytest.raises(ModelError, match=r"^epoch 0, batch 0: the model returned logits that are not finite"):
        run(tmp_path, model=model, policy=ADAPTIVE)


def test_an_error_of_the_objective_names_epoch_and_batch_and_what_is_kept(tmp_path):
    model = make_model()
    model[4].bias.data[0] = math.nan
    macer = member("objectives", "macer")(samples=2)
    with pytest.raises(ModelError, match=r"^epoch 0, batch 0: the model returned logits .* no epoch was finished"):
        run(tmp_path, model=model, objective=macer)


@dataclass(frozen=True)
class ByImage(Brighter):
    """sigma0 times 1 + the mean pixel; it counts how often it is asked."""

    uses_model = False
    asked: list = dataclasses.field(default_factory=list, repr=False)

    def __call__(self, model, images, sigma, draw):
        self.asked.append(len(images))
        return sigma * (1 + images.flatten(1).mean(1).double())


def test_a_sigma_that_does_not_depend_on_the_model_is_set_once_by_the_image_without_augmentation(tmp_path):
    policy, recipe = ByImage(), dataclasses.replace(ADAMW, adaptive_from_epoch=3)
    result = run(tmp_path, policy=policy, recipe=recipe)
    assert policy.asked == [70]
    means = digits().batch(np.arange(70)).flatten(1).mean(1).double()
    torch.testing.assert_close(result.sigma, 0.1 * (1 + means), rtol=1e-6, atol=0)


def test_such_a_sigma_survives_an_interruption(tmp_path):
    whole = run(tmp_path / "whole", policy=ByImage())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, policy=ByImage(), objective=Failing(9, "interrupt"))
    policy = ByImage()
    again = run(tmp_path, policy=policy)
    assert policy.asked == []
    assert weights(again) == weights(whole)
    assert torch.equal(again.sigma, whole.sigma)


def test_the_objective_is_told_the_epoch(tmp_path):
    seen = []

    @dataclass(frozen=True)
    class Telling:
        def __call__(self, model, batch):
            seen.append(batch.epoch)
            return F.cross_entropy(model(batch.images), batch.labels, reduction="none")

    run(tmp_path, objective=Telling())
    assert seen == [epoch for epoch in range(4) for _ in range(4)]
