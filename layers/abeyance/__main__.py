"""``python -m abeyance``: the same as the ``abeyance`` command."""

from __future__ import annotations

from abeyance.cli.main import main

if __name__ == "__main__":
    main()
