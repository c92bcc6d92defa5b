"""Parity cases of the group `llms`; see make_parity.py."""

CASES = {}
