"""`python -m omnirt`: the same program as `omnirt`."""

from omnirt_cli.main import main

if __name__ == "__main__":
    main()
