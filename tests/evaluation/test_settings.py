import pytest

from progrpo_cli.config.compose import compose
from progrpo_cli.errors import RequestError
from progrpo_cli.evaluation.settings import EvalSettings, samples_needed


def test_n_defaults_to_twice_the_largest_k() -> None:
    assert samples_needed([1, 32], None) == 64
    assert samples_needed([1], 5) == 5


@pytest.mark.parametrize(("ks", "n", "message"), [([0, 4], None, "at least 1"), ([1, 64], 32, "--n 64")])
def test_k_is_checked(ks: list[int], n: int | None, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        samples_needed(ks, n)


def test_other_sampling_settings_have_another_directory() -> None:
    def settings(**changes: object) -> EvalSettings:
        defaults = {
            "task": compose().task,
            "split": "test",
            "n": 8,
            "temperature": 1.0,
            "top_p": 1.0,
            "seed": 0,
            "backend": "hf",
            "dtype": "float32",
            "limit": None,
            "policy": "",
        }
        return EvalSettings(**{**defaults, **changes})

    changes = [{"n": 16}, {"temperature": 0.5}, {"top_p": 0.9}, {"seed": 1}, {"limit": 3}, {"split": "validation"}]
    changes += [{"policy": "x"}, {"task": compose(["task.max_new_tokens=31"]).task}]
    names = {settings(**change).directory_name() for change in changes}
    assert len(names | {settings().directory_name()}) == len(changes) + 1
    assert all(name.startswith("countdown-") for name in names)
