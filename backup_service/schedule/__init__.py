"""When the next backup is due: rules of wall-clock time, ticks, and the one who takes them."""
