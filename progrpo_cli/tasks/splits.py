"""Disjoint splits that do not depend on how many problems are requested."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from progrpo_cli.tasks.base import SPLITS, Split


def split_by_hash(identifier: str, shares: Mapping[Split, int]) -> Split:
    """Return the split of a problem, by the SHA-256 of its identifier.

    Args:
        identifier: the same text always gives the same split.
        shares: per cent of the problems in each split. They must add up to 100.
    """
    position = int.from_bytes(hashlib.sha256(identifier.encode()).digest()[:8], "big") * 100 >> 64
    for split in SPLITS:
        if position < shares[split]:
            return split
        position -= shares[split]
    raise ValueError(f"shares {dict(shares)} do not add up to 100")
