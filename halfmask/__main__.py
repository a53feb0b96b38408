"""`python -m halfmask` is `halfmask`."""

from halfmask.cli import main

main()
