"""The method: text and pixels to prompts to masks; metrics and training.

Imports with torch, transformers, numpy, pillow and pydantic alone, so that a bare GPU machine can run it.
"""
