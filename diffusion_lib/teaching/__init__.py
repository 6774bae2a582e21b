"""What the lessons show and how they check it: figures, widgets, and the checks printed on the page."""
