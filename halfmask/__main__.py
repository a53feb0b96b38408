"""`python -m halfmask` is `halfmask`."""

from halfmask.cli.main import main

main()
