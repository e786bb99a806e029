"""``python tests/bench NAME...`` runs benchmarks and prints Markdown; without a name it lists them.

A benchmark is a file of this folder with a ``main()`` whose name does not begin with ``_`` or ``test_``.
"""

import importlib
import sys
from pathlib import Path

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith(("_", "test_")))


def main(wanted: list[str]) -> int:
    if unknown := [name for name in wanted if name not in NAMES] or not wanted:
        if wanted:
            print(f"no benchmark {unknown[0]!r}", file=sys.stderr)
        print(f"benchmarks: {' '.join(NAMES)}", file=sys.stderr)
        return 2
    for name in wanted:
        importlib.import_module(name).main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
