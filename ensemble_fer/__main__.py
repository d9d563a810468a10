"""``python -m ensemble_fer`` is the command ``ensemble-fer``."""

from ensemble_fer.cli import main

if __name__ == "__main__":
    main()
