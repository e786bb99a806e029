"""Sign files with a key of this user, to recognise files that this user's own commands wrote."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from progrpo_cli.untrusted import read_bytes, read_text


def sign(content: bytes) -> str | None:
    """Return the HMAC-SHA256 of the content with the user's key, in hexadecimal; None if no key can be stored.

    The key is created at the first use, below ``XDG_STATE_HOME``: 32 random bytes that only the user can read.
    """
    try:
        path = _key_path()
        if not path.exists():
            _make_key(path)
        return _signature(path.read_bytes(), content)
    except (OSError, RuntimeError):  # there is no home directory, or it cannot be written
        return None


def is_ours(content: bytes, signature: object) -> bool:
    """Whether ``signature`` is :func:`sign`'s for the content, with this user's key on this machine."""
    try:
        key = _key_path().read_bytes()
    except (OSError, RuntimeError):
        return False
    return isinstance(signature, str) and hmac.compare_digest(_signature(key, content).encode(), signature.encode())


def is_signed(path: Path, signature: Path) -> bool:
    """Whether the file ``signature`` holds a valid signature of the file ``path``."""
    try:
        return is_ours(read_bytes(path, 32 << 20), read_text(signature))
    except (OSError, ValueError):
        return False


def _signature(key: bytes, content: bytes) -> str:
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def _key_path() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "progrpo" / "key"


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f"key-{secrets.token_hex(8)}")
    with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(secrets.token_bytes(32))
    try:
        os.link(new, path)  # atomic: if several processes create a key at once, the first one is kept
    except FileExistsError:
        pass
    finally:
        new.unlink()
