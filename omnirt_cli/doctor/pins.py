"""Where a model's environment deviates from versions that the checkouts were run with (`configs/pins.yaml`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from pydantic import BaseModel, ConfigDict, Field

from omnirt_cli.config_data import config_text
from omnirt_cli.models.base import Backend
from omnirt_cli.yaml_document import load_yaml

_ANY = ">=0"
"""A package that must be there, in whatever version."""


class Pins(BaseModel):
    """The versions for one kind of environment.

    Attributes:
        variants: Only for these; empty for all.
        python: A version specifier.
        packages: Distribution -> version specifier; each must be there.
        optional: The same for what may be missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    backend: Backend
    variants: list[str] = Field(default_factory=list)
    source: str
    python: str | None = None
    packages: dict[str, str]
    optional: dict[str, str] = Field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Every distribution that is named."""
        return (*self.packages, *self.optional)

    def deviations(self, python: str, versions: Mapping[str, str | None]) -> list[str]:
        """Each package that is missing or of another version, in words."""
        found = [
            f"{name} {version or 'is missing'}" + (f" (run with {name}{wanted})" if wanted != _ANY else "")
            for name, wanted in self.packages.items()
            if not _agrees(version := versions.get(name), wanted)
        ]
        found += [
            f"{name} {version} (run with {name}{wanted})"
            for name, wanted in self.optional.items()
            if (version := versions.get(name)) is not None and not _agrees(version, wanted)
        ]
        if self.python is not None and not _agrees(python, self.python):
            found.append(f"Python {python} (run with {self.python})")
        return found


class _PinFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    pins: list[Pins]


def pins_for(model: str, backend: Backend, variant: str) -> Pins | None:
    """The pins that hold for a checkout; None where nobody has published any."""
    return next(
        (
            pins
            for pins in _all_pins()
            if pins.model == model and pins.backend is backend and (not pins.variants or variant in pins.variants)
        ),
        None,
    )


@lru_cache
def _all_pins() -> tuple[Pins, ...]:
    return tuple(_PinFile.model_validate(load_yaml(config_text("pins.yaml"))).pins)


def _agrees(version: str | None, wanted: str) -> bool:
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    if version is None:
        return False
    try:
        # A local part (`2.7.1+cu128`) names a build, not another version.
        return SpecifierSet(wanted).contains(version.split("+")[0], prereleases=True)
    except InvalidVersion:
        return False
