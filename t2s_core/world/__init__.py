"""A procedurally drawn world seen from above, with exact truth: what the bundled models are trained and scored on."""
