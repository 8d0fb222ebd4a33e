"""What a forward pass can write to, read off its code: nothing, the module itself, or more.

Several threads may run copies of a module only if a copy holds all that its forward pass can write to. `reach` looks
at every object that the module holds, hooks among them, and at the bytecode of every function that its forward pass
can come to. The answer is `Reach.MORE` unless all of this is known to be harmless:

* Classes of modules are those of ``torch.nn``, torchvision and certsmooth, which keep nothing in evaluation mode, or
  their functions are looked at as all others are, whatever class of the model has a function of a name that is used.
* A function has constants, functions, torch and math in its global names, its closure and its defaults, and as class
  attributes, and a few builtins: so no list, tensor, module or other object that copies would share. It assigns to
  local names, and a method to attributes of its module; not to those of a parameter, say, which copies share.
* Objects that a module holds are tensors, modules, numbers, strings and other constants, functions, bound methods,
  partial functions, and lists, tuples, sets and dicts of those: what ``copy.deepcopy`` copies, functions apart.
* No module is in training mode, has parameters that are not there yet, or says itself how it is copied; and there are
  no hooks for all modules of the process.

What it cannot see: a write to a parameter in place (`_internal.replicas` finds it while it runs), and functions of
torch that were replaced.
"""

from __future__ import annotations

import builtins
import dataclasses
import dis
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, CodeType, EllipsisType, FunctionType, MethodType, ModuleType, NoneType

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.parameter import is_lazy

_KNOWN_CLASSES = ("torch.nn.", "torchvision.models.", "torchvision.ops.", "certsmooth.")
_KNOWN_MODULES = ("torch", "math")
_CONSTANTS = {NoneType, bool, int, float, complex, str, bytes, slice, range, EllipsisType}
_CONSTANTS |= {torch.dtype, torch.device, torch.Size, torch.memory_format, torch.layout}
_CONTAINERS = {dict, OrderedDict, list, tuple, set, frozenset, deque}
_TENSORS = {Tensor, nn.Parameter, nn.Buffer}
_BUILTINS: set[object] = {abs, all, any, bool, divmod, enumerate, filter, float, hasattr, int, isinstance, len, list}
_BUILTINS |= {dict, map, max, min, pow, print, range, reversed, round, set, slice, sorted, str, sum, super, tuple, zip}
_HOOKS_OF_ALL = [name for name in vars(torch_module) if name.startswith("_global_") and name.endswith("hooks")]
# Names by which code would come to what belongs to the class, the process, or a tensor's other owners.
_FORBIDDEN_NAMES = {"data", "backends", "random", "seed", "manual_seed", "default_generator", "backward"}
_FORBIDDEN_NAMES |= {"register_hook", "register_post_accumulate_grad_hook"}
_HARMLESS_DUNDERS = {"__init__", "__call__", "__len__", "__getitem__", "__name__"}
_COPYING = {"__deepcopy__", "__copy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__new__"}
_NOT_RUN = {"__init__", "__repr__", "__str__", "__doc__", "__module__", "__qualname__", "__dict__", "__weakref__"}
_NOT_RUN |= {"__annotations__", "__parameters__", "__orig_bases__", "__init_subclass__", "__constants__"}
_NOT_RUN |= {"__firstlineno__", "__static_attributes__", "__abstractmethods__"}


class Reach(Enum):
    """What a forward pass can write to."""

    NOTHING = "nothing"
    ITSELF = "itself"
    MORE = "more"


def reach(model: nn.Module) -> Reach:
    """Return what a forward pass of a model in evaluation mode can write to; see the module's docstring."""
    walk = _Walk()
    try:
        walk.run(model)
    except _NotKnownError:
        return Reach.MORE
    return Reach.ITSELF if walk.classes or walk.functions else Reach.NOTHING


class _NotKnownError(Exception):
    """Something of which it is not known that a copy of the module has its own."""


class _Walk:
    """Everything that a forward pass can come to.

    Attributes:
        classes: whose functions are looked at.
        functions: those that were looked at.
        names: of attributes that the functions use.
    """

    def __init__(self) -> None:
        self.classes: set[type] = set()
        self.functions: set[tuple[FunctionType, bool]] = set()
        self.names: set[str] = {"forward", "_call_impl", "_wrapped_call_impl", "_slow_forward"}
        self._seen: dict[int, object] = {}

    def run(self, model: nn.Module) -> None:
        """Raise `_NotKnownError` if the forward pass may write to more than the model."""
        _require(not any(getattr(torch_module, name) for name in _HOOKS_OF_ALL))
        self._held([model])
        before = -1
        while before < len(self.names) + len(self.functions) + len(self.classes):
            before = len(self.names) + len(self.functions) + len(self.classes)
            for owner in list(self.classes):
                for name, value in list(vars(owner).items()):
                    self._class_attribute(name, value)

    def _held(self, objects: Iterable[object]) -> None:
        """Look at objects that are copied with the model."""
        waiting = list(objects)
        while waiting:
            thing = waiting.pop()
            if type(thing) in _CONSTANTS or id(thing) in self._seen:
                continue
            self._seen[id(thing)] = thing
            waiting.extend(self._parts(thing))

    def _parts(self, thing: object) -> Iterator[object]:
        """Yield what an object holds that is copied with it."""
        kind = type(thing)
        if isinstance(thing, nn.Module):
            self._class(kind)
            _require(not thing.training)
            yield from (value for name, value in vars(thing).items() if "state_dict" not in name)
        elif isinstance(thing, Tensor):
            _require(kind in _TENSORS)
            _require(not is_lazy(thing))
        elif kind in (dict, OrderedDict):
            yield from (part for item in thing.items() for part in item)  # type: ignore[attr-defined]
        elif kind in _CONTAINERS:
            yield from thing  # type: ignore[misc]
        elif isinstance(thing, MethodType):
            yield thing.__self__
            self._shared(thing.__func__, of_module=isinstance(thing.__self__, nn.Module))
        elif kind is partial:
            yield from (thing.func, thing.args, thing.keywords)  # type: ignore[attr-defined]
        elif dataclasses.is_dataclass(thing) and kind.__module__.startswith("certsmooth."):
            yield from (getattr(thing, field.name) for field in dataclasses.fields(thing))
        else:
            self._shared(thing)

    def _shared(self, thing: object, *, of_module: bool = False) -> None:
        """Look at an object that all copies share: it must be one that no one writes to.

        Args:
            thing: the object.
            of_module: whether it is a function whose first argument is a module that is copied.
        """
        kind = type(thing)
        if kind in _CONSTANTS or _is_builtin(thing):
            return
        if kind in (tuple, frozenset):
            for part in thing:  # type: ignore[attr-defined]
                self._shared(part)
        elif isinstance(thing, FunctionType):
            self._function(thing, of_module)
        else:
            _require(isinstance(thing, ModuleType | type) and _root(thing) in _KNOWN_MODULES)

    def _class(self, kind: type) -> None:
        _require(type(kind) is type)
        known = [owner for owner in kind.__mro__ if f"{owner.__module__}.".startswith(_KNOWN_CLASSES)]
        for owner in kind.__mro__:
            if owner is not object and owner not in known:
                _require(not _COPYING & vars(owner).keys())
                self.classes.add(owner)
                for base in known:  # whose functions call the one that this class has in place of theirs
                    self.names.update(vars(owner).keys() & vars(base).keys() if base is not nn.Module else ())

    def _class_attribute(self, name: str, value: object) -> None:
        if name in _NOT_RUN or not (name in self.names or name.startswith("__")):
            return
        if isinstance(value, property):
            for function in (value.fget, value.fset, value.fdel):
                self._shared(function, of_module=True)
        elif isinstance(value, staticmethod):
            self._shared(value.__func__)
        else:
            self._shared(value, of_module=True)

    def _function(self, function: FunctionType, of_module: bool) -> None:
        if (function, of_module) in self.functions:
            return
        _require(not _is_forbidden(function.__name__))
        if _root(function) in _KNOWN_MODULES:
            wrapped = getattr(function, "__wrapped__", None)
            _require(wrapped is not None or function.__closure__ is None)
            self._shared(wrapped, of_module=of_module)
            return
        self.functions.add((function, of_module))
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._shared(value)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name != "__class__":  # that of super()
                self._shared(_content(cell))
        for code in _nested(function.__code__):
            self._code(code, function, of_module=of_module and code is function.__code__ and code.co_argcount > 0)

    def _code(self, code: CodeType, function: FunctionType, *, of_module: bool) -> None:
        outside = set(function.__code__.co_freevars)
        instructions = list(dis.get_instructions(code))
        for at, instruction in enumerate(instructions):
            name, value = instruction.opname, instruction.argval
            if name in ("LOAD_GLOBAL", "LOAD_NAME"):
                _require(value in function.__globals__ or hasattr(builtins, value))
                self._shared(function.__globals__.get(value, getattr(builtins, value, None)))
            elif name == "IMPORT_NAME":
                _require(value.partition(".")[0] in _KNOWN_MODULES)
            elif name in ("STORE_ATTR", "DELETE_ATTR"):
                _require(of_module and _owner(instructions, at) == code.co_varnames[0])
            elif name in ("STORE_DEREF", "DELETE_DEREF"):
                _require(value not in outside)
            else:
                _require(name not in ("STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_BUILD_CLASS"))
        for attribute in code.co_names:
            _require(not _is_forbidden(attribute))
        self.names.update(code.co_names)


def _require(is_known: bool) -> None:
    if not is_known:
        raise _NotKnownError


def _is_forbidden(name: str) -> bool:
    is_dunder = name.startswith("__") and name.endswith("__") and name not in _HARMLESS_DUNDERS
    return is_dunder or name in _FORBIDDEN_NAMES or name.startswith("set_")


def _is_builtin(thing: object) -> bool:
    """Return whether it is a harmless builtin, an exception, or a compiled function of torch or math."""
    if isinstance(thing, type):
        return thing in _BUILTINS or issubclass(thing, Exception)
    if isinstance(thing, BuiltinFunctionType):
        owner = thing.__self__
        is_known = isinstance(owner, ModuleType | type) and _root(owner) in _KNOWN_MODULES
        return thing in _BUILTINS or (is_known and not _is_forbidden(thing.__name__))
    return False


def _root(thing: ModuleType | type | FunctionType) -> str:
    """Return the package that a thing comes from; of a function, that of its code."""
    name = thing.__name__ if isinstance(thing, ModuleType) else thing.__module__
    if isinstance(thing, FunctionType):
        name = thing.__globals__.get("__name__", "")
    return str(name).partition(".")[0]


def _content(cell: object) -> object:
    try:
        return cell.cell_contents  # type: ignore[attr-defined]
    except ValueError:  # it has none yet
        raise _NotKnownError from None


def _nested(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and those of the functions that are defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _owner(instructions: list[dis.Instruction], at: int) -> str | None:
    """Return the local name to whose attribute an instruction assigns; None if it is of something else."""
    found = instructions[at - 1]
    if at == 0 or not found.opname.startswith(("LOAD_FAST", "STORE_FAST_LOAD_FAST", "LOAD_DEREF")):
        return None
    return str(found.argval[-1] if isinstance(found.argval, tuple) else found.argval)
