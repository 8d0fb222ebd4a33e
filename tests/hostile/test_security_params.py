"""params.yaml is data: no value of it runs anything, and no name of it leads out of the project."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certsmooth.errors import ConfigError
from certsmooth.experiment.config import parse_params, read_params
from certsmooth.experiment.members import check_members
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.specs import certificates_path, counts_paths
from factories import ROOT, changed, renamed, small_content, write_params

HOSTILE = {
    "command": "; touch owned",
    "newline": "a\ntouch owned",
    "substitution": "$(touch owned)",
    "backticks": "`touch owned`",
    "variable": "${HOME}",
    "space": "a b",
    "single quote": "a'b",
    "double quote": 'a"; touch owned; "',
    "redirection": "a > owned",
    "pipe": "a | touch owned",
    "option": "--output=owned",
    "short option": "-o",
    "parent": "../owned",
    "hidden parent": "a/../../owned",
    "dots": "..",
    "absolute": "/owned",
    "home": "~/owned",
    "wildcard": "{wildcards.method}",
    "braces": "{}",
    "open brace": "{",
    "glob": "*",
    "comma": "a,b=c",
    "backslash": "a\\b",
    "not ASCII": "méthode",
    "right to left": "a\u202eb",
    "NUL": "a\0b",
    "escape": "a\x1b[2J",
    "long": "a" * 5000,
    "empty": "",
    "tab": "a\tb",
    "percent": "%s%n",
    "line separator": "a\u2028b",
}
NO_TEXT = {"newline", "right to left", "NUL", "escape", "long", "empty", "tab", "line separator"} | {
    name for name, value in HOSTILE.items() if set(value) & set("|$")
}


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return small_content()


NAMES = [
    ("datasets", "digits"),
    ("trainings", "gaussian"),
    ("methods", "cohen"),
    ("tables", "table1"),
    ("tables", "empirical"),
    ("tables", "empirical", "attacks", "smoothed"),
    ("tables", "rates"),
    ("tables", "promises"),
]


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("path", NAMES, ids=".".join)
def test_a_name_is_refused(content: dict[str, Any], path: tuple[str, ...], hostile: str) -> None:
    with pytest.raises(ConfigError, match=f"{path[-2]}: bad name ") as caught:
        parse_params(renamed(content, path, HOSTILE[hostile]))
    assert "must be at most 100 letters" in str(caught.value)


CHOICES = [
    ("dataset",),
    ("datasets", "digits", "architecture"),
    ("datasets", "digits", "member"),
    ("datasets", "digits", "numeric_type"),
    ("trainings", "gaussian", "objective", "name"),
    ("trainings", "gaussian", "policy", "name"),
    ("trainings", "gaussian", "noise"),
    ("trainings", "continued", "teacher"),
    ("trainings", "continued", "start", "training"),
    ("methods", "cohen", "training"),
    ("methods", "cohen", "certificate", "name"),
    ("tables", "table1", "baseline"),
    ("tables", "table1", "methods", 0),
    ("tables", "table1", "kind"),
    ("tables", "table1", "norm"),
    ("tables", "table1", "published", "paper"),
    ("tables", "rates", "datasets", 0),
    ("pictures", "method"),
    ("pictures", "datasets", 0),
    ("high_dimension", "method"),
    ("tables", "empirical", "attacks", "smoothed", "attack", "name"),
    # What an option that is a list says becomes the name of a folder.
    ("trainings", "smoothadv", "objective", "options", "attacker"),
    ("trainings", "smoothadv", "objective", "options", "estimator"),
    ("datasets", "digits", "recipe", "optimizer"),
    ("datasets", "digits", "recipe", "augmentation", 0),
]


@pytest.mark.parametrize("path", CHOICES, ids=lambda path: ".".join(map(str, path)))
def test_a_choice_is_refused(content: dict[str, Any], path: tuple[str, ...]) -> None:
    for name in ("command", "wildcard", "empty") if path[-1] == "paper" else HOSTILE:  # that one is slow to check
        hostile = HOSTILE[name]
        with pytest.raises(ConfigError) as caught:
            check_members(parse_params(changed(content, path, hostile)))
        assert str(path[0]) in str(caught.value)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_value_that_would_name_a_folder_is_refused(content: dict[str, Any], hostile: str) -> None:
    for section, name, part in (("trainings", "smoothadv", "objective"), ("methods", "cohen-ds", "policy")):
        options = {**content[section][name][part].get("options", {}), "anything": ["pgd", HOSTILE[hostile]]}
        with pytest.raises(ConfigError, match=f"{section}.{name}.{part}.options.anything: .*text must be at most 100"):
            parse_params(changed(content, (section, name, part, "options"), options))


FILES = [
    ("datasets", "mnist", "source"),
    ("datasets", "mnist", "unlabelled", "source"),
    ("trainings", "pretrained", "start", "checkpoint"),
    ("methods", "theirs", "certificates"),
    ("trainings", "peer", "given"),
]


@pytest.mark.parametrize(
    "hostile", ["option", "short option", "home", "wildcard", "open brace", "newline", "NUL", "escape", "long", "empty"]
)
@pytest.mark.parametrize("path", FILES, ids=lambda path: ".".join(map(str, path)))
def test_a_file_with_a_name_that_cannot_be_one_is_refused(
    content: dict[str, Any], path: tuple[str, ...], hostile: str
) -> None:
    with pytest.raises(ConfigError, match=r"must be a path: printable") as caught:
        parse_params(changed(content, path, HOSTILE[hostile]))
    assert ".".join(map(str, path)) in str(caught.value)


TEXTS = [
    ("methods", "cohen", "label"),
    ("tables", "table1", "title"),
    ("tables", "empirical", "title"),
    ("tables", "empirical", "attacks", "smoothed", "label"),
    ("tables", "rates", "title"),
    ("tables", "promises", "title"),
    ("methods", "theirs", "label"),
]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: ".".join(map(str, path)))
def test_text_for_people_is_one_printable_line(content: dict[str, Any], path: tuple[str, ...]) -> None:
    for name, hostile in HOSTILE.items():
        given = changed(content, path, hostile)
        if name not in NO_TEXT:
            parse_params(given)
        else:
            with pytest.raises(ConfigError, match="must be a line of printable text"):
                parse_params(given)


def paths(experiment: Experiment) -> Iterator[Path]:
    params = experiment.params
    for table in params.tables:
        yield Path(f"{table}.md")
    yield from (model.path for model in experiment.models())
    yield from (certificates_path(batch.name) for batch in experiment.all_certificates())
    for batch in experiment.all_counts():
        yield from counts_paths(batch)


def test_every_path_of_the_shipped_configuration_is_inside() -> None:
    found = list(paths(Experiment(read_params(ROOT / "params.yaml"))))
    assert len(found) > 100
    for path in found:
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert os.fspath(path).isascii()


YAML = {
    "object": ("seed: !!python/object/apply:os.system ['touch owned']", "python/object"),
    "module": ("seed: !!python/name:os.system", "python/name"),
    "new object": ("seed: !!python/object/new:subprocess.Popen [['touch', 'owned']]", "python/object"),
    "own tag": ("seed: !include /etc/passwd", "!include"),
    "billion laughs": (
        "a0: &a0 [x, x]\n" + "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40)),
        "the alias *a0",
    ),
    "merge of aliases": ("x: &x {a: 1}\na: {<<: *x}", "the alias *x"),
    "merge key": ("a: {<<: {b: 1}}", "like: NAME"),
    "anchor in itself": ("seed: &a [*a]", "the alias *a"),
    "anchor in itself by a key": ("seed: &a {b: *a}", "the alias *a"),
    "deep lists": ("seed: " + "[" * 10**5, "nested too deeply"),
    "deep mappings": ("seed: " + "{a: " * 60 + "}" * 60, "nested too deeply"),
    "key twice": ("seed: 1\nseed: 2", "'seed' twice"),
    "key twice below": ("a: {b: 1, b: 2}", "'b' twice"),
    "number twice": ("a: {0.5: 1, 0.50: 2}", "'0.50' twice"),
    "whole number twice": ("a: {1: 1, 1.0: 2}", "'1.0' twice"),
    "list as key": ("[1, 2]: 3", "key that is a list"),
    "mapping as key": ("{a: 1}: 3", "key that is a list or a mapping"),
    "number as key": ("1: 3", "Keys should be strings"),
    "null as key": ("null: 3", "Keys should be strings"),
    "large number": ("seed: " + "9" * 5000, "no int"),
    "large hexadecimal number": ("seed: 0x" + "f" * 5000, "must be a whole number"),
    "hexadecimal number too large for 64 bits": ("seed: !!int 0x" + "f" * 5000, "64 bits"),
    "large number in base 60": ("seed: 1" + ":59" * 5000, "must be a whole number"),
    "no date": ("seed: 2024-13-45", "no timestamp"),
    "date": ("seed: 2024-01-02", "must be a whole number"),
    "no integer": ("seed: !!int 'x'", "no int"),
    "empty integer": ("seed: !!int ''", "no int"),
    "no boolean": ("seed: !!bool x", "no bool"),
    "no time": ("seed: !!timestamp x", "no timestamp"),
    "no base 64": ("seed: !!binary é", "base64"),
    "set": ("seed: !!set {a, b}", "must be a whole number"),
    "second document": ("seed: 1\n---\nseed: 2", "document"),
    "large file": ("#" * 2**20 + "\nseed: 1", "at most 1048576"),
    "control character": ("seed: \x07", "not valid YAML"),
    "half a surrogate": ('seed: "\\ud800"', "must be a whole number"),
    "infinity": ("seed: .inf", "must be a whole number"),
    "not a number": ("seed: .nan", "must be a whole number"),
}


@pytest.mark.parametrize("name", YAML)
def test_yaml_is_data(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text, message = YAML[name]
    file = tmp_path / "params.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_params(file)
    assert str(caught.value).startswith(str(file))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 10_000
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["params.yaml", "not-utf-8"])
def test_what_is_no_text_file_is_named(name: str, tmp_path: Path) -> None:
    if name == "not-utf-8":
        (tmp_path / name).write_bytes(b"\xff\xfe\x00")
    else:
        (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=name):
        read_params(tmp_path / name)


ABSURD = [
    (("datasets", "digits", "certification", "n"), 10**12),
    (("datasets", "digits", "certification", "n0"), 2**31),
    (("datasets", "digits", "certification", "shards"), 10**12),
    (("datasets", "digits", "certification", "alpha"), float("nan")),
    (("datasets", "digits", "certification", "alpha"), float("inf")),
    (("datasets", "digits", "sigmas"), [1e-300]),
    (("datasets", "digits", "sigmas"), [1e300]),
    (("datasets", "digits", "sigmas"), [float("nan")]),
    (("datasets", "digits", "radii"), [float("nan")]),
    (("datasets", "digits", "radii"), [float("inf")]),
    (("datasets", "digits", "validation"), float("nan")),
    (("datasets", "digits", "unlabelled"), {"share": float("nan")}),
    (("datasets", "digits", "recipe", "epochs"), 0),
    (("datasets", "digits", "recipe", "epochs"), 10**12),
    (("datasets", "digits", "recipe", "batch_size"), 10**12),
    (("datasets", "digits", "recipe", "batch_size"), 10**400),
    (("datasets", "digits", "recipe", "learning_rate"), 10**400),
    (("datasets", "digits", "recipe", "learning_rate"), float("nan")),
    (("datasets", "digits", "recipe", "weight_decay"), float("inf")),
    (("datasets", "digits", "recipe", "augmentation"), None),
    (("datasets", "digits", "recipe", "milestones"), 5),
    (("datasets", "cones", "options", "dimension"), 10**12),
    (("datasets", "cones", "options", "dimension"), float("nan")),
    (("seed",), 10**20),
    (("training_seeds",), [10**20]),
    (("trainings", "smoothadv", "objective", "options", "samples"), 10**12),
    (("methods", "cohen-ds", "policy", "options", "iterations"), [10**12]),
    (("methods", "cohen-ds", "policy", "options", "iterations"), [float("nan")]),
    (("methods", "cohen-ds", "policy", "options", "step"), float("nan")),
    (("tables", "empirical", "predict", "n"), 10**12),
    (("tables", "empirical", "attacks", "smoothed", "samples"), [10**12]),
    (("tables", "promises", "shuffles"), 10**12),
    (("high_dimension", "dimension"), 10**12),
    (("high_dimension", "rates"), [float("nan")]),
]


@pytest.mark.parametrize(("path", "value"), ABSURD)
def test_an_absurd_number_is_named(content: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        check_members(parse_params(changed(content, path, value)))
    assert str(path[-1]) in str(caught.value)
    found = value[0] if isinstance(value, list) else value
    found = next(iter(found.values())) if isinstance(found, dict) else found
    assert str(found)[:6] in str(caught.value)


NETWORK = ("datasets", "digits", "architecture")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_network_of_another_program_has_a_plain_name(content: dict[str, Any], hostile: str) -> None:
    bad = HOSTILE[hostile]
    trusted = changed(content, ("trusted",), ["models"])
    for given in (
        {"import": bad},
        {"import": f"models.mine:{bad}"},
        {"import": f"models.{bad}:build"},
        {"timm": bad},
        {"torchvision": bad},
        {bad: "resnet18"},
        {"torchvision": "resnet18", "options": {bad: 1}},
        {"import": "models.mine:build", "options": {"name": bad}},
    ):
        with pytest.raises(ConfigError, match=r"datasets\.digits\.architecture"):
            parse_params(changed(trusted, NETWORK, given))
    with pytest.raises(ConfigError, match="trusted"):
        parse_params(changed(content, ("trusted",), [bad]))


@pytest.mark.parametrize("name", ["os:system", "os.path:join", "models.mine:build", "subprocess:call"])
def test_code_is_refused_unless_its_package_is_trusted(
    content: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else is trusted, and nothing is imported to find out."""
    monkeypatch.setattr("importlib.import_module", None)
    package = name.partition(":")[0].partition(".")[0]
    hostile = changed(content, NETWORK, {"import": name})
    for trusted in ([], ["torch"], [f"{package}s"], [package.upper()]):
        with pytest.raises(
            ConfigError, match=rf"^params: datasets.digits.architecture: .*{package!r} to the list `trusted`"
        ):
            parse_params(changed(hostile, ("trusted",), trusted))
    parse_params(changed(hostile, ("trusted",), [package]))


def test_trust_stands_in_params_yaml_alone(content: dict[str, Any], tmp_path: Path) -> None:
    """A file of the library that somebody adds cannot give it."""
    path = write_params(tmp_path, content)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "more.yaml").write_text("trusted: [os]\n")
    with pytest.raises(ConfigError, match=r"more\.yaml: trusted: not of the library"):
        read_params(path)
