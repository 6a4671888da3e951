"""``python -m biounet``."""

from biounet.cli import main

if __name__ == "__main__":  # workers started by spawn import this module, they must not run it
    main()
