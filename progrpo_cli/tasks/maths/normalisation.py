"""Normalise the notation of answers: punctuation, thousands, money, per cent, full-width characters. Linear time."""

from __future__ import annotations

import re
from fractions import Fraction

from progrpo_cli.tasks.answers import extract_answer, marked_answer

MAX_EXPONENT = 4  # digits of an exponent, as in the guard

_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_CHARACTERS = str.maketrans(
    {
        **{chr(code): chr(narrow) for code, narrow in _WIDE.items()},
        **{
            "\u3000": " ",
            "\u00a0": " ",
            "\u2009": " ",
            "\u202f": " ",
            "、": ",",
            "。": ".",
            "−": "-",
            "–": "-",
            "∶": ":",
        },
        **{
            "×": "\\times ",
            "⋅": "\\cdot ",
            "·": "\\cdot ",
            "÷": "/",
            "⁄": "/",
            "±": "\\pm ",
            "π": "\\pi ",
            "∞": "\\infty ",
        },
        **{"≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "∪": "\\cup ", "∩": "\\cap ", "∅": "\\emptyset ", "°": "^\\circ "},
    }
)
_SUPERSCRIPT_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SUPERSCRIPT_RUN = re.compile(r"[⁻⁰¹²³⁴-⁹]{1,9}")
_ROOT = re.compile(r"√\s?(?:(\d{1,60}(?:\.\d{1,60})?|[A-Za-z])|(?=[{(]))")
_UPRIGHT = re.compile(r"\\(?:mathrm|operatorname|mathit)\s?\{\s?([A-Za-z])\s?\}|\{\\rm\s([A-Za-z])\}")
_COLOUR = re.compile(r"\\(?:text)?color\s?\{[^{}]{0,40}\}")
_INVISIBLE = re.compile(r"\\[hv]?phantom\s?\{[^{}]*\}")
_ROOT_OF_BRACKETS = re.compile(r"√\s?\(([^()]{1,100})\)")
_SPACING = (" ", "~", "$", "\\,", "\\;", "\\:", "\\!", "\\ ", "\\\\", "\\quad", "\\displaystyle", "\\textstyle")
_PUNCTUATION = (".", ",", ";", ":")
_WRAPPERS = (("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"))
_IN_A_COMMAND = re.compile(r"\\(text|textbf|textrm|mathrm|mathbf|mbox|boxed|fbox)\s?\{([^{}]*)\}")
_MONEY = re.compile(
    r"(?:\\\$|\$|\\pounds\b|\\euro\b|[€£¥])\s?(?=[-+]?[\d.])|(?<=\d)\s?(?:\\\$|\$|\\pounds\b|\\euro\b|[€£¥])"
)
_THOUSANDS = re.compile(
    r"(?<![\d.,(\[])(?<![\d.,(\[]\s)(\d{1,3})((?:,\d{3})+|(?:(?:\\,| |\\ |~)\d{3})+)"
    r"(?!\d)(?!\s?,\s?\d)(\.\d+)?(?![\])])"
)
_SEPARATOR = re.compile(r",|\\,|\\ | |~")
_THIN_COMMA = re.compile(r",\s?\\!\s*")
_SCIENTIFIC = re.compile(r"([+-]?\d+(?:\.\d+)?)[eE]([+-]?\d+)")
_MIXED = re.compile(r"(?<![\d.,/])(\d{1,9})[ ~](\d{1,9})/(\d{1,9})(?![\d./])")
_AND = re.compile(r"\s*,?\s*(?:\\text\{\s*(?:and|or)\s*\}|\b(?:and|or)\b)\s*")
_PER_CENT = re.compile(
    r"(?:\s|\\,|\\ |~)*(?:\\text\{\s*(?:\\?%|per\s?cents?|percentage)\s*\}|\\?%|\b(?:per\s?cent|percent)\b)",
    re.IGNORECASE,
)
_NUMBER = r"[+-]?(?:\d{1,60}(?:\.\d{0,60})?|\.\d{1,60})"
_PLAIN = re.compile(
    rf"({_NUMBER})(?:\s?(?:\\times|\\cdot|\*)\s?10\s?\^\s?(?:\{{\s?([+-]?\d{{1,4}})\s?\}}|([+-]?\d{{1,4}})))?"
)
_POWER_OF_TEN = re.compile(r"([+-]?)10\s?\^\s?(?:\{\s?([+-]?\d{1,4})\s?\}|([+-]?\d{1,4}))")
_RATIO = re.compile(
    r"([+-]?\d{1,60})\s?/\s?(\d{1,60})|([+-]?)\\[dtc]?frac\s?\{\s?([+-]?\d{1,60})\s?\}\s?\{\s?(\d{1,60})\s?\}"
)
_BASE = re.compile(r"([0-9A-Za-z]{1,60})_\s?(?:\{\s?(?:\\text\s?\{)?\s?(\w{1,10})\s?\}{1,2}|(\d)(?!\d))")
_WORDS_OF_BASES = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "ten": "10", "eleven": "11", "twelve": "12", "sixteen": "16",
}  # fmt: skip
_WORD = re.compile(r"[A-Za-z]{4,}|\b(?:yes|no|odd|red|one|two|six|ten)\b", re.IGNORECASE)  # but `xyz` is a product
_MATHEMATICS = re.compile(r"[=<>+*^_|]|\\(?!text|mbox|mathrm|textbf|textrm|mathbf|\s|,)[A-Za-z]+|\d\s*/\s*\d")
_FUNCTIONS = frozenset(
    re.findall(
        r"\w+", "sin cos tan cot sec csc log exp sqrt max min gcd lcm det arcsin arccos arctan sinh cosh tanh mod"
    )
)
_NOT_REFERENCES = frozenset(("n/a", "nan", "null", "none", "proof", "tbd", "unknown", "-", "?", ""))
MAX_WORDS = 4
"""Words of a reference that is a text, such as ``no solution``. A longer one is prose."""


def normalise(answer: str) -> str:
    """Return the answer in a uniform notation. Normalising twice changes nothing."""
    text = _SUPERSCRIPT_RUN.sub(
        lambda raised: f"^{{{raised[0].translate(_SUPERSCRIPT_DIGITS)}}}", answer.translate(_CHARACTERS)
    )
    text = _UPRIGHT.sub(lambda letter: letter[1] or letter[2], text)
    text = _INVISIBLE.sub("", _COLOUR.sub("", text))
    text = _ROOT_OF_BRACKETS.sub(r"\\sqrt{\1}", text)
    text = _ROOT.sub(lambda root: f"\\sqrt{{{root[1]}}}" if root[1] else "\\sqrt", text)
    text = strip_wrapping(_MONEY.sub("", strip_wrapping(text)).replace("\\$", "").replace("$", ""))
    text = _THIN_COMMA.sub(",", text.replace("{,}", ","))
    text = _THOUSANDS.sub(lambda match: match[1] + _SEPARATOR.sub("", match[2]) + (match[3] or ""), text)
    text = _MIXED.sub(r"\1\\frac{\2}{\3}", text)
    if scientific := _SCIENTIFIC.fullmatch(text):
        return f"{scientific[1]} \\times 10^{{{int(scientific[2])}}}" if len(scientific[2]) <= MAX_EXPONENT else text
    return text


def strip_wrapping(text: str) -> str:
    """Remove spaces, punctuation, delimiters and commands around an answer."""
    before = None
    while text != before:
        before = text
        text = text.strip()
        for end in _SPACING:
            text = text.removeprefix(end).removesuffix(end if end != "$" or not text.endswith("\\$") else "\0")
        for mark in _PUNCTUATION:
            text = text.removesuffix(mark)
        for opening, closing in _WRAPPERS:
            if text.startswith(opening) and text.endswith(closing) and len(text) >= len(opening) + len(closing):
                text = text[len(opening) : -len(closing)]
        if (command := _IN_A_COMMAND.fullmatch(text)) and (command[1].endswith("box") or re.search(r"\d", command[2])):
            text = command[2]
    return text


def and_to_comma(text: str) -> str:
    """Replace "and" and "or" by a comma: ``3 and 5`` is a list."""
    return _AND.sub(", ", text)


def has_per_cent(text: str) -> bool:
    """Whether the answer contains a per-cent sign or the words "per cent"."""
    return _PER_CENT.search(text) is not None


def remove_per_cent(text: str) -> str:
    """Remove per-cent signs: ``10\\%`` becomes ``10``."""
    return _PER_CENT.sub("", text)


def expand_per_cent(text: str) -> str:
    """Write per-cent signs out as a factor of 1/100."""
    return _PER_CENT.sub(" \\\\cdot \\\\frac{1}{100}", text)


def parse_number(text: str) -> Fraction | None:
    """Return the exact value of an integer, a decimal, a fraction of integers, or one of these times a power of ten.

    None if the text is not such a number.
    """
    if plain := _PLAIN.fullmatch(text):
        exponent = plain[2] or plain[3]
        return Fraction(plain[1]) * (Fraction(10) ** int(exponent) if exponent else 1)
    if power := _POWER_OF_TEN.fullmatch(text):
        return Fraction(10) ** int(power[2] or power[3]) * (-1 if power[1] == "-" else 1)
    if (ratio := _RATIO.fullmatch(text)) and int(ratio[2] or ratio[5]):
        sign = -1 if ratio[3] == "-" else 1
        return sign * Fraction(int(ratio[1] or ratio[4]), int(ratio[2] or ratio[5]))
    return None


def parse_base(text: str) -> tuple[str, str] | None:
    """Return the digits and the base of a number such as ``2516_8``, or None."""
    match = _BASE.fullmatch(text)
    if match is None or not match[1][0].isdigit():
        return None
    base = (match[2] or match[3]).lower()
    return match[1].lower(), _WORDS_OF_BASES.get(base, base)


def plain_words(answer: str) -> str:
    """Return the words of an answer in lower case, without commands, surrounding brackets and punctuation."""
    before, text = None, answer
    while text != before:
        before, text = text, _IN_A_COMMAND.sub(r" \2 ", text)
    text = " ".join(re.sub(r"\\[,;! ]|~", " ", text).split()).strip(".,;:!$ '\"").lower()
    return text[1:-1].strip() if text[:1] == "(" and text[-1:] == ")" else text


def is_text(reference: str) -> bool:
    """Whether a reference is a text (``east``, ``\\text{(C)}``, ``no solution``, ``June 20``), not mathematics."""
    if _MATHEMATICS.search(_IN_A_COMMAND.sub(" ", reference)):
        return False
    in_commands = "".join(command[2] for command in _IN_A_COMMAND.finditer(reference))
    outside = _IN_A_COMMAND.sub(" ", reference)
    if in_commands.strip() and not re.search(r"[A-Za-z0-9]", outside):
        return re.search(r"[A-Za-z]", in_commands) is not None and parse_number(in_commands.strip()) is None
    words = [word.lower() for word in _WORD.findall(outside)]
    starts_with_letter = re.match(r"[A-Za-z]", outside.strip()) is not None
    return starts_with_letter and any(word not in _FUNCTIONS for word in words) and not re.search(r"[:,(\[{]", outside)


def extract_reference(field: str) -> str | None:
    r"""Return the reference answer in a dataset's field: a solution's last box, or the text after GSM8K's ``####``.

    None if the field is empty, or prose that no answer could equal.
    """
    solution = marked_answer(field) or (extract_answer(field) if "answer" in field.lower() else None)
    gold = normalise(solution or field)
    if gold.lower() in _NOT_REFERENCES or "#" in gold or gold.startswith(("['", '["')):
        return None
    if is_text(gold):
        words = plain_words(gold).split()
        return gold if len(words) <= MAX_WORDS and words[0] not in ("see", "proof", "prove") else None
    is_prose = len(re.findall(r"(?<![\\A-Za-z])[A-Za-z]{3,}\s+[A-Za-z]{2,}", _IN_A_COMMAND.sub(" ", gold))) > 1
    return None if is_prose or re.search(r"(?<![\\A-Za-z])[A-Za-z]{4,}\s?:", gold) else gold
