"""The graph's vocabulary, declared once: stores, answers and reference pages are made from it."""

from importlib import import_module
from pkgutil import iter_modules

from .base import EDGE_TYPES, LABELS, Edge, EdgeType, Label, path_of

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["EDGE_TYPES", "LABELS", "Edge", "EdgeType", "Label", "path_of"]
