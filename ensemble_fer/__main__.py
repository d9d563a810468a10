"""The command ``ensemble-fer`` and ``python -m ensemble_fer``: Ctrl-C is answered in a line, during imports too."""

import sys


def main() -> None:
    """Import the commands and run them."""
    try:
        from ensemble_fer.cli import main as run

        run()
    except KeyboardInterrupt:
        print("error: interrupted.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
