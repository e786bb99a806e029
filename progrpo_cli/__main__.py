"""``python -m progrpo_cli`` and ``accelerate launch -m progrpo_cli`` are the same program as ``progrpo``."""

from progrpo_cli.main import run

if __name__ == "__main__":
    run()
