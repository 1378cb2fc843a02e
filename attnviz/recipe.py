"""Recipes: what a run is made of, as TOML with ``key=value`` overrides, typed once at this door.

Receives a file, a mapping or a name of a shipped recipe; gives a frozen ``Recipe`` in which every key is known and every
value has its type, down to the parameters of each map. Nothing heavy is imported: a recipe is read, and refused, at once.
"""

import dataclasses
import hashlib
import json
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from attnviz.errors import InputError, RecipeError, nearest
from attnviz.inputs import DataOptions, Source
from attnviz.inputs.pictures import background_color
from attnviz.maps import parse
from attnviz.normalize import DEFAULT, Normalize
from attnviz.resources import resource
from attnviz.types import MapSpec, ModelSpec

__all__ = [
    "CaptureSpec",
    "DataSpec",
    "Recipe",
    "load_recipe",
    "make_recipe",
    "parse_overrides",
    "shipped_recipes",
    "to_toml",
]

Section = TypeVar("Section")

_SECRET = re.compile(r"\bhf_[A-Za-z0-9]{16,}|://[^/\s]*:[^/\s]*@")
_LATER: dict[str, Any] = {
    "encoding": None,
    "delimiter": None,
    "background": "white",
    "classes": [],
    "label_column": None,
}
"""Keys of data that recipes did not always have, as they are when left out: they do not count in the fingerprint of a run."""

_METHODS = ("pca", "umap", "attention")  # the maps of a recipe that names none


@dataclass(frozen=True, slots=True)
class DataSpec(DataOptions):
    """Which data to run over, and how much of it."""

    source: str | Source | tuple[str | Source, ...] = (
        ""  # a path, builtin:NAME, hub:NAME, or several, each with its part
    )
    classes: tuple[str, ...] = ()  # columns whose whole numbers are names of classes, and no scale
    label_column: str | None = None  # of the given labels; None: label or labels, where they are classes of the model
    max_tokens: int | None = None  # a uniform sample of sequences with about so many tokens in all
    max_length: int | None = None  # tokens of one sequence; longer ones are cut, and counted

    def options(self) -> DataOptions:
        """Return what the readers need to know."""
        return DataOptions(**{field.name: getattr(self, field.name) for field in dataclasses.fields(DataOptions)})


@dataclass(frozen=True, slots=True)
class CaptureSpec:
    """What to keep of a model, and how."""

    layers: int | tuple[int, ...] | None = (
        None  # None: all; a number: the last so many; a list: these (negatives count back)
    )
    dtype: Literal["float16", "float32"] = "float16"
    rope: Literal["after", "before"] = "after"  # keep vectors as they enter the product, or as they are before RoPE
    generate: int = 0  # tokens that the model writes after each text, greedily, before all of it is captured
    batch_tokens: int = 4096  # padded tokens that run through the model at once
    shard_tokens: int = 8192  # a killed run resumes at its last complete shard


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the contents of a run."""

    name: str
    model: ModelSpec
    data: DataSpec
    capture: CaptureSpec = CaptureSpec()
    normalize: Normalize = DEFAULT
    maps: tuple[MapSpec, ...] = tuple(MapSpec(method, method) for method in _METHODS)
    seed: int = 0

    def fingerprint(self) -> str:
        """Return a hash of all that the captured data depends on: everything but the name and the maps."""
        parts = _plain(dataclasses.replace(self, name="", maps=()))
        for key, default in _LATER.items():  # so that older runs resume
            if parts["data"][key] == default:
                del parts["data"][key]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def load_recipe(source: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe from a file, or one of the shipped recipes by its name, and apply overrides.

    Parameters
    ----------
    source
        A path that ends in ``.toml``, or a name such as ``minilm_docs``.
    overrides
        Dotted keys and values, ``{"data.max_tokens": 500}``.

    Raises
    ------
    RecipeError
        If it cannot be read, if a key is unknown (naming the nearest valid one), or if a value is not accepted.
    """
    path = _find(source)
    try:
        given = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path} cannot be read as TOML: {error}.") from error
    return make_recipe({"name": path.stem} | given, overrides)


def make_recipe(given: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Make a recipe of nested mappings, as TOML gives them. Overrides and errors as for ``load_recipe``."""
    merged = _merge(given, overrides or {})
    sections = dict(merged)
    sections["maps"] = _maps(merged.get("maps", {name: {} for name in _METHODS}))
    recipe = _build(Recipe, sections, "recipe")
    if not recipe.data.source:
        raise RecipeError(
            "The recipe names no data. Set data.source to a path, builtin:NAME, hub:NAME or a list of these."
        )
    _refuse_limits(recipe)
    try:
        background_color(recipe.data.background)
    except InputError as error:
        raise RecipeError(str(error)) from error
    _refuse_what_cannot_be_kept(_plain(recipe), "recipe")
    return recipe


def _refuse_limits(recipe: Recipe) -> None:
    """Refuse numbers that leave nothing over, or mean nothing."""
    for section, names in (("data", _DATA_LIMITS), ("capture", ("batch_tokens", "shard_tokens"))):
        for name in names:
            value = getattr(getattr(recipe, section), name)
            if value is not None and value < 1:
                without = " Leave it out for no limit." if section == "data" else ""
                raise RecipeError(f"{section}.{name} is {value}; it must be at least 1.{without}")
    for name, value, meaning in (
        ("capture.generate", recipe.capture.generate, "a number of tokens to write"),
        ("seed", recipe.seed, "a whole number above it"),
    ):
        if value < 0:
            raise RecipeError(f"{name} is {value}; it must be 0, or {meaning}.")
    if recipe.capture.layers == () or (isinstance(recipe.capture.layers, int) and recipe.capture.layers < 1):
        raise RecipeError(
            f"capture.layers is {recipe.capture.layers!r}; it must be a number of last layers, or a list of layers. Leave it "
            "out for all."
        )


_DATA_LIMITS = ("max_tokens", "max_length", "max_sequences")


def parse_overrides(words: Iterable[str]) -> dict[str, Any]:
    """Turn ``key=value`` words of a command line into overrides; a value is TOML, or else a string.

    Raises
    ------
    RecipeError
        If a word has no ``=``.
    """
    overrides: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise RecipeError(f"{word!r} is no key=value, such as data.max_tokens=500.")
        try:
            overrides[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            overrides[key.strip()] = text
    return overrides


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that come with attnviz, by name."""
    return {path.stem: path for path in sorted(resource("pipelines").glob("*.toml"))}


def to_toml(recipe: Recipe) -> str:
    """Write a recipe as TOML that ``load_recipe`` reads back to an equal one."""
    plain = _plain(recipe)
    maps = {
        spec["name"]: {"method": spec["method"], "dims": spec["dims"], **spec["parameters"]}
        for spec in plain.pop("maps")
    }
    lines = [f"{key} = {_toml(plain.pop(key))}" for key in ("name", "seed")]
    tables = plain | {f"maps.{_key(name)}": values for name, values in maps.items()}
    for name, values in tables.items():
        lines += [
            "",
            f"[{name}]",
            *(f"{_key(key)} = {_toml(value)}" for key, value in values.items() if value is not None),
        ]
    return "\n".join(lines) + "\n"


def _refuse_what_cannot_be_kept(value: Any, place: str) -> None:
    """Refuse what no recipe may carry into the run: what is no text, tokens and passwords; the message does not repeat these."""
    if isinstance(value, str) and _SECRET.search(value):
        raise RecipeError(
            f"{place.removeprefix('recipe.')} holds a token or a password, and a recipe is kept with the run. Leave it out; "
            "private models and data are read with the token in HF_TOKEN, which is written nowhere."
        )
    if isinstance(value, str) and (plain := value.encode("utf-8", "backslashreplace").decode()) != value:
        raise RecipeError(
            f"{place.removeprefix('recipe.')} is {plain}, which is no UTF-8, and a recipe is kept as UTF-8. Rename the file or "
            "folder."
        )
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        _refuse_what_cannot_be_kept(item, f"{place}.{key}")


def _find(source: str | Path) -> Path:
    path = Path(source)
    if path.suffix == ".toml":
        if not path.is_file():
            raise RecipeError(f"{path} does not exist. Give a recipe file, or one of: {', '.join(shipped_recipes())}.")
        return path
    shipped = shipped_recipes()
    if str(source) not in shipped:
        raise RecipeError(
            f"There is no shipped recipe {str(source)!r}: {nearest(str(source), shipped)} Or give a .toml file."
        )
    return shipped[str(source)]


def _merge(given: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Put dotted overrides into nested mappings, leaving ``given`` as it is."""
    merged: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in given.items()}
    for key, value in overrides.items():
        first, _, rest = key.partition(".")
        inner = merged.get(first, {})
        if rest and not isinstance(inner, Mapping):
            raise RecipeError(f"{key!r} goes into {first!r}, which is a value: {inner!r}.")
        merged[first] = _merge(inner, {rest: value}) if rest else value
    return merged


def _maps(given: Any) -> tuple[MapSpec, ...]:
    """Read ``[maps.NAME]`` tables: ``method`` (the name, if left out), ``dims``, and the method's own parameters."""
    if not isinstance(given, Mapping) or not all(isinstance(table, Mapping) for table in given.values()):
        raise RecipeError(
            "maps must be tables, such as [maps.umap] with n_neighbors = 15; an empty table takes the defaults."
        )
    specs = []
    for name, table in given.items():
        parameters = {key: value for key, value in table.items() if key not in ("method", "dims")}
        spec = MapSpec(name, table.get("method", name), table.get("dims", 2), parameters)
        if not name.replace("_", "").replace("-", "").isalnum():
            raise RecipeError(f"{name!r} cannot name a map: letters, digits, - and _ are accepted.")
        parse(spec)
        specs.append(spec)
    return tuple(specs)


def _build(kind: type[Section], given: Any, place: str) -> Section:
    """Make a dataclass of a mapping, checking each key and each value's type."""
    if isinstance(given, kind):
        return given
    if not isinstance(given, Mapping):
        raise RecipeError(f"{place} is {given!r}; it must be a table.")
    hints = typing.get_type_hints(kind)
    for key in given:
        if key not in hints:
            raise RecipeError(f"{place} has the key {key!r}, which is unknown: {nearest(key, hints)}")
    for required in dataclasses.fields(kind):  # type: ignore[arg-type]
        if required.default is dataclasses.MISSING and required.name not in given:
            raise RecipeError(f"{place} needs {required.name!r}.")
    values = {key: _value(hints[key], value, f"{place}.{key}".removeprefix("recipe.")) for key, value in given.items()}
    try:
        return kind(**values)
    except InputError as error:  # what a value type itself refuses
        raise RecipeError(f"{place.removeprefix('recipe.')}: {error}") from error


def _value(hint: Any, value: Any, place: str) -> Any:
    """Return ``value`` as ``hint`` wants it. Raises ``RecipeError`` saying what is accepted."""
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, place)  # type: ignore[arg-type]
    options = _options(hint)
    for option in options:
        if (read := _as(option, value, place)) is not _NO:
            return read
    accepted = " or ".join(_describe(option) for option in options if option is not types.NoneType)
    raise RecipeError(f"{place} is {value!r}; accepted: {accepted}.")


def _options(hint: Any) -> tuple[Any, ...]:
    """Return the types that a hint accepts."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return typing.get_args(hint) if union else (hint,)


_NO = object()


def _as(hint: Any, value: Any, place: str) -> Any:
    if dataclasses.is_dataclass(hint):
        table = isinstance(value, Mapping) or dataclasses.is_dataclass(value)
        return _simplest(_build(hint, value, place)) if table else _NO  # type: ignore[arg-type]
    origin = typing.get_origin(hint)
    if origin is Literal:
        return value if value in typing.get_args(hint) else _NO
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return _NO
        wanted = _options(typing.get_args(hint)[0])
        items = [_first(wanted, item, f"{place}[{number}]") for number, item in enumerate(value)]
        return _NO if _NO in items else tuple(items)
    if hint is types.NoneType:
        return None if value is None else _NO
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # A bool is an int to Python; in a recipe it is a mistake.
    return value if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)) else _NO


def _first(options: Iterable[Any], value: Any, place: str) -> Any:
    """Return ``value`` as the first of several types that takes it."""
    return next((read for option in options if (read := _as(option, value, place)) is not _NO), _NO)


def _simplest(value: Any) -> Any:
    """Return a source that has no part of its own as its name, which older recipes have."""
    return value.name if isinstance(value, Source) and value == Source(value.name) else value


def _describe(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return f"a table with {', '.join(field.name for field in dataclasses.fields(hint))}"
    if origin is Literal:
        return ", ".join(map(repr, typing.get_args(hint)))
    names = {str: "a string", int: "a whole number", bool: "true or false", float: "a number"}
    if origin is not tuple:
        return names[hint]
    items = [option for option in _options(typing.get_args(hint)[0]) if option in names]
    more = " and such tables" if len(items) < len(_options(typing.get_args(hint)[0])) else ""
    return f"a list of {names[items[0]]}s".replace("a list of a ", "a list of ") + more


def _plain(value: Any) -> Any:
    plain: Any = json.loads(json.dumps(dataclasses.asdict(value)))
    return plain


def _toml(value: Any) -> str:
    """Write a scalar, a list or an inline table; JSON's notation of a scalar is TOML's."""
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items() if item is not None) + " }"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else _toml(name)
