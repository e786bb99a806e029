"""Who a run is, as trackers keep it beside the configuration, under the key ``progrpo``, and reports read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field


class Identity(BaseModel):
    """The ``progrpo`` part of a run's configuration."""

    kind: Annotated[str, Field(pattern="^(run|model)$")]
    config_hash: str
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    version: str
    commit: str | None
    dirty: bool | None = None
    """Whether the checkout had changes that are not in the commit; None: nobody wrote it."""
    method_source: str | None = None
    """SHA-256 over the source of the method, several with ``+`` between if it changed on the way.

    None: a version that did not write it, or no method trained it.
    """
    judge_source: str | None = None
    """The same of what judged while it was trained."""
    curves: list[Any] | None = None
    """The metrics of its method that a report draws; None: a version that did not write it."""
    directory: str
    model: str
    command: str | None = None
    """What started the run; trackers did not keep it before."""


def identity_of(manifest: Mapping[str, Any], directory: str) -> dict[str, Any]:
    """The fields of :class:`Identity`, from a manifest.

    Raises:
        KeyError, TypeError: the manifest is not one of ours, or of a version that had less in it.
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
    """The digest of each source; of one that changed before the run went on, all that it had, with ``+`` between."""
    first = manifest.get("sources", {})
    held = [first, *manifest.get("sources_since", [])]
    return {f"{what}_source": "+".join(dict.fromkeys(each[what]["sha256"] for each in held)) for what in first}
