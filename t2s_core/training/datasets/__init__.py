"""One module per dataset layout; each gives an `ExampleSet`."""
