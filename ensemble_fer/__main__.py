"""The command ``ensemble-fer`` and ``python -m ensemble_fer``: Ctrl-C is answered in a line, during imports too."""

import signal
import sys


def main() -> None:
    """Import the commands and run them."""
    try:
        from ensemble_fer.cli import main as run

        run()
    except KeyboardInterrupt:
        print("error: interrupted.", file=sys.stderr)
        sys.exit(130)
    finally:
        # Nothing is left to be interrupted; while Python ends, Ctrl-C would still change the exit code of what is done.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
