"""Parity cases of the group `encoders`; see make_parity.py."""

CASES = {}
