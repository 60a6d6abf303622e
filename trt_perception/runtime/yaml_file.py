# SPDX-License-Identifier: Apache-2.0
"""YAML from outside: data and nothing else, and no more of it than a person writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from trt_perception.core import PerceptionError
from trt_perception.core.errors import one_line

#: Bytes of a file, and values in it once all its aliases are written out.
LARGEST = 1 << 20
MOST = 100_000
#: Lists and maps within each other.
DEEPEST = 50


class YamlError(PerceptionError):
    """A file that is no YAML, or more than anybody means."""


class Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Plain values only; refuses a few lines of aliases that stand for gigabytes, and cycles."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._nodes = self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A value, unless there were too many before it, or around it."""
        self._nodes += 1
        if self._nodes > MOST:
            raise YamlError(f'it holds more than {MOST} values')
        if self._depth > DEEPEST:
            raise YamlError(f'it is nested more than {DEEPEST} deep')
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> Any:
        """The document, looked at before anything is made of it."""
        node = super().get_single_node()
        _weigh(node, {})
        return node


def read_yaml(path: Path, loader: type[Loader] = Loader) -> Any:
    """What a file holds; None if it is empty.

    Raises:
        YamlError: it cannot be read. The text does not name the file.
    """
    try:
        with path.open('rb') as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise YamlError(f'it has more than {LARGEST} bytes')
        return yaml.load(content.decode(), loader)
    except OSError as error:
        raise YamlError(error.strerror or one_line(error)) from None
    except PerceptionError:
        raise
    except Exception as error:  # a number or date that is none raises whatever reads it does
        raise YamlError(one_line(error)) from None


def _weigh(node: Any, known: dict[int, int]) -> int:
    """How many values a node is, written out."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    weight = known.get(id(node))
    if weight is None:
        known[id(node)] = MOST + 1  # what comes back to it is without end
        below = [n for item in node.value for n in (item if isinstance(item, tuple) else (item,))]
        weight = known[id(node)] = 1 + sum(_weigh(child, known) for child in below)
    if weight > MOST:
        line = node.start_mark.line + 1
        raise YamlError(f'line {line} stands for more than {MOST} values')
    return weight
