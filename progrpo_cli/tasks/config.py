"""The section ``task`` of a configuration: one class a kind of task. What a kind does is in its own package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from progrpo_cli.section import Mark, Natural, NonNegativeFloat, Positive, PositiveFloat, Section

if TYPE_CHECKING:
    from progrpo_cli.tasks.base import Task


def _asks(template: str) -> str:
    if "{question}" not in template:
        raise ValueError("{question} is missing: every prompt would be the same text")
    return template


Template = Annotated[str, AfterValidator(_asks)]


class TaskConfig(Section):
    """What every task has: a name, a limit on completions, and how many problems of each split are used.

    A kind of task of another package is a subclass with ``kind: Literal["..."]`` and :meth:`make_task`.
    """

    canonical_forms: ClassVar[bool] = False
    """Whether solutions have canonical forms, as the task's class says: ``distinct_correct`` is measured only then."""
    judge_version_of_code: ClassVar[int] = 1
    """Of the kind; raised with every change after which the same completion may get another verdict (docs/tasks.md)."""

    kind: str
    """Which implementation reads the rest; several tasks (files in `experiments/task/`) share one."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
    max_new_tokens: Positive
    """Completion limit in tokens, the end-of-sequence token included; a longer completion is `truncated`."""
    rl_problems: Annotated[Positive | None, Mark.UNMEASURED]
    """Problems for training; null: the whole split."""
    validation_problems: Positive | None
    test_problems: Annotated[Positive | None, Mark.UNMEASURED]
    judge_version: Positive = 1
    """Of the judge when the configuration was made; nobody sets it, see :attr:`judge_version_of_code`."""

    @property
    def label(self) -> str:
        """How results name the task: directories, scores, tables."""
        return self.name

    def make_task(self) -> Task:
        """The task, of a kind that another package brings; ours are made in ``tasks/registry.py``.

        Raises:
            RequestError: what the task needs (an extra, a tool) is missing.
        """
        raise NotImplementedError(f"{type(self).__name__} has to say how its task is made")


class CountdownConfig(TaskConfig):
    """The lab's task."""

    canonical_forms: ClassVar[bool] = True
    judge_version_of_code: ClassVar[int] = 2  # 1 did not read answers in steps

    kind: Literal["countdown"] = "countdown"
    name: Literal["countdown"]
    prompt: Literal["plain", "chat"]
    """`plain` text that the policy continues, or a question through the tokenizer's `chat` template."""


class ReasoningGymConfig(TaskConfig):
    """Any generator of reasoning-gym (the extra `tasks`)."""

    kind: Literal["reasoning_gym"]
    name: Literal["reasoning_gym"]
    generator: Annotated[str, Field(min_length=1)]
    """reasoning-gym's name of a generator, e.g. `gsm_symbolic`."""
    generator_seed: Natural
    chat: bool
    """Ask through the tokenizer's chat template."""
    template: Template
    """The prompt; `{question}` is the problem."""
    rl_problems: Annotated[Positive, Mark.UNMEASURED]
    validation_problems: Positive
    test_problems: Annotated[Positive, Mark.UNMEASURED]

    @property
    def label(self) -> str:
        return f"{self.name}-{self.generator}"


class SharesConfig(Section):
    """Per cent of a dataset's problems in each split, by a hash of their ids."""

    rl: Annotated[int, Field(ge=0, le=100)]
    validation: Annotated[int, Field(ge=0, le=100)]
    test: Annotated[int, Field(ge=0, le=100)]

    @model_validator(mode="after")
    def _are_all(self) -> SharesConfig:
        if self.rl + self.validation + self.test != 100:
            raise ValueError("rl, validation and test have to add up to 100")
        return self


class FieldsConfig(Section):
    """How the dataset calls what the task needs; dots lead into nested values: `reward_model.ground_truth`."""

    id: str | None
    """null: a hash of the question."""
    question: str


class AnswerFieldsConfig(FieldsConfig):
    """With a reference answer."""

    answer: str


class DatasetConfig(TaskConfig):
    """A task whose problems come from a dataset."""

    dataset: Annotated[str, Field(min_length=1)]
    """A hub's name (`owner/name`), or a local .jsonl or .parquet file of the same schema."""
    subset: str | None
    revision: str | None
    """The commit on the hub; null: its newest."""
    dataset_split: str
    """Which of the dataset's own splits is read."""
    fields: FieldsConfig
    shares: SharesConfig
    chat: bool
    """Ask through the tokenizer's chat template."""
    template: Template
    """The prompt; `{question}` is the problem."""


class MathsConfig(DatasetConfig):
    """Mathematics by exact answer (the extra `tasks`)."""

    judge_version_of_code: ClassVar[int] = 2  # 1 compared numbers absolutely and read fewer ways of writing an answer

    kind: Literal["maths"]
    fields: AnswerFieldsConfig
    relative_tolerance: Annotated[NonNegativeFloat, Mark.DECIDES_VERDICTS] = 0.0
    """Numbers so close to the reference, relative to it, are right; for benchmarks whose authors grade so."""


class CodeFieldsConfig(FieldsConfig):
    """With tests."""

    tests: str
    hidden_tests: str | None
    entry_point: str | None
    """The function under test; null: the tests name it, or the program reads and prints."""
    starter_code: str | None


class CodeConfig(DatasetConfig):
    """Python programs by unit tests, in a sandbox."""

    judge_version_of_code: ClassVar[int] = (
        2  # 1 took the last block whatever it was, and ran programs outside of a module
    )

    kind: Literal["code"]
    fields: CodeFieldsConfig
    tests: Annotated[Literal["check", "input_output"], Mark.DECIDES_VERDICTS]
    """HumanEval's manner, a function `check(candidate)`; or lists of inputs and outputs, of programs or functions."""
    sandbox: Annotated[Literal["bubblewrap", "none"], Mark.UNHASHED, Mark.UNMEASURED]
    """none: code that a policy wrote runs unprotected, with limits on time and memory only."""
    seconds: Annotated[PositiveFloat, Mark.DECIDES_VERDICTS]
    """Wall-clock limit: of each call and each run of a program; of a benchmark's own test code as a whole."""
    seconds_in_all: Annotated[PositiveFloat, Mark.DECIDES_VERDICTS] = 120.0
    """Wall-clock limit of all tests of one program."""
    memory_mb: Annotated[Positive, Mark.DECIDES_VERDICTS]


class ChoiceFieldsConfig(AnswerFieldsConfig):
    """With options: either all of them and the letter of the right one, or the right one and the wrong ones apart."""

    options: str | None
    wrong: list[str] | None

    @model_validator(mode="after")
    def _one_way(self) -> ChoiceFieldsConfig:
        if (self.options is None) == (self.wrong is None):
            raise ValueError("either options or wrong has to be given")
        return self


class ChoiceConfig(DatasetConfig):
    """Multiple choice."""

    judge_version_of_code: ClassVar[int] = 2  # 1 took `B because ...` for no answer

    kind: Literal["choice"]
    fields: ChoiceFieldsConfig


class OwnFieldsConfig(FieldsConfig):
    """Of a user's own file."""

    answer: str | None
    """null: a verdict function judges without one."""


class OwnConfig(DatasetConfig):
    """A user's own problems, with exact answers or a verdict function."""

    judge_version_of_code: ClassVar[int] = 2  # 1 read no braces within a box, no tags and no statements

    kind: Literal["own"]
    fields: OwnFieldsConfig
    verdict: Annotated[Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None, Mark.DECIDES_VERDICTS]
    """`module:function`, found from the working directory; null: answers are compared as text."""

    @model_validator(mode="after")
    def _something_judges(self) -> OwnConfig:
        if self.verdict is None and self.fields.answer is None:
            raise ValueError("either fields.answer or verdict has to be given")
        return self


KINDS: dict[str, type[TaskConfig]] = {
    "choice": ChoiceConfig,
    "code": CodeConfig,
    "countdown": CountdownConfig,
    "maths": MathsConfig,
    "own": OwnConfig,
    "reasoning_gym": ReasoningGymConfig,
}
"""The kinds that this package ships."""


def kind_of(section: Any) -> str | None:
    """The kind of a section, typed or not; configurations frozen before there were kinds are of countdown."""
    return section.get("kind", "countdown") if isinstance(section, dict) else getattr(section, "kind", None)
