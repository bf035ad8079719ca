"""Implementations of the `segmenter` port; `t2s_core.registry` names them."""
