"""Calls to providers: whether, when and how one is made."""
