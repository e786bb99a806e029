"""The identity of a run: logged to trackers beside its configuration, as ``progrpo``, and read by reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field


class Identity(BaseModel):
    """The section ``progrpo`` of a run's configuration in a tracker."""

    kind: Annotated[str, Field(pattern="^(run|model)$")]
    config_hash: str
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    version: str
    commit: str | None
    dirty: bool | None = None
    """Whether the checkout had uncommitted changes; None: not recorded."""
    method_source: str | None = None
    """SHA-256 over the source of the method; several, joined by ``+``, if it changed during the run.

    None: an earlier version did not record it, or the run was not trained by a method.
    """
    judge_source: str | None = None
    """The same for the judge that gave the rewards in training."""
    curves: list[Any] | None = None
    """The metrics of the method that a report draws; None: an earlier version did not record them."""
    directory: str
    model: str
    command: str | None = None
    """The command that started the run; None: an earlier version did not record it."""


def identity_of(manifest: Mapping[str, Any], directory: str) -> dict[str, Any]:
    """Return the fields of :class:`Identity`, from a manifest.

    Raises:
        KeyError, TypeError: the manifest is another program's, or of an earlier version with fewer fields.
    """
    return {
        "kind": manifest["kind"],
        "config_hash": manifest["config_hash"],
        "seed": manifest["seed"],
        "version": manifest["progrpo"],
        "commit": manifest["git"]["commit"],
        "dirty": manifest["git"].get("dirty"),
        **_sources(manifest),
        "curves": manifest.get("curves"),
        "directory": directory,
        "model": manifest["model"],
        "command": manifest["command"],
    }


def _sources(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the digest of each source; if it changed before a resumption, all its digests, joined by ``+``."""
    first = manifest.get("sources", {})
    sources = [first, *manifest.get("sources_since", [])]
    return {f"{part}_source": "+".join(dict.fromkeys(source[part]["sha256"] for source in sources)) for part in first}
