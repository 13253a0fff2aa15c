"""A sample instance of real input: what `secryn sample`, the demonstration and the tests use."""
