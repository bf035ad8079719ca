"""The `t2s` command. Modules here import nothing heavy at the top: `t2s --help` must be instant."""
