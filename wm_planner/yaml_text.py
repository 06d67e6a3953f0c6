"""YAML of settings, strictly: what is read is what somebody meant, and no more than that.

Two equal keys, keys that are not text, and tags are errors with a line. Text that grows when it is
expanded (aliases), or is nested without end, is refused before anything is made of it. Numbers are
those of JSON: ``010`` and ``1:30``, which YAML 1.1 reads as 8 and 90, stay text, and so do dates.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml
from yaml.constructor import ConstructorError

MAX_BYTES = 1 << 18  # of a text; the largest file of settings has 3 KB
_MOST_VALUES = 50_000  # with what aliases repeat
_DEEPEST = 50
_UNWRITABLE = re.compile("[\\0\ud800-\udfff]")
_MERGE = "tag:yaml.org,2002:merge"
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(
    r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)


def parse_yaml(text: str) -> Any:
    """The plain value of a YAML text.

    Raises:
        ValueError: it cannot be read; the message has one line, and says where.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"has {len(text)} characters; at most {MAX_BYTES} are read")
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        said = ": ".join(filter(None, (error.context, error.problem)))
        raise ValueError(where + said) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ValueError(f"line {line}: character {error.character:#06x} is not allowed") from error


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no annotations
    """Counts what it composes, and compares keys, before it makes anything."""

    yaml_implicit_resolvers: ClassVar = {
        first: [
            (tag, form)
            for tag, form in known
            if tag.rpartition(":")[2] not in ("timestamp", "int", "float")
        ]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._count = 0
        self._sizes: dict[int, int] = {}  # of nodes that are whole, by id; the anchors keep them

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if getattr(event, "tag", None) not in (None, "!"):
            raise _refused(f"a tag, {event.tag}: write the value plainly", event.start_mark)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _refused(f"values within values, more than {_DEEPEST} deep", event.start_mark)
        before = self._count
        node = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                raise _refused(f"'*{event.anchor}' stands within itself", event.start_mark)
            self._count += self._sizes[id(node)]
        else:
            self._count += 1
            self._sizes[id(node)] = self._count - before
        if self._count > _MOST_VALUES:
            raise _refused(
                f"more than {_MOST_VALUES} values, aliases written out", event.start_mark
            )
        self._depth -= 1
        return node

    def compose_scalar_node(self, anchor: Any) -> Any:
        node = super().compose_scalar_node(anchor)
        if _UNWRITABLE.search(node.value):
            raise _refused("a character that no name or path can have", node.start_mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == _MERGE:
                continue
            if key.tag != "tag:yaml.org,2002:str":
                raise _refused(f"{_shown(key)}, a key, is not text; quote it", key.start_mark)
            if key.value in lines:
                raise _refused(
                    f"key '{key.value}' stands here and in line {lines[key.value]}; remove one",
                    key.start_mark,
                )
            lines[key.value] = key.start_mark.line + 1
        return node


for _tag, _form in (("int", _INT), ("float", _FLOAT)):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_form.pattern})\\Z"), list("-+.0123456789")
    )


def _refused(problem: str, mark: Any) -> ConstructorError:
    return ConstructorError(None, None, problem, mark)


def _shown(node: Any) -> str:
    return f"'{node.value}'" if isinstance(node.value, str) else "a list or mapping"
