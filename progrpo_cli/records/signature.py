"""Files that this user's own commands wrote, told from files that were sent: a signature with a key that stays here."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from progrpo_cli.untrusted import read_bytes, read_text


def sign(content: bytes) -> str | None:
    """HMAC-SHA256 of the content with the user's key, in hexadecimal; None where no key can be kept.

    The key is made at the first use: 32 random bytes that only the user can read, below ``XDG_STATE_HOME``.
    """
    try:
        path = _key_path()
        if not path.exists():
            _make_key(path)
        return _signature(path.read_bytes(), content)
    except (OSError, RuntimeError):  # no home, or none that can be written
        return None


def is_ours(content: bytes, signature: object) -> bool:
    """Whether :func:`sign` said so, here and for this user."""
    try:
        key = _key_path().read_bytes()
    except (OSError, RuntimeError):
        return False
    return isinstance(signature, str) and hmac.compare_digest(_signature(key, content).encode(), signature.encode())


def is_signed(path: Path, signature: Path) -> bool:
    """Whether the content of one file is signed by that of another."""
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
        os.link(new, path)  # of several that make a key at once the first is kept, whole
    except FileExistsError:
        pass
    finally:
        new.unlink()
