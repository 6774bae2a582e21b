"""What only one lesson's page shows: a folder for each lesson, named by its notebook's stem."""
