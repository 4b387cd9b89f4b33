"""The examples in the documentation of the package."""

import doctest
import importlib
import pkgutil

import pytest

import sifleet

MODULES = sorted(module.name for module in pkgutil.walk_packages(sifleet.__path__, "sifleet."))


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples() -> None:
    assert sum(doctest.testmod(importlib.import_module(name)).attempted for name in MODULES) >= 4
