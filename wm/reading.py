"""Reading settings strictly: every mistake is a ValueError that names the key and the nearest valid one."""

import difflib
import types
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from wm.errors import BadInput

T = TypeVar("T")


UNBOUNDED = 10**9
"""The highest value of a number that has no bound of its own: beyond any use."""
LARGEST = 1e300
"""No number is as large (nor infinite): it would not fit a float."""


@dataclass(frozen=True)
class Where:
    """A place in params.yaml, for messages: `Where("params.yaml") / "carracing" / "vision"`."""

    file: str
    key: str = ""

    def __truediv__(self, key: Any) -> "Where":
        return Where(self.file, f"{self.key}.{key}" if self.key else str(key))

    def __str__(self) -> str:
        return f"{self.file}: {self.key}" if self.key else self.file

    def check_keys(self, values: Any, required: tuple[str, ...]) -> None:
        """Raise unless `values` is a map with exactly the keys `required`."""
        if not isinstance(values, Mapping):
            raise BadInput(f"{self} must be a map with the keys {', '.join(required)}, not {values!r}")
        for key in values:
            if key not in required:
                raise BadInput(f"{self / key} is unknown; {nearest(str(key), required)}")
        for key in required:
            if key not in values:
                raise BadInput(f"{self / key} is missing")


def nearest(value: str, allowed: tuple[str, ...]) -> str:
    """The nearest allowed spelling and all that is allowed, for a message."""
    match = difflib.get_close_matches(value, allowed, n=1, cutoff=0.5)
    listed = f"allowed: {', '.join(allowed)}"
    return f"did you mean {match[0]}? ({listed})" if match else listed


def check_choice(where: Where, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise BadInput(f"{where} is {value!r}; {nearest(str(value), allowed)}")


def read_yaml(path: Path) -> Mapping[str, Any]:
    """The map in a YAML file, read with what DVC reads it with (1e-3 is a number). Raises ValueError."""
    try:
        values = YAML(typ="safe").load(path)
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist here; run this in the repository's root") from None
    except IsADirectoryError:
        raise BadInput(f"{path} is a folder, but must be a file") from None
    except (YAMLError, ValueError, KeyError, TypeError, OverflowError) as error:  # all of them ruamel's
        raise BadInput(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, Mapping):
        raise BadInput(f"{path} must hold a map, not {values!r}")
    return values


def build(cls: type[T], values: Any, where: Where) -> T:
    """An instance of the dataclass `cls` from a map: exact keys, strict types, the fields' ranges."""
    assert is_dataclass(cls)
    where.check_keys(values, tuple(f.name for f in fields(cls)))
    hints = get_type_hints(cls)
    made = {f.name: convert(values[f.name], hints[f.name], f, where / f.name) for f in fields(cls)}
    return cls(**made)


def convert(value: Any, kind: Any, spec: Field[Any], where: Where) -> Any:
    """`value` as `kind` (a dataclass, a tuple of one type, int, float, bool or str), checked."""
    if is_dataclass(kind) and isinstance(kind, type):
        return build(kind, value, where)
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        if not isinstance(value, list):
            raise BadInput(f"{where} must be a list, not {value!r}")
        return tuple(checked(scalar(v, item, where), spec, where) for v in value)
    return checked(scalar(value, kind, where), spec, where)


def checked(result: Any, spec: Field[Any], where: Where) -> Any:
    """`result`, held against the choices or the range in the field's metadata."""
    if "choices" in spec.metadata:
        check_choice(where, result, spec.metadata["choices"])
    if "low" in spec.metadata:
        check_range(result, spec.metadata, where)
    return result


def scalar(value: Any, kind: Any, where: Where) -> Any:
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
    good = isinstance(value, bool) == (kind is bool) and (
        isinstance(value, kind) or (kind is float and isinstance(value, int))
    )
    if not good or (kind is float and not abs(value) < LARGEST):
        raise BadInput(f"{where} must be {words[kind]}, not {value!r}")
    return kind(value)


def check_range(value: float, limits: "types.MappingProxyType[Any, Any]", where: Where) -> None:
    low, high, open_low = limits["low"], limits["high"], limits["open_low"]
    if not (low < value if open_low else low <= value) or value > high:
        lower = f"more than {low}" if open_low else f"at least {low}"
        upper = "" if high == UNBOUNDED else f" and at most {high}"
        raise BadInput(f"{where} must be {lower}{upper}, but is {value}")
