"""Twenty problems of our own for each dataset, as rows with the dataset's schema."""

import base64
import json
import pickle
import zlib
from fractions import Fraction
from pathlib import Path

SIZE = 20


def aime2024() -> list[dict]:
    """Remainders of powers."""
    return [
        {
            "id": 60 + i,
            "problem": f"Find the remainder when $3^{{{20 + i}}}$ is divided by $1000$.",
            "solution": "Repeated squaring.",
            "answer": str(pow(3, 20 + i, 1000)),
            "url": "",
            "year": "2024",
        }
        for i in range(SIZE)
    ]


def aime2025() -> list[dict]:
    """Sums of divisors. The answer and the id are text."""
    return [
        {
            "problem": f"Find the sum of all positive divisors of ${60 + 12 * i}$.",
            "answer": str(sum(d for d in range(1, 61 + 12 * i) if (60 + 12 * i) % d == 0)),
            "id": str(i),
        }
        for i in range(SIZE)
    ]


def amc2023() -> list[dict]:
    """Whole numbers, which the dataset stores as floats."""
    return [
        {
            "id": i,
            "answer": float(7 * i + 3),
            "url": "",
            "question": f"What is term ${i + 1}$ of $3, 10, 17, \\ldots$?",
        }
        for i in range(SIZE)
    ]


MATH500_ANSWERS = [
    ("\\frac{3}{56}", "3/56"),
    ("3\\sqrt{13}", "\\sqrt{117}"),
    ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3, \\pi/2)"),
    ("x^2+2x+1", "(x+1)^2"),
    ("[0,\\infty)", "[0, \\infty)"),
    ("(-\\infty,3)\\cup(3,\\infty)", "(3,\\infty)\\cup(-\\infty,3)"),
    ("\\{1,2,5\\}", "\\{5,2,1\\}"),
    ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}"),
    ("90^\\circ", "90"),
    ("11,\\! 111,\\! 111,\\! 100", "11111111100"),
    ("\\$36", "36"),
    ("\\text{Evelyn}", "\\text{Evelyn}"),
    ("2\\pi", "2 \\cdot \\pi"),
    ("-\\frac{1}{2}", "-0.5"),
    ("1.25", "\\frac{5}{4}"),
    ("\\dfrac{7}{8}", "\\tfrac78"),
    ("e^{2}", "e^2"),
    ("10\\%", "10"),
    ("x=5", "5"),
    ("6+9i", "9i+6"),
]
"""References, each with another notation for it."""


def math500() -> list[dict]:
    return [
        {
            "problem": f"Write down expression number {i} of the table.",
            "solution": "It stands there.",
            "answer": answer,
            "subject": "Algebra",
            "level": 1 + i % 5,
            "unique_id": f"test/algebra/{i}.json",
        }
        for i, (answer, _) in enumerate(MATH500_ANSWERS)
    ]


def minerva() -> list[dict]:
    """Powers of ten."""
    return [
        {
            "question": f"How many hertz are ${i + 1}$ petahertz?",
            "answer": f"{i + 1}e15",
        }
        for i in range(SIZE)
    ]


def olympiadbench() -> list[dict]:
    """Answers in a list, in dollars."""
    return [
        {
            "id": 1600 + i,
            "question": f"Determine $\\sum_{{k=1}}^{{{i + 1}}} \\frac{{1}}{{k(k+1)}}$.",
            "solution": ["It telescopes."],
            "final_answer": [f"$\\frac{{{Fraction(i + 1, i + 2).numerator}}}{{{Fraction(i + 1, i + 2).denominator}}}$"],
            "context": None,
            "is_multiple_answer": False,
            "answer_type": "Numerical",
        }
        for i in range(SIZE)
    ]


def dapo_math() -> list[dict]:
    return [
        {
            "prompt": f"Compute $\\binom{{{i + 4}}}{{2}}$.",
            "solution": str((i + 4) * (i + 3) // 2),
            "data_source": "math_dapo",
            "ability": "MATH",
            "reward_model": {"ground_truth": str((i + 4) * (i + 3) // 2), "style": "rule"},
            "extra_info": {"index": f"00{i}"},
        }
        for i in range(SIZE)
    ]


def gsm8k() -> list[dict]:
    """Solutions with calculations, and the answer after ####."""
    return [
        {
            "question": f"Ann has {i + 2} boxes of {1000 + i} pens. How many pens has she?",
            "answer": f"<<{i + 2}*{1000 + i}={(i + 2) * (1000 + i)}>> pens.\n#### {(i + 2) * (1000 + i):,}",
        }
        for i in range(SIZE)
    ]


def math_train() -> list[dict]:
    """Rows of MATH: the answer is in the box of the solution."""
    return [
        {
            "problem": f"What is the half of ${2 * i + 1}$?",
            "solution": f"Half of $\\boxed{{{2 * i}}} + 1$? It is $\\boxed{{\\frac{{{2 * i + 1}}}{{2}}}}$.",
            "level": "Level 1",
            "type": "Algebra",
        }
        for i in range(SIZE)
    ]


def _function(i: int) -> dict:
    return {
        "task_id": f"Own/{i}",
        "prompt": f'import math\n\n\ndef shifted(xs: list, by: int = {i + 1}) -> list:\n    """Add {i + 1}."""\n',
        "entry_point": "shifted",
        "canonical_solution": "    return [x + by for x in xs]\n",
    }


def humaneval_plus() -> list[dict]:
    """HumanEval+'s tests use numpy and compare with a tolerance."""
    tests = """import numpy as np

def check(candidate):
    inputs = [[[1, 2, 3]], [[]], [[0.5]]]
    for given in inputs:
        assert np.allclose(candidate(*given), np.array(*given) + %d)
"""
    return [{**_function(i), "test": tests % (i + 1)} for i in range(SIZE)]


def livecodebench() -> list[dict]:
    """Half of the problems ask for programs, half for functions. Hidden tests are packed as in the benchmark."""
    rows = []
    for i in range(SIZE):
        functional = i % 2 == 1
        kind = "functional" if functional else "stdin"
        cases = [{"input": f"{n}\n{i + 1}", "output": str(n + i + 1), "testtype": kind} for n in (1, 2, 30)]
        hidden = base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases[1:])))).decode()
        rows.append(
            {
                "question_title": f"Sum {i}",
                "question_content": f"Add the two whole numbers. ({i})",
                "platform": "own",
                "question_id": f"own_{i}",
                "starter_code": "class Solution:\n    def add(self, a: int, b: int) -> int:\n" if functional else "",
                "difficulty": "easy",
                "public_test_cases": json.dumps(cases[:1]),
                "private_test_cases": hidden,
                "metadata": json.dumps({"func_name": "add"} if functional else {}),
            }
        )
    return rows


def deepcoder() -> list[dict]:
    """The three formats of its subsets."""
    rows = []
    for i in range(SIZE):
        pairs = [(f"{n} {i}\n", f"{n * i}\n") for n in (1, 2, 30)]
        if i % 3 == 0:
            tests: object = [{"input": a, "output": b, "type": "stdin_stdout"} for a, b in pairs]
        elif i % 3 == 1:
            tests = {"inputs": [a for a, _ in pairs], "outputs": [b for _, b in pairs]}
        else:
            calls = [([n, i], [n * i]) for n in (1, 2, 30)]
            tests = [{"type": "function_call", "fn_name": "times", "input": a, "output": b} for a, b in calls]
        rows.append({"problem": f"Multiply the two whole numbers. ({i})", "tests": json.dumps(tests)})
    return rows


def gpqa() -> list[dict]:
    """The right answer and three wrong ones in separate fields."""
    return [
        {
            "Record ID": f"rec{i}",
            "Question": f"What is {i + 2} squared?",
            "Correct Answer": str((i + 2) ** 2),
            **{f"Incorrect Answer {j}": str((i + 2) ** 2 + j) for j in (1, 2, 3)},
        }
        for i in range(SIZE)
    ]


def mmlu_pro() -> list[dict]:
    """Ten options and a letter."""
    return [
        {
            "question_id": 70 + i,
            "question": f"Which number is {i} tens?",
            "options": [str(10 * (i + j - i % 10)) for j in range(10)],
            "answer": "ABCDEFGHIJ"[i % 10],
            "answer_index": i % 10,
            "category": "math",
        }
        for i in range(SIZE)
    ]


def own() -> list[dict]:
    """A user's own file."""
    return [{"prompt": f"Spell {'ab' * (i + 1)} backwards.", "answer": "ba" * (i + 1)} for i in range(SIZE)]


SOLUTIONS = {
    "humaneval_plus": ["    return [x + by for x in xs]\n"] * SIZE,
    "livecodebench": [
        "class Solution:\n    def add(self, a, b):\n        return a + b"
        if i % 2
        else "print(int(input()) + int(input()))"
        for i in range(SIZE)
    ],
    "deepcoder": [
        "def times(a, b):\n    return a * b" if i % 3 == 2 else "a, b = map(int, input().split())\nprint(a * b)"
        for i in range(SIZE)
    ],
}
"""A right program for each row of the schemas with tests."""

SCHEMAS = {
    make_rows.__name__: make_rows
    for make_rows in (
        *(aime2024, aime2025, amc2023, math500, minerva, olympiadbench, dapo_math, gsm8k, math_train),
        *(humaneval_plus, livecodebench, deepcoder, gpqa, mmlu_pro, own),
    )
}


def write(name: str, directory: Path, suffix: str = ".jsonl") -> Path:
    """Write the rows of a schema to a file."""
    path = directory / f"{name}{suffix}"
    rows = SCHEMAS[name]()
    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
