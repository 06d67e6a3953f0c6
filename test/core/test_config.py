"""Strict configuration: what is wrong is named with its source, key, value and way out."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import yaml

from wm_planner.config import from_dict, from_yaml, read_yaml, suggest, to_dict
from wm_planner.errors import ConfigError, TaskError
from wm_planner.yaml_text import parse_yaml


@dataclass(frozen=True)
class Wheel:
    radius_m: float
    num_spokes: int = 8


@dataclass(frozen=True)
class Cart:
    name: str
    wheels: tuple[Wheel, ...] = ()
    size_m: tuple[float, float] = (1.0, 2.0)
    front: Wheel = field(default_factory=lambda: Wheel(0.5))
    limit: float | None = None
    loud: bool = False
    extra: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit <= 0:
            raise ValueError(f"limit must be positive, got {self.limit}")


def test_nested_values_take_their_types():
    data = {
        "name": "a",
        "wheels": [{"radius_m": 1, "num_spokes": 3}],
        "size_m": [3, 4.5],
        "front": {"radius_m": 2},
        "limit": 7,
        "extra": {"k": [1]},
    }
    cart = from_dict(Cart, data, "cart.yaml")
    assert cart == Cart("a", (Wheel(1.0, 3),), (3.0, 4.5), Wheel(2.0), 7.0, False, {"k": [1]})
    assert type(cart.wheels[0].radius_m) is float
    assert from_dict(Cart, {"name": "a", "limit": None}, "s").limit is None


def test_round_trip_through_yaml(tmp_path):
    cart = Cart("b", (Wheel(0.25), Wheel(1.5, 2)), limit=0.5, loud=True)
    file = tmp_path / "cart.yaml"
    file.write_text(yaml.safe_dump(to_dict(cart)))
    assert from_yaml(Cart, file) == cart


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": "x"}, "cart.yaml: unknown key 'nmae'. Did you mean 'name'?"),
        ({"name": 3}, "cart.yaml: name: expected a string, got 3"),
        ({"loud": 1}, "cart.yaml: loud: expected true or false, got 1"),
        ({"limit": "fast"}, "cart.yaml: limit: expected a number, got 'fast'"),
        ({"limit": True}, "cart.yaml: limit: expected a number, got True"),
        ({"limit": -1.0}, "cart.yaml: limit must be positive, got -1.0"),
        ({"size_m": [1.0]}, "cart.yaml: size_m: expected 2 values, got [1.0]"),
        ({"wheels": 4}, "cart.yaml: wheels: expected a list, got 4"),
        ({"extra": [1]}, "cart.yaml: extra: expected a mapping, got [1]"),
        ({"front": None}, "cart.yaml: front: expected a mapping, got None"),
        ({"front": {}}, "cart.yaml: front: key 'radius_m' is missing"),
        (
            {"wheels": [{"radius_m": 1}, {"radius_m": 1, "num_spokes": 2.5}]},
            "cart.yaml: wheels[1]: num_spokes: expected a whole number, got 2.5",
        ),
    ],
)
def test_errors_name_source_key_and_value(change, message):
    with pytest.raises(ConfigError) as caught:
        from_dict(Cart, {"name": "a", **change}, "cart.yaml")
    assert str(caught.value).startswith(message)


def test_missing_key():
    with pytest.raises(ConfigError, match="cart.yaml: key 'name' is missing"):
        from_dict(Cart, {}, "cart.yaml")


def test_a_date_is_text(tmp_path) -> None:
    """No setting is a date; as text its message names the value."""
    file = tmp_path / "a.yaml"
    file.write_text("day: 2026-01-01\nnumber: 1.5\n")
    assert read_yaml(file) == {"day": "2026-01-01", "number": 1.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        (b"a: [1", "not valid YAML"),
        (b"a: \xff\xfe", "cannot be read: .* can't decode"),
        (b"- 1", "expected a mapping"),
    ],
)
def test_unreadable_files_are_named(tmp_path, text, message):
    file = tmp_path / "x.yaml"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(file)
    assert str(file) in str(caught.value)


def test_suggest_names_the_nearest_and_all_choices():
    assert suggest("wal", ["pusht", "wall"]) == " Did you mean 'wall'? Choices: pusht, wall."
    assert suggest("zzz", ["pusht", "wall"]) == " Choices: pusht, wall."
    assert suggest(1, ["wall", 11, 2]) == " Did you mean '11'? Choices: 11, 2, wall."


@dataclass(frozen=True)
class Driver:
    """Its own check raises one of the package's errors, and reads a mapping of its own."""

    vehicle: str = "cart"
    wheel: dict = field(default_factory=lambda: {"radius_m": 1.0})

    def __post_init__(self) -> None:
        if self.vehicle != "cart":
            raise TaskError(f"unknown vehicle '{self.vehicle}'")
        from_dict(Wheel, self.wheel, "wheel")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"vehicle": "boat"}, "driver.yaml: unknown vehicle 'boat'"),
        ({"wheel": {}}, "driver.yaml: wheel: key 'radius_m' is missing"),
    ],
)
def test_errors_of_a_class_s_own_checks_name_the_source_once(data, message):
    with pytest.raises(ConfigError) as caught:
        from_dict(Driver, data, "driver.yaml")
    assert str(caught.value) == message


@pytest.mark.parametrize(("text", "value"), [("5e-4", 0.0005), ("1E3", 1000.0), ("1.5e-2", 0.015)])
def test_a_number_needs_no_point_before_its_exponent(text, value):
    content = parse_yaml(f"{{name: a, limit: {text}}}")
    assert from_dict(Cart, content, "s").limit == value


@dataclass(frozen=True)
class Wait:
    """A number, or a word for one."""

    seconds: float | str | None = None


@pytest.mark.parametrize("value", [None, 0.5, "measured"])
def test_one_of_several_types(value):
    assert from_dict(Wait, {"seconds": value}, "x").seconds == value
    with pytest.raises(ConfigError, match=r"expected a number, got \[1\]; or .*expected a string"):
        from_dict(Wait, {"seconds": [1]}, "x")
