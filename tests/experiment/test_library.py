"""params.yaml over the library in config/: which says what, which wins, and which file an error names."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from certsmooth.errors import ConfigError
from certsmooth.experiment.cli import main
from certsmooth.experiment.config import parse_params, read_params
from certsmooth.experiment.library import read_content
from certsmooth.experiment.like import merged, modified
from factories import ROOT, shipped_content, small_content

METHODS = {
    "a": {"label": "A", "policy": {"name": "fixed", "options": {"factor": 1.0, "steps": [1, 2]}}},
    "b": {"like": "a", "label": "B"},
    "c": {"like": "b", "policy": {"name": "other"}},
}


def project(folder, own, **library):
    """Write params.yaml, and a file of the library for each keyword."""
    (folder / "params.yaml").write_text(yaml.safe_dump(own))
    for name, content in library.items():
        path = folder / "config" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(content))
    return folder / "params.yaml"


def whole(folder, own, **library):
    return read_content(project(folder, own, **library)).whole()


def small_library(folder, own):
    """The small configuration as a library, under a params.yaml."""
    content = small_content()
    chosen = {key: content.pop(key) for key in ("dataset", "seed", "training_seeds")}
    return project(folder, chosen | own, **{name: {name: section} for name, section in content.items()})


def test_a_value_wins_alone_and_what_is_like_the_entry_sees_it(tmp_path):
    own = {"methods": {"a": {"policy": {"options": {"factor": 2.0, "steps": [3]}}}}}
    found = whole(tmp_path, own, methods={"methods": METHODS})["methods"]
    policy = {"name": "fixed", "options": {"factor": 2.0, "steps": [3]}}
    assert found == {
        "a": {"label": "A", "policy": policy},
        "b": {"label": "B", "policy": policy},
        "c": {"label": "B", "policy": {"name": "other"}},
    }


def test_a_value_of_an_entry_that_is_like_another_changes_that_entry_alone(tmp_path):
    own = {"methods": {"b": {"policy": {"options": {"factor": 2.0}}}}}
    found = whole(tmp_path, own, methods={"methods": METHODS})["methods"]
    assert found["b"]["policy"] == {"name": "fixed", "options": {"factor": 2.0, "steps": [1, 2]}}
    assert found["a"] == METHODS["a"]


def test_an_entry_that_says_like_or_is_new_is_whole(tmp_path):
    own = {"methods": {"a": {"like": "d", "label": "Z"}, "d": {"label": "D"}, "e": {"like": "c"}}}
    found = whole(tmp_path, own, methods={"methods": METHODS})["methods"]
    assert found["a"] == {"label": "Z"}
    assert found["e"] == {"label": "B", "policy": {"name": "other"}}
    assert list(found) == ["a", "b", "c", "d", "e"]


def test_entries_lie_in_any_files(tmp_path):
    first, second = {"methods": {"a": METHODS["a"]}}, {"methods": {"b": METHODS["b"]}, "toy": {"sigma": 1}}
    both = whole(tmp_path, {"toy": {"sigma": 2}}, one=first, two=second)
    assert both == {"methods": {"a": METHODS["a"], "b": METHODS["a"] | {"label": "B"}}, "toy": {"sigma": 2}}


TREES = st.recursive(
    st.integers(), lambda children: st.dictionaries(st.sampled_from("abc"), children, max_size=3), max_leaves=8
)


def leaves(tree, path=()):
    """The values that are no mapping, by path."""
    if not isinstance(tree, dict):
        return {path: tree}
    return {key: value for name, each in tree.items() for key, value in leaves(each, (*path, name)).items()}


@given(TREES, TREES)
def test_merging_keeps_what_no_change_names_and_takes_what_one_does(tree, changes):
    found, new, old = leaves(merged(tree, changes)), leaves(changes), leaves(tree)
    assert new.items() <= found.items()
    for path, value in found.items() - new.items():
        assert old[path] == value
        assert not any(path[: len(each)] == each for each in new)


def test_short_keys_are_those_of_the_chosen_data_set_and_of_what_tables_take_for_it(tmp_path):
    own = {"dataset": "digits", "n": 500, "alpha": 0.01, "sigmas": [0.5]}
    datasets = {name: {"certification": {"n0": 1, "n": 2}} for name in ("digits", "other", "mnist")}
    tables = {"x": {"settings": {"digits": {"dataset": "other"}, "mnist": {"dataset": "mnist"}}}}
    found = whole(tmp_path, own, library={"datasets": datasets, "tables": tables})
    changed = {"certification": {"n0": 1, "n": 500, "alpha": 0.01}, "sigmas": [0.5]}
    assert found["datasets"] == {"digits": changed, "other": changed, "mnist": datasets["mnist"]}
    assert not {"n", "alpha", "sigmas"} & set(found)


def test_the_longer_key_wins_over_the_short_one(tmp_path):
    own = {"dataset": "digits", "n": 500, "n0": 7, "datasets": {"digits": {"certification": {"n": 600}}}}
    found = whole(tmp_path, own, library={"datasets": {"digits": {}}})
    assert found["datasets"]["digits"]["certification"] == {"n0": 7, "n": 600}


def test_short_keys_are_those_of_a_data_set_of_params_yaml_that_is_like_another(tmp_path):
    template = {"member": "folder", "sigmas": [1.0], "certification": {"n0": 1, "n": 2, "alpha": 0.1}}
    own = {"dataset": "mine", "n": 500, "sigmas": [0.5], "datasets": {"mine": {"like": "t", "source": "images"}}}
    found = whole(tmp_path, own, library={"datasets": {"t": template}})["datasets"]
    certification = {"n0": 1, "n": 500, "alpha": 0.1}
    mine = {"member": "folder", "sigmas": [0.5], "certification": certification, "source": "images"}
    assert found == {"t": template, "mine": mine}
    own["datasets"]["mine"] |= {"sigmas": [0.25], "certification": {"n": 600, "n0": 3}}
    found = whole(tmp_path, own, library={"datasets": {"t": template}})["datasets"]["mine"]
    assert (found["sigmas"], found["certification"]) == ([0.25], {"n0": 3, "n": 600})


def test_a_short_key_that_is_null_changes_nothing(tmp_path):
    params = read_params(small_library(tmp_path, {"n": None, "sigmas": None}))
    assert params == parse_params(small_content())


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"n": "5,000"}, ["params.yaml: n: '5,000'; must be a whole number, without separators: 5000"]),
        ({"n": 0}, ["params.yaml: n: 0; must be a whole number, at least 1"]),
        ({"alpha": 2}, ["params.yaml: alpha: 2.0; must be in (0, 1)"]),
        ({"sigmas": [0]}, ["params.yaml: sigmas.0: 0;", "> 0"]),
        ({"nn": 3}, ["params.yaml: unknown key nn; did you mean 'n'?"]),
        ({"dataset": "digts"}, ["params.yaml: dataset: unknown 'digts'; did you mean 'digits'?"]),
        ({"dataset": ["digits"]}, ["params.yaml: dataset: ['digits']"]),
        ({"methods": {"cohn": {"label": "C"}}}, ["params.yaml: methods.cohn: incomplete", "did you mean 'cohen'?"]),
        ({"methods": {"cohen": {"labl": "C"}}}, ["params.yaml: unknown key methods.cohen.labl; did you mean 'label'"]),
        (
            {"datasets": {"digits": {"certification": {"nn": 3}}}},
            ["params.yaml: unknown key datasets.digits.certification.nn; did you mean 'n'?"],
        ),
        ({"methods": {"cohen": {"training": "x"}}}, ["params.yaml: methods.cohen.training: unknown 'x'"]),
        ({"methods": {"a": {"like": "cohn"}}}, ["params.yaml: methods.a.like: unknown 'cohn'; did you mean 'cohen'"]),
        ({"methods": {"cohen": 3}}, ["params.yaml: methods.cohen: 3; must be a mapping of the keys"]),
        ({"methods": 3}, ["params.yaml: methods: 3; must be a mapping"]),
        ({"tables": {"table1": {"modifier": "half"}}}, ["params.yaml: tables.table1.modifier: unknown 'half'"]),
        ({"modifiers": {"half": {"x": {}}}}, ["params.yaml: modifiers.half: unknown 'x'; ", "valid: all, "]),
        ({"modifiers": {"half": 3}}, ["params.yaml: modifiers.half: 3; must be a mapping"]),
    ],
)
def test_what_params_yaml_says_wrongly_is_its_own(tmp_path, own, words):
    with pytest.raises(ConfigError) as caught:
        read_params(small_library(tmp_path, own))
    message = str(caught.value).replace(str(tmp_path) + "/", "")
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("section", "change", "words"),
    [
        ("methods", {"a": 3}, ["config/methods.yaml: methods.a: 3; must be a mapping"]),
        ("trainings", {"gaussian": {}}, ["config/trainings.yaml: missing key trainings.gaussian.objective"]),
        ("modifiers", {"half": []}, ["config/modifiers.yaml: modifiers.half: []"]),
        ("datasets", {"a": {"like": "b"}}, ["config/datasets.yaml: datasets.a.like: unknown 'b'"]),
    ],
)
def test_a_file_of_the_library_is_named(tmp_path, section, change, words):
    path = small_library(tmp_path, {})
    file = tmp_path / "config" / f"{section}.yaml"
    content = yaml.safe_load(file.read_text())[section] if file.exists() else {}
    file.write_text(yaml.safe_dump({section: content | change}))
    with pytest.raises(ConfigError) as caught:
        read_params(path)
    for word in words:
        assert word in str(caught.value).replace(str(tmp_path) + "/", "")


def test_a_wrong_option_of_a_member_is_named_with_its_file(tmp_path, capsys):
    for own, file in (({}, "config/methods.yaml"), ({"policy": {"options": {"samples": 0}}}, "params.yaml")):
        path = small_library(tmp_path, {"methods": {"cohen-ds": own}})
        library = tmp_path / "config" / "methods.yaml"
        if file != "params.yaml":
            library.write_text(library.read_text().replace("samples: 1", "samples: 0"))
        assert main(["check", "--params", str(path)]) == 2
        message = capsys.readouterr().err.replace(str(tmp_path) + "/", "")
        assert message.startswith(f"certsmooth: {file}: methods.cohen-ds.policy.options: samples: 0; must be")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 0", r"config/more.yaml: seed: not of the library; .*valid: datasets, "),
        ("methods: [a]", r"config/more.yaml: methods: \['a'\]; must be a mapping"),
        ("methods: {cohen: {}}", r"config/more.yaml: methods.cohen: in .*config/methods.yaml as well; must be in one"),
        ("a: [", "config/more.yaml: not valid YAML"),
        ("methods: &a {b: *a}", "config/more.yaml: not valid YAML: the alias"),
        ("", "config/more.yaml: holds NoneType"),
    ],
)
def test_a_file_that_is_no_part_of_a_library_is_named(tmp_path, text, message):
    path = small_library(tmp_path, {})
    (tmp_path / "config" / "more.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_params(path)


def test_a_mistake_is_named_once_and_not_for_every_entry_that_is_like_it(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read_params(small_library(tmp_path, {"datasets": {"digits": {"certification": {"shards": "x"}}}}))
    assert str(caught.value).endswith("params.yaml: datasets.digits.certification.shards: 'x'; must be a whole number")


# --- modifiers

DATASETS = {"digits": {"validation": 0.1, "trainings": {"x": 1}}, "mnist": {"member": "m"}}
MODIFIERS = {"half": {"all": {"unlabelled": {"share": 0.5}}, "digits": {"trainings": {"y": 2}}}}


def test_a_modifier_makes_the_data_set_that_a_table_is_about():
    content = {"dataset": "digits", "datasets": DATASETS, "modifiers": MODIFIERS}
    content |= {"tables": {"t": {"modifier": "half"}, "u": {"modifier": "half", "settings": {"mnist": {"radii": [1]}}}}}
    made = {"validation": 0.1, "trainings": {"x": 1, "y": 2}, "unlabelled": {"share": 0.5}, "member": "digits"}
    settings = {"digits": {"dataset": "digits-half"}}
    assert modified(content) == {
        "dataset": "digits",
        "datasets": DATASETS | {"digits-half": made},
        "tables": {"t": {"settings": settings}, "u": {"settings": settings | {"mnist": {"radii": [1]}}}},
    }
    there = modified(content | {"dataset": "mnist"})["datasets"]["mnist-half"]
    assert there == {"member": "m", "unlabelled": {"share": 0.5}}


def test_settings_and_entries_come_before_a_modifier():
    tables = {"t": {"modifier": "half", "settings": {"digits": {"dataset": "mnist"}}}}
    content = {"dataset": "digits", "datasets": DATASETS, "modifiers": MODIFIERS, "tables": tables}
    assert modified(content)["datasets"] == DATASETS
    own = DATASETS | {"digits-half": {"validation": 0.2}}
    assert modified(content | {"datasets": own, "tables": {"t": {"modifier": "half"}}})["datasets"] == own


def test_half_labelled_data_are_those_that_the_library_says_for_every_data_set():
    for name in ("digits", "mnist", "imagenet", "cones"):
        params = parse_params(shipped_content() | {"dataset": name})
        table, entry = params.tables["smoothadv_table2"], params.datasets[f"{name}-half-labelled"]
        assert table.settings[name].dataset == f"{name}-half-labelled"
        assert (entry.member, entry.unlabelled.share) == (name, 0.5)
    for name in ("cifar10", "cifar10-resnet110"):
        params = parse_params(shipped_content() | {"dataset": name})
        assert params.tables["smoothadv_table2"].settings[name].dataset == "cifar10-resnet110"


# --- what is shipped


def test_files_to_edit_are_short():
    assert len((ROOT / "params.yaml").read_text().splitlines()) < 60
    for path in (ROOT / "config").rglob("*.yaml"):
        assert len(path.read_text().splitlines()) <= 150, path


def test_the_shipped_params_yaml_overrides_nothing():
    """So that its keys are where to begin, and what a table is made of stands in config/."""
    own = read_content(ROOT / "params.yaml").own
    assert [own[name] for name in ("sigmas", "n0", "n", "alpha", "datasets", "trainings", "methods", "tables")] == (
        [None] * 4 + [{}] * 4
    )
