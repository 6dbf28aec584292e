"""Thin Qt widgets: each shows one presenter.  Only here is Qt imported."""
