"""The tiny prompter and the tiny SAM that ship with the package: weights, profiles and cards beside this file."""
