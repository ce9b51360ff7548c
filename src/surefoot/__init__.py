"""Temporary: names are added as modules land."""
