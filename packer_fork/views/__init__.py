"""What people and programs see: callables that take events."""
