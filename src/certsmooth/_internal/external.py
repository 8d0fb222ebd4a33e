"""Architectures of other programs: what params.yaml and checkpoints say of one, and the import of its code.

No numerical library is imported here, as the configuration is read without any.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

from certsmooth._internal.checks import check_choice
from certsmooth._internal.extras import optional_libraries
from certsmooth._internal.imports import import_code
from certsmooth.errors import ConfigError, nearest

Library = Literal["import", "timm", "torchvision"]
LIBRARIES: tuple[Library, ...] = get_args(Library)
Value = bool | int | float | str | None

FOLDER = "models"
"""The package whose modules are the files of this folder of the project."""

_FUNCTION = re.compile(r"[A-Za-z_]\w{0,99}(\.[A-Za-z_]\w{0,99}){0,9}:[A-Za-z_]\w{0,99}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_OPTION = re.compile(r"[A-Za-z]\w{0,99}", re.ASCII)
_READS = re.compile("pretrained.*|checkpoint.*|weights.*|cache_dir|.*_file|.*_path|progress|num_classes|in_chans")
"""Options of timm and torchvision that would fetch or read weights, or that the data set says."""


@dataclass(frozen=True)
class ExternalArchitecture:
    """A network whose code is not in this package.

    Attributes:
        library: "timm" or "torchvision", or "import" for any importable function.
        name: of the model there; of a function ``package.module:function``, which is called with the shape of an image
            (a tuple), the number of classes and the options, and returns a torch module.
        options: further arguments.

    Raises:
        ConfigError: a value is not of that form, or an option would read weights from elsewhere.
    """

    library: Library
    name: str
    options: dict[str, Value | tuple[Value, ...]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_choice("architecture", self.library, LIBRARIES)
        form, right = (_FUNCTION, "package.module:function") if self.library == "import" else (_NAME, "name of a model")
        if not isinstance(self.name, str) or not form.fullmatch(self.name):
            raise ConfigError(f"architecture.{self.library}: {self.name!r}; must be a {right}")
        for name, value in self.options.items():
            _check_option(self.library, name, value)

    def __str__(self) -> str:
        return f"{self.library} {self.name}"

    @property
    def module(self) -> str:
        """The module of an imported function."""
        return self.name.partition(":")[0]

    @property
    def packages(self) -> tuple[str, ...]:
        """The package whose code runs, if somebody must have allowed that; the libraries are as trusted as torch is."""
        return (self.module.partition(".")[0],) if self.library == "import" else ()


Architecture = str | ExternalArchitecture
"""A member of certsmooth.science.models, or one of another program."""


def packages_of(architecture: Architecture) -> tuple[str, ...]:
    """Return the packages whose code an architecture imports, which must be trusted; see `check_trusted`."""
    return () if isinstance(architecture, str) else architecture.packages


def _check_option(library: Library, name: object, value: object) -> None:
    if not isinstance(name, str) or not _OPTION.fullmatch(name):
        raise ConfigError(f"architecture.options: bad name {name!r}; must be that of an argument")
    if library != "import" and _READS.fullmatch(name):
        raise ConfigError(f"architecture.options.{name}: must not be given: weights are those of the checkpoint")
    for each in value if isinstance(value, tuple) else (value,):
        if not isinstance(each, Value) or (isinstance(each, str) and not _NAME.fullmatch(each)):
            right = "must be a number, true, false, null, a list of these, or text of at most 100 letters, digits"
            raise ConfigError(f"architecture.options.{name}: {each!r}; {right}, '_', '-' and '.'")


def read_architecture(value: object) -> Architecture:
    """Return what params.yaml, or the command line, says of an architecture.

    Args:
        value: a name, or a mapping of ``import``, ``timm`` or ``torchvision`` to a name, and of ``options``.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(value, str | ExternalArchitecture):
        return value
    keys = (*LIBRARIES, "options")
    if not isinstance(value, Mapping):
        raise ConfigError(f"architecture: {value!r}; must be a name, or a mapping of {', '.join(keys)}")
    for key in value:
        if key not in keys:
            raise ConfigError(f"architecture: unknown key {key!r}; {nearest(str(key), keys)}")
    given: list[Library] = [library for library in LIBRARIES if library in value]
    if len(given) != 1:
        raise ConfigError(f"architecture: {' and '.join(given) or dict(value)}; must be one of {', '.join(LIBRARIES)}")
    options = value.get("options", {})
    if not isinstance(options, Mapping):
        raise ConfigError(f"architecture.options: {options!r}; must be a mapping of names")
    plain = {name: tuple(each) if isinstance(each, list) else each for name, each in options.items()}
    return ExternalArchitecture(given[0], value[given[0]], plain)


def check_trusted(architecture: Architecture, trusted: Collection[str], *, remedy: str) -> None:
    """Raise unless the code that an architecture imports is of a package that somebody trusts.

    Args:
        architecture: any.
        trusted: names of packages.
        remedy: how to trust one; ``{}`` stands for its name.

    Raises:
        ConfigError: it is not; names the package and the remedy.
    """
    for package in packages_of(architecture):
        if package not in trusted:
            raise ConfigError(
                f"architecture: {architecture} would run code of {package!r}, which is not trusted; if you trust it, "
                f"{remedy.format(package)}"
            )


def imported(architecture: ExternalArchitecture) -> Callable[..., Any]:
    """Return the function of an architecture with ``import``; its module is imported.

    Raises:
        ConfigError: there is no such module or function, or its import fails.
    """
    package, function = architecture.packages[0], architecture.name.partition(":")[2]
    if package == FOLDER:
        _open_folder()
    module = import_code(architecture.module, f"architecture.import: {architecture.name!r}")
    found = getattr(module, function, None)
    if not callable(found):
        raise ConfigError(f"architecture.import: {architecture.name!r}; its module has no such function")
    return found  # type: ignore[no-any-return]


def library(name: str) -> Any:  # noqa: ANN401 - a module
    """Return a library of models.

    Raises:
        MissingLibraryError: it is not installed.
    """
    with optional_libraries():
        return importlib.import_module(name)


def code_of(architecture: ExternalArchitecture) -> Path | str:
    """Return what the code of an architecture is: the file of the imported module, or the version of the library.

    Nothing is imported. What the module itself imports is not looked at.

    Raises:
        ConfigError: there is no such module.
    """
    if architecture.library != "import":
        try:
            return f"{architecture.library}=={metadata.version(architecture.library)}"
        except metadata.PackageNotFoundError:
            return architecture.library
    for path in _candidates(architecture.module):
        if path.is_file():
            return path
    right = f"must be installed, or a file below {FOLDER}/"
    raise ConfigError(f"architecture.import: no module {architecture.module!r}; {right}")


def _candidates(module: str) -> Iterator[Path]:
    """Yield where the source of a module may be: of a package, its ``__init__.py``."""
    package, *parts = module.split(".")
    if package == FOLDER:
        places = [Path(FOLDER)]
    else:
        try:
            spec = importlib.util.find_spec(package)
        except (ImportError, ValueError):
            return
        if spec is None:
            return
        places = [Path(place) for place in spec.submodule_search_locations or ()]
        if not parts and not places and spec.origin:
            yield Path(spec.origin)
    for place in places:
        path = place.joinpath(*parts)
        yield path / "__init__.py"
        if parts:
            yield path.with_name(f"{path.name}.py")


def _open_folder() -> None:
    """Let ``models`` be the package of the files of that folder, below the working folder, whatever else is installed.

    Not by the path of imports: then any file of the project could take the place of a library's.
    """
    place = str(Path(FOLDER).resolve())
    known = sys.modules.get(FOLDER)
    if known is not None and list(getattr(known, "__path__", ())) == [place]:
        return
    for name in [each for each in sys.modules if each == FOLDER or each.startswith(f"{FOLDER}.")]:
        del sys.modules[name]
    package = ModuleType(FOLDER)
    package.__path__ = [place]
    sys.modules[FOLDER] = package
