"""Print the table of all settings, from their schema, for settings.md."""

import types
import typing
from collections.abc import Iterator
from inspect import isclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from alignment_extraction.settings.config import Params

_SIMPLE = {str: "text", int: "integer", float: "number", bool: "true or false", types.NoneType: ""}


def _type_name(annotation: Any) -> str:
    """How a type reads in the table: `integer`, `full / user`, `list of text`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
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
    if isclass(annotation) and issubclass(annotation, BaseModel):
        return "section"
    return _SIMPLE.get(annotation, "any")


def _sections(annotation: Any, path: str) -> Iterator[tuple[type[BaseModel], str]]:
    """The settings classes inside a type, each with the path of its keys."""
    if isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation, path
    path += {dict: ".NAME", tuple: "[]"}.get(typing.get_origin(annotation), "")
    for argument in typing.get_args(annotation):
        yield from _sections(argument, path)


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "required"
    if value in (None, ()) or isinstance(value, BaseModel):
        return ""
    shown = f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
    return f"`{shown.lower() if isinstance(value, bool) else shown}`"


def rows(model: type[BaseModel] = Params, path: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Key, type, default and meaning of every setting, sections before what they hold."""
    for name, field in model.model_fields.items():
        key = f"{path}.{name}".lstrip(".")
        sections = list(_sections(field.annotation, key))
        meaning = field.description
        if meaning is None and sections:
            summary = (sections[0][0].__doc__ or "").partition("\n")[0].rstrip(".")
            meaning = summary[:1].lower() + summary[1:]
        yield key, _type_name(field.annotation), _default(field), meaning or ""
        for section, inner in sections:
            yield from rows(section, inner)


def markdown() -> str:
    """All settings as a Markdown table."""
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for key, kind, default, meaning in rows():
        lines.append(f"| `{key}` | {kind} | {default} | {meaning.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
