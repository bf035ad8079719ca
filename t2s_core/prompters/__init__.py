"""Implementations of the `prompter` port; `t2s_core.registry` names them."""
