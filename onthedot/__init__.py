"""The vocabulary that all parts of Onthedot share, and what puts the parts together."""
