"""What is measured, and printed as the documentation quotes it: ``python -m bench``."""
