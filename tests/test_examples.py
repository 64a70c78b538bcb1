"""The `>>>` examples in docstrings give what they show, and what people call first has one."""

import doctest
import importlib
import inspect
import pkgutil

import pytest
import torch

import segrobust.attacks
import segrobust.functional
import segrobust.metrics

PACKAGES = (segrobust.functional, segrobust.metrics)
MODULES = [
    f"{package.__name__}.{found.name}" for package in PACKAGES for found in pkgutil.iter_modules(package.__path__)
]
ATTACKS = {name: getattr(segrobust.attacks, name) for name in segrobust.attacks.__all__}
CALLED_FIRST = ["PGD", "APGD", "AlmaProx", "LagrangianFMN", "MinimalNormSearch", "Masked", "pad_batch"]
CALLED_FIRST += ["Untargeted", "Targeted", "Localized"]
ATTACK_MODULES = sorted({ATTACKS[name].__module__ for name in ATTACKS if ">>> " in (ATTACKS[name].__doc__ or "")})


def examples(module):
    """Docstrings with examples of a module, which find its names, `torch` and, in attacks, all attacks."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    names = {"torch": torch} | (ATTACKS if module.__name__.startswith("segrobust.attacks") else {})
    found = finder.find(module, module.__name__, extraglobs=names)
    return [each for each in found if each.examples]


@pytest.mark.parametrize("name", [*MODULES, *ATTACK_MODULES])
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


@pytest.mark.parametrize("name", CALLED_FIRST)
def test_the_attacks_and_parts_that_people_call_first_have_an_example(name):
    assert ">>> " in ATTACKS[name].__doc__
