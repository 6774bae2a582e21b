"""The explorers of the course, as their lessons declare them: found on demand, never listed by hand."""

import importlib
import pkgutil
from collections.abc import Callable

LESSONS = "diffusion_lib.lessons"
_factories: dict[tuple[str, str], Callable] = {}  # by module and name


def register(factory: Callable) -> None:
    """Remember a factory; ValueError for one that does not stand in diffusion_lib/lessons/<lesson>/explorers.py."""
    package, _, module = factory.__module__.rpartition(".")
    if module != "explorers" or package.rpartition(".")[0] != LESSONS:
        raise ValueError(f"factory: expected one of {LESSONS}.<lesson>.explorers, got one of {factory.__module__}")
    _factories[factory.__module__, factory.__name__] = factory


def is_explorer(function: object) -> bool:
    """Return whether `function` is a registered factory."""
    return any(function is factory for factory in _factories.values())


def explorers() -> list[Callable]:
    """Import the explorers of every lesson and return their factories, sorted by module and name."""
    lessons = importlib.import_module(LESSONS)
    for lesson in pkgutil.iter_modules(lessons.__path__, f"{LESSONS}."):
        package = importlib.import_module(lesson.name)
        if any(module.name == "explorers" for module in pkgutil.iter_modules(package.__path__)):
            importlib.import_module(f"{lesson.name}.explorers")
    return [factory for _, factory in sorted(_factories.items())]


def lesson_of(factory: Callable) -> str:
    """Return the lesson that a factory belongs to: the folder of its module."""
    return factory.__module__.split(".")[-2]
