"""``python tests/fuzz``; see ``fuzzer.py``."""

from fuzzer import main

main()
