"""What all lessons share: checks printed on the page, the explorer with its registry, the look of figures."""
