"""What only one lesson shows: a folder a lesson, named by its notebook without the number, imported by it alone."""
