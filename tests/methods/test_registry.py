"""Each method has a file and a configuration of the same name."""

from pathlib import Path
from typing import get_args

import pytest
import yaml

from progrpo_cli.commands import listing
from progrpo_cli.config import paths
from progrpo_cli.config.compose import compose
from progrpo_cli.errors import RequestError
from progrpo_cli.methods import dr_grpo, grpo
from progrpo_cli.methods.registry import method_classes

NAMES = paths.names(paths.EXPERIMENTS / "method")


def test_each_file_has_a_configuration_and_each_configuration_a_file() -> None:
    assert sorted(method_classes()) == NAMES
    for name, cls in method_classes().items():
        assert get_args(cls.model_fields["name"].annotation) == (name,)
        assert yaml.safe_load((paths.EXPERIMENTS / "method" / f"{name}.yaml").read_text())["name"] == name


def test_a_class_imported_by_a_methods_file_is_not_that_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpo, "DrGrpo", dr_grpo.DrGrpo, raising=False)
    method_classes.cache_clear()
    try:
        assert method_classes()["grpo"] is grpo.Grpo
    finally:
        method_classes.cache_clear()


def test_list_methods_describes_each_in_a_sentence_with_its_source() -> None:
    rows = listing.list_rows("methods")
    assert [row["name"] for row in rows] == NAMES
    for row in rows:
        assert row["about"].endswith(".")
        assert "arXiv" in row["about"] or row["name"] == "entropy_bonus"


def test_docs_methods_lists_every_method_and_every_option() -> None:
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"| `{name}` |" in page
        options = yaml.safe_load((paths.EXPERIMENTS / "method" / f"{name}.yaml").read_text())
        own = [key for key in options if key not in ("name", "clip_low", "clip_high", "arm")]
        rows = [line for line in page.splitlines() if line.startswith(f"| `{name}`:")]
        assert not [key for key in own if not any(f"`{key}`" in row for row in rows)], name


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=grpo", "method.k=3"], "method.k: unknown key; it belongs to method=passk"),
        (["method=grpo", "method.fraction=0.1"], "it belongs to method=clip_cov and method=kl_cov"),
        (["method=passk", "train.group_size=2"], "method.k=4 needs groups of more than k samples"),
        (["method=passk", "train.group_size=4"], "train.group_size is 4"),
        (["method=dapo", "method.arm.alpha=1"], "these methods do: dr_grpo, gspo, progrpo"),
        (["method=flowrl", "method.ratio=token"], "valid: length_normalised, sequence"),
        (["method=flowrl", "method.beta=0"], "method.beta=0: Input should be greater than 0"),
        (["method=dapo", "method.max_refills=-1"], "method.max_refills=-1"),
        (["method=entropy_bonus", "method.entropy_ceof=1"], "method.entropy_coef"),
        (["method=pass_k"], "passk"),
    ],
)
def test_a_wrong_option_gives_a_one_line_message_with_valid_choices(overrides: list[str], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        compose(overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arm_can_be_put_on_the_methods_that_take_it() -> None:
    for name in ("dr_grpo", "gspo"):
        method = compose([f"method={name}", "method.arm.alpha=0.5"]).method
        assert method.arm is not None
        assert (method.arm.alpha, method.arm.low_fraction, method.arm.gate) == (0.5, 0.2, "any_correct")
        assert compose([f"method={name}"]).method.arm is None
