"""`python -m mobileseg.cli`."""

from mobileseg.cli import main

main()
