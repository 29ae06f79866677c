"""Sluice: a serverless AI gateway. Imports go down only; see docs/architecture.md."""
