"""Networks of other programs: what may stand for one, and that what is built is that network and nothing else runs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import pytest
import torch
import torchvision

from certsmooth._internal.external import ExternalArchitecture, check_trusted, code_of, read_architecture
from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.trained import load_classifier
from certsmooth.errors import CheckpointError, ConfigError, MissingLibraryError
from certsmooth.experiment.code_hash import architecture_code, source_digest
from certsmooth.science.models import ModelSpec, Normalisation, build, check_shape
from factories import checkpoint_header

MINE = """\
import torch
from torch import nn

def build(image_shape, num_classes, *, width=4):
    pixels = image_shape[0] * image_shape[1] * image_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, num_classes))

class Forgetful(nn.Module):
    def __init__(self, image_shape, num_classes):
        super().__init__()
        self.weights = torch.randn(image_shape[-1], num_classes)

    def forward(self, images):
        return images.mean((1, 2)) @ self.weights

def probabilities_of_two(image_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(2))

def no_network(image_shape, num_classes):
    return lambda images: images

value = 3
"""
OURS = ExternalArchitecture("import", "models.mine:build", {"width": 3})


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    """A project with a file in its folder ``models``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.py").write_text(MINE)
    yield
    for name in [each for each in sys.modules if each.partition(".")[0] == "models"]:
        del sys.modules[name]


def spec(architecture, shape=(1, 4, 4), classes=3, **options):
    return ModelSpec(architecture, shape, classes, **options)


def test_a_function_of_the_folder_models_is_called_with_shape_classes_and_options():
    network = build(spec(OURS), seed=0).network
    assert [tuple(each.shape) for each in network.parameters()] == [(3, 16), (3,), (3, 3), (3,)]
    assert type(network).__module__.startswith("torch.")
    assert str(OURS) == "import models.mine:build"


def test_a_module_of_the_folder_can_be_in_a_package_and_import_its_neighbours(tmp_path):
    (tmp_path / "models" / "nets").mkdir()
    (tmp_path / "models" / "nets" / "wide.py").write_text(
        "from models.mine import build as narrow\n\ndef build(shape, k):\n    return narrow(shape, k, width=9)\n"
    )
    network = build(spec(ExternalArchitecture("import", "models.nets.wide:build")), seed=0).network
    assert network[1].out_features == 9


def test_the_folder_is_that_of_the_project_at_hand(tmp_path, monkeypatch):
    build(spec(OURS), seed=0)
    other = tmp_path / "other" / "models"
    other.mkdir(parents=True)
    (other / "mine.py").write_text(MINE.replace("width=4", "width=4, depth=1"))
    monkeypatch.chdir(other.parent)
    build(spec(ExternalArchitecture("import", "models.mine:build", {"depth": 2})), seed=0)
    assert not any(str(tmp_path) in each for each in sys.path)


def test_a_function_of_an_installed_package(tmp_path, monkeypatch):
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "somebodys_nets.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path / "installed")
    architecture = ExternalArchitecture("import", "somebodys_nets:build")
    assert build(spec(architecture), seed=0).network[1].out_features == 4
    assert code_of(architecture) == tmp_path / "installed" / "somebodys_nets.py"
    del sys.modules["somebodys_nets"]


def test_a_network_of_torchvision_is_that_one_without_weights():
    found = build(spec(ExternalArchitecture("torchvision", "resnet18"), (3, 32, 32), 7), seed=3).network
    right = torchvision.models.resnet18(num_classes=7)
    assert {name: each.shape for name, each in found.state_dict().items()} == {
        name: each.shape for name, each in right.state_dict().items()
    }
    right.load_state_dict(found.state_dict())
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(found.eval()(images), right.eval()(images))


def test_a_network_of_timm_takes_the_channels_and_options():
    timm = pytest.importorskip("timm")
    options = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
    architecture = ExternalArchitecture("timm", "vit_tiny_patch16_224", options)
    classifier = build(spec(architecture, (1, 16, 16), 5), seed=0)
    right = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=5, in_chans=1, **options)
    assert classifier.network.state_dict().keys() == right.state_dict().keys()
    assert classifier.freeze()(torch.rand(2, 1, 16, 16)).shape == (2, 5)
    check_shape(classifier.spec)


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingLibraryError, match=r'^timm is not installed, .*: pip install "certsmooth\[timm\]"$'):
        build(spec(ExternalArchitecture("timm", "resnet18"), (3, 32, 32)), seed=0)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "architecture: 3; must be a name, or a mapping of import, timm, torchvision, options"),
        ({"tim": "resnet18"}, "architecture: unknown key 'tim'; did you mean 'timm'"),
        ({}, "must be one of import, timm, torchvision"),
        ({"timm": "a", "torchvision": "b"}, "architecture: timm and torchvision; must be one of"),
        ({"import": "models.mine"}, "architecture.import: 'models.mine'; must be a package.module:function"),
        ({"import": "../mine:build"}, "must be a package.module:function"),
        ({"import": "models.mine:build()"}, "must be a package.module:function"),
        ({"timm": "hf-hub:somebody/net"}, "architecture.timm: 'hf-hub:somebody/net'; must be a name of a model"),
        ({"timm": "local-dir:/tmp/net"}, "must be a name of a model"),
        ({"torchvision": 18}, "architecture.torchvision: 18; must be a name of a model"),
        ({"timm": "resnet18", "options": [1]}, r"architecture.options: \[1\]; must be a mapping"),
        ({"timm": "resnet18", "options": {"pretrained": True}}, "architecture.options.pretrained: must not be given"),
        ({"timm": "resnet18", "options": {"checkpoint_path": "a.pth"}}, "options.checkpoint_path: must not be given"),
        ({"timm": "resnet18", "options": {"pretrained_cfg": "x"}}, "options.pretrained_cfg: must not be given"),
        ({"torchvision": "resnet18", "options": {"weights": "DEFAULT"}}, "options.weights: must not be given"),
        ({"torchvision": "resnet18", "options": {"weights_backbone": "x"}}, "weights_backbone: must not be given"),
        ({"import": "models.mine:build", "options": {"a b": 1}}, "bad name 'a b'"),
        ({"import": "models.mine:build", "options": {"a": {"b": 1}}}, "options.a: {'b': 1}; must be a number"),
        ({"import": "models.mine:build", "options": {"a": "/etc/passwd"}}, "options.a: '/etc/passwd'; must be"),
    ],
)
def test_what_is_no_architecture_is_refused(value, said):
    with pytest.raises(ConfigError, match=said):
        read_architecture(value)


@pytest.mark.parametrize(
    ("library", "name", "said"),
    [
        ("import", "models.mine:buidl", "its module has no such function"),
        ("import", "models.mine:value", "its module has no such function"),
        ("import", "models.other:build", "models.other:build' cannot be imported: ModuleNotFoundError"),
        ("import", "models.mine:no_network", "returned function; must be a torch.nn.Module"),
        ("import", "models.mine:probabilities_of_two", r"gives torch.float32 \[1, 2\] for one image; must be \[1, 3\]"),
        ("torchvision", "resnet19", "architecture.torchvision: unknown 'resnet19'; did you mean"),
        ("torchvision", "fasterrcnn_resnet50_fpn", "architecture.torchvision: unknown"),
        ("torchvision", "vit_b_16", r"fails on images of shape \(1, 4, 4\)"),
    ],
)
def test_what_is_no_classifier_is_refused(library, name, said):
    with pytest.raises(ConfigError, match=said):
        build(spec(ExternalArchitecture(library, name)), seed=0)


def test_a_wrong_option_is_named():
    with pytest.raises(ConfigError, match=r"cannot be built: TypeError.*'depth'"):
        build(spec(ExternalArchitecture("import", "models.mine:build", {"depth": 2})), seed=0)


def test_a_network_whose_checkpoint_would_not_hold_all_of_it_is_refused():
    check_shape(spec(OURS))
    with pytest.raises(ConfigError, match="random values that are not in its state_dict"):
        check_shape(spec(ExternalArchitecture("import", "models.mine:Forgetful")))


def test_trust_is_by_package_and_a_library_needs_none():
    for trusted in ([], ["mine"], ["model"], ["models.mine"]):
        with pytest.raises(
            ConfigError, match=r"code of 'models', which is not trusted; if you trust it, say so: models"
        ):
            check_trusted(OURS, trusted, remedy="say so: {}")
    check_trusted(OURS, ["models"], remedy="")
    check_trusted(ExternalArchitecture("torchvision", "resnet18"), [], remedy="")
    check_trusted("resnet20", [], remedy="")


def saved(tmp_path):
    model = spec(OURS, normalisation=Normalisation((0.5,), (0.25,)))
    classifier, path = build(model, seed=1), tmp_path / "model.safetensors"
    checkpoint.save(path, classifier, checkpoint_header(model))
    return classifier, path


def test_a_checkpoint_imports_nothing_unless_its_package_is_trusted(tmp_path):
    _, path = saved(tmp_path)
    del sys.modules["models.mine"]
    (tmp_path / "models" / "mine.py").write_text("raise SystemExit('this ran')\n")
    for trusted in ([], ["torch"]):
        with pytest.raises(
            CheckpointError, match=r"model\.safetensors: .*'models', which is not trusted; .* trusted=\['models'\]"
        ):
            load_classifier(path, trusted=trusted)
    with pytest.raises(SystemExit):
        load_classifier(path, trusted=["models"])


def test_a_checkpoint_comes_back_exactly(tmp_path):
    classifier, path = saved(tmp_path)
    loaded = load_classifier(path, trusted=["models"])
    images = torch.rand(5, 1, 4, 4)
    assert torch.equal(loaded.model(images), classifier.freeze()(images))
    assert loaded.header.model == classifier.spec
    assert loaded.header.model.architecture.options == {"width": 3}


def test_a_training_starts_from_a_checkpoint_of_the_same_code(tmp_path):
    classifier, path = saved(tmp_path)
    fresh = build(classifier.spec, seed=2)
    checkpoint.start_from(path, fresh)
    assert torch.equal(fresh.network[1].weight, classifier.network[1].weight)
    with pytest.raises(CheckpointError, match="not trusted"):
        checkpoint.start_from(path, build(spec("small_cnn", (1, 8, 8)), seed=0))


def test_a_member_of_the_package_is_what_it_was_before_other_networks_could_be_named():
    """Headers and identities of what was made before stay as they are."""
    assert asdict(spec("small_cnn"))["architecture"] == "small_cnn"
    assert json.loads(json.dumps(asdict(spec(OURS))))["architecture"] == {
        "library": "import",
        "name": "models.mine:build",
        "options": {"width": 3},
    }
    assert architecture_code("resnet20") == "science.models.resnet20"


def fresh_digest(*modules):
    source_digest.cache_clear()
    from certsmooth.experiment.code_hash import _module

    _module.cache_clear()
    return source_digest(*modules)


def test_the_digest_changes_with_the_code_of_the_module_and_not_with_its_comments(tmp_path):
    path = tmp_path / "models" / "mine.py"
    before = fresh_digest("errors", OURS)
    path.write_text(f"# a comment\n{MINE}")
    assert fresh_digest("errors", OURS) == before
    path.write_text(MINE.replace("nn.ReLU", "nn.Tanh"))
    assert fresh_digest("errors", OURS) != before
    assert fresh_digest("errors") not in (before, fresh_digest("errors", OURS))
    path.unlink()
    with pytest.raises(ConfigError, match=r"no module 'models\.mine'; must be installed, or a file below models/"):
        fresh_digest("errors", OURS)


def test_the_digest_of_a_library_is_its_version():
    assert (
        code_of(ExternalArchitecture("torchvision", "resnet18"))
        == f"torchvision=={torchvision.__version__.partition('+')[0]}"
    )
