"""MUSCO: several gentle passes against one shot."""
