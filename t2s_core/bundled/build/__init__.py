"""How the bundled models were made: `python -m t2s_core.bundled.build all` makes them again."""
