"""How fast the parts are beside the nearest other way: `python -m tests.bench`."""
