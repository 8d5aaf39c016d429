"""The rules of the graph vocabulary: what a label, an edge type and an edge are."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

RESERVED = frozenset({"id", "label", "host", "first_seen", "gone_at", "scope", "seq"})
"""Columns that the store itself keeps beside a label's fields."""

SCALARS = (str, int, float, bool, datetime)

LABELS: dict[str, type[Label]] = {}
EDGE_TYPES: dict[str, EdgeType] = {}


class Label(BaseModel):
    """One kind of node: a subclass is the label, its fields are the properties.

    A subclass is refused when it is defined, not when it is used: see `__pydantic_init_subclass__`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: ClassVar[tuple[str, ...]]
    """The fields that tell one node from another on the same host."""
    volatile: ClassVar[frozenset[str]] = frozenset()
    """Fields whose change is not a change: counters, ages, rates."""
    series: ClassVar[tuple[str, ...] | None] = None
    """For samples only: the fields that name the measured thing; the rest are its numbers at `timestamp`."""
    keep: ClassVar[timedelta | None] = None
    """How long a vanished node, or a sample, of this label is kept at most; None: as `[retention]` says."""
    word: ClassVar[str] = ""
    """The domain word of the label's event types, `package` in `package_install`."""
    changed_at: ClassVar[str] = ""
    """The field, if there is one, that tells when a node got its present state."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if cls.__mro__[1] is not Label:
            raise TypeError(
                f"{cls.__name__}: say more fields with a second label and an edge, not a subclass"
            )
        if not (cls.__doc__ or "").strip():
            raise TypeError(f"{cls.__name__}: a label needs a docstring")
        _check_names(cls)
        for name, field in cls.model_fields.items():
            if not field.description:
                raise TypeError(f"{cls.__name__}.{name}: a field needs a description")
            _check_type(cls.__name__, name, field.annotation)
        LABELS[cls.__name__] = cls

    @property
    def node_id(self) -> str:
        """The node's id without its host: `Software/apt/nginx/amd64/`."""
        values = self.__dict__
        return path_of(type(self), *[values[name] for name in self.identity])

    @classmethod
    def event_type(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
        """The `Event.type` of a change that no record of the machine explains."""
        what = "appeared" if before is None else "vanished" if after is None else "changed"
        return f"{cls.word or cls.__name__.lower()}_{what}"

    @classmethod
    def event_values(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any]:
        """What an event about this change says of its subject, beside the changed fields."""
        values = after or before or {}
        return {"subject": str(values.get("name") or values[cls.identity[-1]])}

    @classmethod
    def explained_by(
        cls, event: dict[str, Any], before: dict[str, Any] | None, after: dict[str, Any] | None
    ) -> bool:
        """Whether a recorded event about the node leads from the state `before` to the state `after`."""
        return True

    @classmethod
    def passing(cls, values: dict[str, Any]) -> bool:
        """Whether a node with these values is on its way to another state, which a record will tell."""
        return False


def path_of(label: type[Label], *identity: object) -> str:
    """A node's id without its host, from its label and the values of its identity fields."""
    return f"{label.__name__}/{'/'.join([_quoted(value) for value in identity])}"


@lru_cache(maxsize=65_536, typed=True)
def _quoted(value: object) -> str:
    return quote("" if value is None else str(value), safe="", errors="surrogateescape")


@dataclass(frozen=True)
class EdgeType:
    """A declared relationship: its name, the labels at its ends, and one sentence of meaning."""

    name: str
    start: tuple[type[Label], ...]
    end: tuple[type[Label], ...]
    says: str

    def __post_init__(self) -> None:
        if not self.name.isupper() or not self.says.strip():
            raise TypeError(f"{self.name}: a relationship has a name in CAPITALS and one sentence of meaning")
        EDGE_TYPES[self.name] = self


@dataclass(frozen=True, slots=True)
class Edge:
    """One relationship between two nodes of this host, named by their paths."""

    type: EdgeType
    start: str
    end: str


def _check_names(cls: type[Label]) -> None:
    """Refuse identities that are no fields and fields that the store keeps itself."""
    wrong = [name for name in cls.identity if name not in cls.model_fields]
    wrong += [name for name in cls.volatile if name not in cls.model_fields]
    wrong += [name for name in cls.series or () if name not in cls.model_fields]
    if wrong or not cls.identity:
        raise TypeError(f"{cls.__name__}: {wrong or 'an empty identity'} names no field")
    if taken := RESERVED & cls.model_fields.keys():
        raise TypeError(f"{cls.__name__}: {sorted(taken)} belongs to the store")


def _check_type(label: str, name: str, annotation: Any) -> None:
    """Refuse a property that is not a scalar, an optional scalar or a list of scalars."""
    kind = scalar(annotation)
    if kind is None:
        kinds = "str, int, float, bool, datetime or a list of one"
        raise TypeError(f"{label}.{name}: {annotation} is no property type; use {kinds}")


def scalar(annotation: Any) -> tuple[type, bool] | None:
    """The scalar behind a property's annotation and whether it is a list of them; None when it is neither."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        rest = [a for a in arguments if a is not type(None)]
        return scalar(rest[0]) if len(rest) == 1 else None
    if origin is list:
        return (arguments[0], True) if arguments[0] in SCALARS else None
    return (annotation, False) if annotation in SCALARS else None
