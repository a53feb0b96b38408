"""The recipes on photographs."""
