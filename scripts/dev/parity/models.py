"""Parity cases of the group `models`; see make_parity.py."""

CASES = {}
