"""Experiment binaries: `python -m experiments.<name>.main --help`."""
