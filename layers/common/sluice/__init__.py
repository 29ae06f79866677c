"""Sluice: a serverless AI gateway. Imports go down only; CONTRIBUTING.md has the levels, pipeline the story."""
