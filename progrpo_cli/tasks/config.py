"""The section ``task`` of a configuration, with one class per kind of task. Each kind is implemented elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from progrpo_cli.section import Mark, Natural, NonNegativeFloat, Positive, PositiveFloat, Section

if TYPE_CHECKING:
    from progrpo_cli.tasks.base import Task


def _check_question(template: str) -> str:
    if "{question}" not in template:
        raise ValueError("{question} is missing: all prompts would be the same text")
    return template


Template = Annotated[str, AfterValidator(_check_question)]


class TaskConfig(Section):
    """The fields of every task: a name, the completion limit, and the number of problems used from each split.

    A package with its own kind of task defines a subclass with ``kind: Literal["..."]`` and :meth:`make_task`.
    """

    canonical_forms: ClassVar[bool] = False
    """Whether solutions have canonical forms, as in the task's class. Needed to measure ``distinct_correct``."""
    judge_version_of_code: ClassVar[int] = 1
    """Raise this with every change after which the same completion may get another verdict (docs/tasks.md)."""

    kind: str
    """The implementation; several tasks (files in `experiments/task/`) can share one."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
    max_new_tokens: Positive
    """Completion limit in tokens, including the end-of-sequence token; a longer completion is `truncated`."""
    rl_problems: Annotated[Positive | None, Mark.UNMEASURED]
    """Problems for training; null: the whole split."""
    validation_problems: Positive | None
    test_problems: Annotated[Positive | None, Mark.UNMEASURED]
    judge_version: Positive = 1
    """The judge's version when the configuration was made. Set by the code, from :attr:`judge_version_of_code`."""

    @property
    def label(self) -> str:
        """The task's name in results: directories, scores, tables."""
        return self.name

    def make_task(self) -> Task:
        """Create the task. For kinds of other packages; ``tasks/registry.py`` creates the tasks of this package.

        Raises:
            RequestError: an extra or a tool that the task needs is missing.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement make_task")


class CountdownConfig(TaskConfig):
    """The lab's task."""

    canonical_forms: ClassVar[bool] = True
    judge_version_of_code: ClassVar[int] = 2  # version 1 could not read answers in steps

    kind: Literal["countdown"] = "countdown"
    name: Literal["countdown"]
    prompt: Literal["plain", "chat"]
    """`plain`: text that the policy continues. `chat`: a question through the tokenizer's chat template."""


class ReasoningGymConfig(TaskConfig):
    """Any generator of reasoning-gym. Needs the extra `tasks`."""

    kind: Literal["reasoning_gym"]
    name: Literal["reasoning_gym"]
    generator: Annotated[str, Field(min_length=1)]
    """reasoning-gym's name of the generator, e.g. `gsm_symbolic`."""
    generator_seed: Natural
    chat: bool
    """Ask through the tokenizer's chat template."""
    template: Template
    """The prompt; `{question}` stands for the problem."""
    rl_problems: Annotated[Positive, Mark.UNMEASURED]
    validation_problems: Positive
    test_problems: Annotated[Positive, Mark.UNMEASURED]

    @property
    def label(self) -> str:
        return f"{self.name}-{self.generator}"


class SharesConfig(Section):
    """Per cent of a dataset's problems in each split. A hash of a problem's id decides its split."""

    rl: Annotated[int, Field(ge=0, le=100)]
    validation: Annotated[int, Field(ge=0, le=100)]
    test: Annotated[int, Field(ge=0, le=100)]

    @model_validator(mode="after")
    def _check_sum(self) -> SharesConfig:
        if self.rl + self.validation + self.test != 100:
            raise ValueError("rl, validation and test have to add up to 100")
        return self


class FieldsConfig(Section):
    """The dataset's names of the fields that the task reads. Dots select nested values: `reward_model.ground_truth`."""

    id: str | None
    """null: a hash of the question is the id."""
    question: str


class AnswerFieldsConfig(FieldsConfig):
    """Fields of a task with reference answers."""

    answer: str


class DatasetConfig(TaskConfig):
    """A task whose problems come from a dataset."""

    dataset: Annotated[str, Field(min_length=1)]
    """A dataset on the hub (`owner/name`), or a local .jsonl or .parquet file with the same schema."""
    subset: str | None
    revision: str | None
    """The commit on the hub; null: the newest."""
    dataset_split: str
    """The dataset's own split to read."""
    fields: FieldsConfig
    shares: SharesConfig
    chat: bool
    """Ask through the tokenizer's chat template."""
    template: Template
    """The prompt; `{question}` stands for the problem."""


class MathsConfig(DatasetConfig):
    """Mathematics by exact answer. Needs the extra `tasks`."""

    judge_version_of_code: ClassVar[int] = 3  # version 2 accepted `3=2` for 2, version 1 compared numbers absolutely

    kind: Literal["maths"]
    fields: AnswerFieldsConfig
    relative_tolerance: Annotated[NonNegativeFloat, Mark.DECIDES_VERDICTS] = 0.0
    """Relative difference from the reference up to which a number is right, for benchmarks whose authors allow one."""


class CodeFieldsConfig(FieldsConfig):
    """Fields of a task with tests."""

    tests: str
    hidden_tests: str | None
    entry_point: str | None
    """The function under test; null: the tests name it, or the program reads standard input and prints."""
    starter_code: str | None


class CodeConfig(DatasetConfig):
    """Python programs, judged by unit tests in a sandbox."""

    judge_version_of_code: ClassVar[int] = 2  # version 1 took the last block of any kind, and used no module

    kind: Literal["code"]
    fields: CodeFieldsConfig
    tests: Annotated[Literal["check", "input_output"], Mark.DECIDES_VERDICTS]
    """`check`: a function `check(candidate)`, as in HumanEval. `input_output`: lists of inputs and outputs."""
    sandbox: Annotated[Literal["bubblewrap", "none"], Mark.UNHASHED, Mark.UNMEASURED]
    """none: code that a policy wrote runs unprotected, with limits on time and memory only."""
    seconds: Annotated[PositiveFloat, Mark.DECIDES_VERDICTS]
    """Wall-clock limit for each call and each run of a program, and for the whole of a benchmark's own test code."""
    seconds_in_all: Annotated[PositiveFloat, Mark.DECIDES_VERDICTS] = 120.0
    """Wall-clock limit for all tests of one program."""
    memory_mb: Annotated[Positive, Mark.DECIDES_VERDICTS]


class ChoiceFieldsConfig(AnswerFieldsConfig):
    """Either `options`, with the letter of the right one in `answer`; or `wrong`, with the right option in `answer`."""

    options: str | None
    wrong: list[str] | None

    @model_validator(mode="after")
    def _check_options(self) -> ChoiceFieldsConfig:
        if (self.options is None) == (self.wrong is None):
            raise ValueError("either options or wrong has to be given")
        return self


class ChoiceConfig(DatasetConfig):
    """Multiple choice."""

    judge_version_of_code: ClassVar[int] = 2  # version 1 could not read `B because ...`

    kind: Literal["choice"]
    fields: ChoiceFieldsConfig


class OwnFieldsConfig(FieldsConfig):
    """Fields of a user's own file."""

    answer: str | None
    """null: a verdict function judges without a reference answer."""


class OwnConfig(DatasetConfig):
    """A user's own problems, with exact answers or a verdict function."""

    judge_version_of_code: ClassVar[int] = 2  # version 1 could not read braces inside a box, tags and statements

    kind: Literal["own"]
    fields: OwnFieldsConfig
    verdict: Annotated[Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None, Mark.DECIDES_VERDICTS]
    """`module:function`, importable from the working directory; null: answers are compared as text."""

    @model_validator(mode="after")
    def _check_judge(self) -> OwnConfig:
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
    """Return the kind of a section, typed or not. Old configurations have no kind; they are of countdown."""
    return section.get("kind", "countdown") if isinstance(section, dict) else getattr(section, "kind", None)
