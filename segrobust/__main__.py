"""`python -m segrobust` is `segrobust`, where a launcher such as torchrun asks for a module."""

from segrobust.cli import main

if __name__ == "__main__":
    main()
