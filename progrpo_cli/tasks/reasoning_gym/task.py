"""Tasks from reasoning-gym's generators: problems made offline from a seed, judged by reasoning-gym's own scoring."""

from __future__ import annotations

import base64
import hashlib
import pickle
import re
from collections.abc import Sequence

from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.tasks.base import SPLITS, Attempt, Problem, Split, Verdict
from progrpo_cli.tasks.config import ReasoningGymConfig
from progrpo_cli.tasks.extras import require
from progrpo_cli.tasks.judging.pool import shared_pool
from progrpo_cli.tasks.splits import split_by_hash

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_JUDGE = "progrpo_cli.tasks.reasoning_gym.judge"
_SHARES: dict[Split, int] = {"rl": 80, "validation": 10, "test": 10}
_MAX_REPEATS = 500  # entries without a new problem after which a generator counts as exhausted
MAX_CHARACTERS = 4000


def extract_answer(text: str) -> str:
    """Return the content of the last ``<answer>...</answer>``, or the whole text if there is none."""
    answers = _ANSWER.findall(text)
    return (answers[-1] if answers else text).strip()


class ReasoningGym:
    """The problems of one generator. A question's hash decides its split, so splits of any size are disjoint."""

    canonical_forms = False

    def __init__(self, config: ReasoningGymConfig) -> None:
        """Create the task.

        Raises:
            RequestError: reasoning-gym is not installed, or has no such generator.
        """
        require("reasoning_gym", "reasoning-gym", config.label)
        from reasoning_gym.factory import DATASETS

        if config.generator not in DATASETS:
            raise RequestError(f"task.generator={config.generator}: no such{nearest(config.generator, DATASETS)}")
        self.name = config.label
        self.max_new_tokens = config.max_new_tokens
        self.chat = config.chat
        self._config = config
        self._wanted: dict[Split, int] = {
            "rl": config.rl_problems,
            "validation": config.validation_problems,
            "test": config.test_problems,
        }
        self._problems: dict[Split, list[Problem]] = {}
        self._entries: dict[str, str] = {}

    def problems(self, split: Split) -> list[Problem]:
        """Return the split's distinct questions in the generator's order, up to the configured number.

        A small generator may have fewer.

        Raises:
            RequestError: the generator does not work without options of its own.
        """
        if not self._problems:
            self._generate()
        return self._problems[split]

    def _generate(self) -> None:
        from progrpo_cli.tasks.reasoning_gym.judge import DATASET_SIZE, generator

        config = self._config
        try:
            dataset = generator(config.generator, config.generator_seed)
        except (AssertionError, ValueError, TypeError) as error:
            raise RequestError(f"task.generator={config.generator} cannot be used as it is: {error}") from error
        problems: dict[Split, list[Problem]] = {split: [] for split in SPLITS}
        seen: set[str] = set()
        index = last_new = 0
        while any(len(problems[split]) < self._wanted[split] for split in SPLITS):
            if index == DATASET_SIZE or index - last_new == _MAX_REPEATS:
                break
            entry = dataset[index]
            question = entry["question"]
            digest = hashlib.sha256(f"{config.generator}:{question}".encode()).hexdigest()[:16]
            split = split_by_hash(f"reasoning-gym:{digest}", _SHARES)
            if digest not in seen and len(problems[split]) < self._wanted[split]:
                seen.add(digest)
                identifier = f"{config.generator}-{digest}"
                self._entries[identifier] = base64.b64encode(pickle.dumps(entry)).decode()
                prompt = config.template.replace("{question}", question)
                answer = hashlib.sha256(str(entry["answer"]).encode()).hexdigest()[:16]
                problems[split].append(Problem(identifier, prompt, judged_by=answer))
                last_new = index
            index += 1
        self._problems = problems

    def verdicts(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """``correct`` for the full score. Empty answers and those above ``MAX_CHARACTERS`` are ``unparseable``."""
        verdicts: list[Verdict] = ["truncated" if not attempt.finished else "unparseable" for attempt in attempts]
        answers = [extract_answer(attempt.text) for attempt in attempts]
        indices = [
            i for i, attempt in enumerate(attempts) if attempt.finished and 0 < len(answers[i]) <= MAX_CHARACTERS
        ]
        requests = [
            {
                "generator": self._config.generator,
                "seed": self._config.generator_seed,
                "entry": self._entries[attempts[i].problem.id],
                "answer": answers[i],
            }
            for i in indices
        ]
        for i, verdict in zip(indices, shared_pool(_JUDGE).judge(requests), strict=True):
            verdicts[i] = verdict  # type: ignore[call-overload]
        return verdicts

    def canonical(self, problem: Problem, text: str) -> None:
        """Return None: the generators' answers have no common canonical form."""
