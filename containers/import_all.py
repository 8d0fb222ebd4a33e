"""Import every module of the package, so that the bytecode of all that they import is written into the image."""

import importlib
import pkgutil

import certsmooth

for module in pkgutil.walk_packages(certsmooth.__path__, "certsmooth."):
    if not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
