"""Rehearsal: the whole deployment on fresh simulated plants, before the real one."""
