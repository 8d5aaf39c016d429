"""The only code that touches the machine, which may be hostile."""
