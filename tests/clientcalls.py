"""What the client's methods ask for and say that they return, read from their source."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import shared.client

# Of a call: where its method and its path stand behind the answer.
_CALLS = {"ask": (1, 2), "send": (1, 2), "watch": (None, 1)}


@dataclass(frozen=True)
class Asked:
    """One request of the client: ``path`` has ``{}`` for what is filled in."""

    where: str
    method: str
    path: str
    answer: Any


def asked() -> Iterator[Asked]:
    """Yield every request of the client with the type of its answer."""
    for found in pkgutil.iter_modules(shared.client.__path__):
        module = importlib.import_module(f"shared.client.{found.name}")
        if found.name == "http":
            continue
        source = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
        for function in ast.walk(source):
            if isinstance(function, ast.FunctionDef):
                yield from _of_function(module, function)


def _of_function(module: ModuleType, function: ast.FunctionDef) -> Iterator[Asked]:
    names = {
        target.id: node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(function):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = ast.unparse(node.func.value)
        if node.func.attr not in _CALLS or not owner.endswith("connection"):
            continue
        method_at, path_at = _CALLS[node.func.attr]
        method = "GET" if method_at is None else ast.literal_eval(node.args[method_at])
        where = f"{module.__name__}.{function.name}"
        path = _text(node.args[path_at], names, vars(module))
        yield Asked(where, method, path, getattr(module, ast.unparse(node.args[0])))


def _text(node: ast.expr, names: dict[str, ast.expr], module: dict[str, Any]) -> str:
    """Return a text with ``{}`` for what only the running program knows."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, names, module) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        inner = node.value
        known = isinstance(inner, ast.Name) and inner.id in module
        return _text(inner, names, module) if known else "{}"
    assert isinstance(node, ast.Name), ast.unparse(node)
    return _text(names[node.id], names, module) if node.id in names else str(module[node.id])
