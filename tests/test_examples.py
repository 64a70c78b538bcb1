"""The `>>>` examples in docstrings give what they show, and every public function of these packages has one."""

import doctest
import importlib
import inspect
import pkgutil

import pytest
import torch

import segrobust.functional
import segrobust.metrics

PACKAGES = (segrobust.functional, segrobust.metrics)
MODULES = [
    f"{package.__name__}.{found.name}" for package in PACKAGES for found in pkgutil.iter_modules(package.__path__)
]


def examples(module):
    """Docstrings with examples of a module, which find the names of the module and `torch`."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(module, module.__name__, extraglobs={"torch": torch})
    return [each for each in found if each.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name):
    runner = doctest.DocTestRunner(verbose=False)
    for each in examples(importlib.import_module(name)):
        output = []
        runner.run(each, out=output.append)
        assert not output, "".join(output)


def public_functions():
    for name in MODULES:
        module = importlib.import_module(name)
        for function in vars(module).values():
            if inspect.isfunction(function) and function.__module__ == name and not function.__name__.startswith("_"):
                yield function


@pytest.mark.parametrize("function", list(public_functions()), ids=lambda function: function.__name__)
def test_every_public_function_has_an_example(function):
    assert ">>> " in (function.__doc__ or "")
