"""The table of all settings, made from the schema so that the README cannot fall behind it."""

import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from alignment_extraction.settings.config import Params


def _type_name(annotation: Any) -> str:
    """How a type reads in the table: `integer`, `one of full, user`, `list of name`."""
    simple = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): ""}
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in simple:
        return simple[annotation]
    if origin is typing.Literal:
        return " / ".join(f"`{value}`" for value in arguments)
    if origin is typing.Annotated:
        return _type_name(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(filter(None, map(_type_name, arguments)))
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return f"{_type_name(arguments[0])} to {_type_name(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return "any"


def _models(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """The settings classes inside a type, each with what stands for its keys in a path."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, ""
    elif origin is dict:
        for model, suffix in _models(arguments[1]):
            yield model, ".NAME" + suffix
    elif origin is tuple:
        for model, suffix in _models(arguments[0]):
            yield model, "[]" + suffix
    else:
        for argument in arguments:
            yield from _models(argument)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel) or value == ():
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


def rows(model: type[BaseModel] = Params, path: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Key, type, default and meaning of every setting, sections before what they hold."""
    for name, field in model.model_fields.items():
        key = f"{path}.{name}" if path else name
        meaning = field.description
        nested = list(_models(field.annotation))
        if meaning is None and nested:
            summary = (nested[0][0].__doc__ or "").strip().splitlines()[0].rstrip(".")
            meaning = summary[:1].lower() + summary[1:]
        yield key, _type_name(field.annotation), _default(field), meaning or ""
        for inner, suffix in nested:
            yield from rows(inner, key + suffix)


def markdown() -> str:
    """All settings as a Markdown table."""
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{key}` | {kind} | {default} | {meaning.replace('|', '/')} |"
        for key, kind, default, meaning in rows()
    ]
    return "\n".join(lines) + "\n"
